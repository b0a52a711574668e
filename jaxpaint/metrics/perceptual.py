"""LPIPS as a metric (Zhang et al., arXiv 1801.03924; `jaxpaint.losses.lpips`): the mean over pictures, per backbone.

The whole picture's is the published distance. The hole's is ours: the paper defines none, and what the known pixels
add to the whole is 0 but for the border, so that the whole mostly says how large holes are. It is the mean, over the
hole pixels, of the distance's map at full resolution (`lpips_map`).

Features see a picture's border, so pictures are never padded: every size is a program of its own. A picture is
measured alone, so that the last bits do not depend on what it was batched with.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxpaint.losses.lpips import lpips, lpips_map
from jaxpaint.metrics.metric import REGIONS, Metric, check_pair, mean_of_pictures, value_or_reason
from jaxpaint.models import alexnet, squeezenet, vgg
from jaxpaint.models.features import lpips_scaling
from jaxpaint.ops.pixels import from_uint8
from jaxpaint.types import PyTree


class Backbone(NamedTuple):
    """A network that LPIPS looks through.

    name:     of the weights, of `jaxpaint.io.pretrained.FILES`
    network:  the module
    taps:     the features that are compared
    smallest: pixels on a side that the network needs
    """

    name: str
    network: nn.Module
    taps: tuple[str, ...]
    smallest: int


BACKBONES: dict[str, Backbone] = {
    "alex": Backbone("alexnet", alexnet.AlexNet(normalise=lpips_scaling), alexnet.LPIPS_TAPS, 31),
    "vgg": Backbone("vgg16", vgg.vgg16(normalise=lpips_scaling), vgg.LPIPS_TAPS, 32),
    "squeeze": Backbone("squeezenet1_1", squeezenet.SqueezeNet(normalise=lpips_scaling), squeezenet.LPIPS_TAPS, 17),
}
"""By the names of the released code's ``net``; the linear weights are ``lpips_alex``, ``lpips_vgg``, …"""


def looking(backbone: Backbone, variables: PyTree, linear: Sequence[np.ndarray]) -> Callable:
    """The `measure` of a `Metric`: LPIPS of every picture, ``{"whole": [...], "hole": [...]}``.

    Args:
      backbone: of `BACKBONES`
      variables: of its network
      linear: for every tap c weights, none of them negative
    """
    variables, linear = jax.device_put((variables, tuple(linear)))
    kept: dict[tuple, tuple[jax.Array, ...]] = {}

    def of_targets(targets):
        """Features of every target; those of the last call are not computed again (one picture, several masks)."""
        keys = [(target.shape, target.tobytes()) for target in targets]
        found = {}
        for key, target in zip(keys, targets, strict=True):
            found[key] = kept[key] if key in kept else _features(backbone, variables, target)
        kept.clear()
        kept.update(found)
        return [found[key] for key in keys]

    def measure(predictions, targets, masks):
        sizes = [check_pair(*three) for three in zip(predictions, targets, masks, strict=True)]
        large = [row for row, size in enumerate(sizes) if min(size) >= backbone.smallest]
        with jax.default_matmul_precision("highest"):  # without this, accelerators round the factors of products
            truths = of_targets([targets[row] for row in large])
            pending = [
                _distances(_features(backbone, variables, predictions[row]), truth, linear, masks[row])
                for row, truth in zip(large, truths, strict=True)
            ]
        measured = dict(zip(large, jax.device_get(pending), strict=True))
        rows = [measured.get(row) for row in range(len(sizes))]
        return {region: [value_or_reason(values, region) for values in rows] for region in REGIONS}

    return measure


def lpips_metric(measure: Callable, about: str, smallest: int) -> Metric:
    """The mean over pictures of what `looking` measures."""
    return mean_of_pictures(measure, about=about, better="lower", smallest=smallest)


@functools.partial(jax.jit, static_argnums=0)
def _features(backbone: Backbone, variables: PyTree, picture: jax.Array) -> tuple[jax.Array, ...]:
    """uint8 h w 3 to the taps, each 1 h' w' c."""
    _, out = backbone.network.apply(variables, from_uint8(picture)[None])
    return tuple(out[tap] for tap in backbone.taps)


@jax.jit
def _distances(first, second, linear, mask: jax.Array) -> dict[str, jax.Array]:
    """The picture's distance, and its map's mean over the hole; mask h w 1."""
    hole = mask > 0
    where = lpips_map(first, second, linear, *mask.shape[:2])[0]
    inside = jnp.sum(jnp.where(hole, where, 0.0)) / jnp.sum(hole)  # NaN of an empty hole
    return {"whole": lpips(first, second, linear)[0], "hole": inside}
