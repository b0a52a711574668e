"""Weights of the fixed feature networks, from the files that torchvision and others published.

A feature network is no system: it has no page and nothing to train. So there is no `Conversion` here, but the same
engine (`jaxpaint.convert.table.assign`): every tensor finds its place, or one error lists all that do not.

    network = vgg19()
    variables = load("vgg19", network)            # looks in JAXPAINT_WEIGHTS, see jaxpaint.io.pretrained
    _, out = network.apply(variables, image)
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxpaint.convert.table import Path, assign, flatten, place
from jaxpaint.io import pretrained
from jaxpaint.types import InputError, PyTree, did_you_mean


class Names(NamedTuple):
    """How the names of one kind of file map: what `assign` looks at in a `Conversion`.

    networks:   the first part of a canonical name -> the network
    prefix:     what is put before a published name to make it canonical
    ignore:     canonical names that are no weights of ours
    exceptions: see `Conversion`
    inputs:     shapes of what the network is called with
    """

    networks: Mapping[str, str]
    prefix: str = ""
    ignore: tuple[str, ...] = ()
    exceptions: Mapping[str, Path] = {}
    inputs: tuple[tuple[int, ...], ...] = ((1, 96, 96, 3),)


_TORCHVISION = Names({"features": "network"}, ignore=(r"classifier\..*",))

NAMES: Mapping[str, Names] = {
    "vgg16": _TORCHVISION,
    "vgg19": _TORCHVISION,
    "alexnet": _TORCHVISION,
    "squeezenet1_1": _TORCHVISION,
    "inception_fid": Names({"inception": "network"}, "inception.", (r".*\.num_batches_tracked",)),
    # Files that torch's DataParallel wrote. A shortcut's normalisation is in them twice, as norm3 and as downsample.1.
    "raft_things": Names(
        {"module": "network"},
        ignore=(r".*\.num_batches_tracked", r".*\.norm3\..*"),
        inputs=((1, 128, 128, 3), (1, 128, 128, 3)),
    ),
    # Without the classifier, which features do not pass through. The file is older than the counters of batches.
    "i3d_rgb_imagenet": Names(
        {"i3d": "network"},
        "i3d.",
        ignore=(r".*\.num_batches_tracked", r"i3d\.logits\..*"),
        inputs=((1, 2, 64, 64, 3),),
    ),
}

LPIPS_WIDTHS: Mapping[str, tuple[int, ...]] = {
    "lpips_vgg": (64, 128, 256, 512, 512),
    "lpips_alex": (64, 192, 384, 256, 256),
    "lpips_squeeze": (64, 128, 256, 384, 384, 512, 512),
}
"""Channels of the features that LPIPS compares."""

_LINEAR = Names({"linear": "network"}, "linear.")


def load(name: str, network: nn.Module, *, part: bool = False) -> dict[str, PyTree]:
    """The published weights of a network, from the folder of weights.

    Args:
      name: a key of `NAMES`
      network: the module that they are for
      part: it may be the first layers alone; then the file's layers after its last one are not looked at

    Returns:
      variables for ``network.apply``, float32 NumPy arrays

    Raises:
      InputError: if the file is missing, is not the published one, or does not fit the network in every tensor.
    """
    return to_variables(name, pretrained.read(_known(name, NAMES)), network, part=part)


def to_variables(
    name: str, state: Mapping[str, np.ndarray], network: nn.Module, *, part: bool = False
) -> dict[str, PyTree]:
    """Tensors by published name -> variables of the network; see `load`."""
    names = NAMES[_known(name, NAMES)]
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in names.inputs]
    template = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    return _assign(name, names, _first_layers(names, state, template) if part else state, template)


def load_linear(name: str) -> tuple[np.ndarray, ...]:
    """LPIPS's published linear weights (version 0.1), from the folder of weights.

    Args:
      name: ``lpips_vgg``, ``lpips_alex`` or ``lpips_squeeze``

    Returns:
      for every tap c weights, float32: the argument `linear` of `jaxpaint.losses.lpips`
    """
    return to_linear(name, pretrained.read(_known(name, LPIPS_WIDTHS)))


def to_linear(name: str, state: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Tensors by published name (``lin0.model.1.weight``, 1 c 1 1) -> c weights for every tap; see `load_linear`."""
    widths = LPIPS_WIDTHS[_known(name, LPIPS_WIDTHS)]
    shapes = [jax.ShapeDtypeStruct((1, 1, width, 1), jnp.float32) for width in widths]
    # A Dropout is number 0 of what the file calls "model".
    tree = {f"lin{tap}": {"model": {"1": {"kernel": shape}}} for tap, shape in enumerate(shapes)}
    filled = _assign(name, _LINEAR, state, {"params": tree})["params"]
    return tuple(filled[f"lin{tap}"]["model"]["1"]["kernel"].reshape(-1) for tap in range(len(widths)))


def _assign(name: str, names: Names, state: Mapping[str, np.ndarray], template: PyTree) -> dict[str, PyTree]:
    canonical = {names.prefix + key: array for key, array in state.items()}
    return assign(name, names, canonical, {"network": template})["network"]


def _first_layers(names: Names, state: Mapping[str, np.ndarray], template: PyTree) -> Mapping[str, np.ndarray]:
    """The tensors up to the last layer of which the template has anything, in the order of the file."""
    slots, keys = flatten({"network": template}), list(state)
    taken = [key for key in keys if place(names.prefix + key, names, slots)]
    if not taken:
        return state
    last = taken[-1].rpartition(".")[0]
    end = max(number for number, key in enumerate(keys) if key.rpartition(".")[0] == last)
    return {key: state[key] for key in keys[: end + 1]}


def _known(name: str, table: Mapping) -> str:
    if name not in table:
        raise InputError(f"there are no weights for {name!r}: expected {', '.join(table)}{did_you_mean(name, table)}")
    return name
