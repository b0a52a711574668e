"""Metrics that look through fixed networks: which there are, what each needs, and one look for all that share it.

`NETWORK_METRICS` is plain, as `METRICS` is: another metric is another entry. Weights are passed in (`build`);
`jaxpaint.run.figures` knows where they come from.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from flax import linen as nn

from jaxpaint.metrics import perceptual
from jaxpaint.metrics.frechet import fid
from jaxpaint.metrics.inception import extractor
from jaxpaint.metrics.inception_score import inception_score
from jaxpaint.metrics.kernel import kid
from jaxpaint.metrics.metric import Metric
from jaxpaint.metrics.separability import p_ids, u_ids
from jaxpaint.models.i3d import InceptionI3d
from jaxpaint.models.inception import InceptionV3
from jaxpaint.models.raft import RAFT


class Look(NamedTuple):
    """What is seen of the pictures: the costly part, which several metrics share.

    needs: names of the weights, of `jaxpaint.io.pretrained.FILES`
    make:  ``(*weights) -> measure``, weights in the order of `needs`; see `Metric`
    """

    needs: tuple[str, ...]
    make: Callable[..., Callable]


class Recipe(NamedTuple):
    """One variant of one metric; its key in `NETWORK_METRICS` is the id that the protocol card prints.

    about:  the definition, in one sentence that settles which of the field's variants this is
    look:   recipes with equal looks share one
    finish: ``(measure, about) -> Metric``
    """

    about: str
    look: Look
    finish: Callable[[Callable, str], Metric]


NETWORKS: dict[str, nn.Module] = {
    **{backbone.name: backbone.network for backbone in perceptual.BACKBONES.values()},
    "inception_fid": InceptionV3(),
    "raft_things": RAFT(),
    "i3d_rgb_imagenet": InceptionI3d(),
}
"""The modules that weights of these names are for; other names are LPIPS's linear weights."""


def _lpips(net: str) -> Recipe:
    backbone = perceptual.BACKBONES[net]
    look = Look((backbone.name, f"lpips_{net}"), functools.partial(perceptual.looking, backbone))
    about = (
        f"LPIPS 0.1 with {backbone.name}, at the pictures' own size; whole: as published; "
        "hole (our own definition): mean of the distance map over hole pixels"
    )
    return Recipe(about, look, functools.partial(perceptual.lpips_metric, smallest=backbone.smallest))


_HALF_PIXEL = Look(("inception_fid",), functools.partial(extractor, resize="half_pixel"))
_TF1 = Look(("inception_fid",), functools.partial(extractor, resize="tf1"))

_TF1_SEEN = "FID's InceptionV3 (2015), pictures resized as TensorFlow 1 does, bilinear from the corner"

NETWORK_METRICS: dict[str, Recipe] = {
    **{f"lpips.{net}": _lpips(net) for net in perceptual.BACKBONES},
    "fid.half_pixel": Recipe(
        "Frechet distance, covariances divided by N - 1, FID's InceptionV3 (2015), pictures resized with half-pixel "
        "centres, bilinear, without antialias (pytorch-fid, LaMa)",
        _HALF_PIXEL,
        functools.partial(fid, ddof=1),
    ),
    "fid.tf1": Recipe(
        f"Frechet distance, covariances divided by N - 1, {_TF1_SEEN} (torch-fidelity, TorchMetrics)",
        _TF1,
        functools.partial(fid, ddof=1),
    ),
    "fid.tf1_population": Recipe(
        f"Frechet distance, covariances divided by N, {_TF1_SEEN} (StyleGAN2-ADA, CoModGAN, MAT)",
        _TF1,
        functools.partial(fid, ddof=0),
    ),
    "kid.tf1": Recipe(
        "squared kernel distance, polynomial of degree 3, unbiased estimate over all pairs of different pictures (none "
        f"with its own target), plain, {_TF1_SEEN}",
        _TF1,
        functools.partial(kid, subset_size=None),
    ),
    "kid.tf1_subsets": Recipe(
        "squared kernel distance, polynomial of degree 3, mean and standard deviation over 100 subsets of 1000, plain, "
        f"{_TF1_SEEN} (torch-fidelity, TorchMetrics)",
        _TF1,
        functools.partial(kid, subsets=100, subset_size=1000),
    ),
    "inception_score.tf1": Recipe(
        "exp of the mean KL divergence of class probabilities, predictions alone, mean and standard deviation over 10 "
        f"parts, logits without biases, {_TF1_SEEN} (torch-fidelity, TorchMetrics)",
        _TF1,
        functools.partial(inception_score, splits=10),
    ),
    "p_ids.tf1": Recipe(
        "share of pairs in which the inpainted picture lies further on the real side of a linear SVM (C = 1) than the "
        f"real one, {_TF1_SEEN} (CoModGAN, MAT)",
        _TF1,
        p_ids,
    ),
    "u_ids.tf1": Recipe(
        f"share of pictures on the wrong side of a linear SVM (C = 1), real against inpainted, {_TF1_SEEN} "
        "(CoModGAN, MAT)",
        _TF1,
        u_ids,
    ),
}


def build(
    names: Iterable[str], weights: Mapping[str, Any], recipes: Mapping[str, Recipe] = NETWORK_METRICS
) -> dict[str, Metric]:
    """Metrics by id, ready to measure; those that look in the same way have one `measure` (the same object).

    Args:
      names: ids of `recipes`
      weights: by the names that the recipes need: variables of a network, or LPIPS's linear weights
      recipes: `NETWORK_METRICS`, or those of clips (`jaxpaint.metrics.video`)
    """
    looks: dict[Look, Callable] = {}
    metrics = {}
    for name in names:
        about, look, finish = recipes[name]
        if look not in looks:
            looks[look] = look.make(*(weights[need] for need in look.needs))
        metrics[name] = finish(looks[look], about)
    return metrics
