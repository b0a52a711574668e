"""The engine of conversion: published names and layouts to Flax variables, every tensor or one error.

Networks are built with the published names, so most of a conversion is mechanical: the dots of a torch name become
the levels of the tree, and the last part says what the tensor is. What a system adds is a `Conversion` with the few
things that are its own.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.types import InputError, PyTree

Path = tuple[str, ...]
"""Where a tensor lives: (network, collection, module, …, leaf)."""


class PublishedFile(NamedTuple):
    """A file that the authors, or a port that kept their weights, put online.

    name:   the file's or folder's name as published
    note:   what it holds
    url:    where, if that is known for sure
    sha256: of the file, if that is known
    """

    name: str
    note: str
    url: str = ""
    sha256: str = ""


class Conversion(NamedTuple):
    """How one system's published files become weights.

    files:    what is published
    networks: the first part of a canonical name -> our network, {"G": "generator"}
    required: networks that a file must hold to be of use; others may be absent, but never in part
    read:     path -> (state, source): the file's tensors by canonical name, and in which container they came. A
              canonical name is the torch name with the network's prefix, its layout torch's (O I ...)
    config:   state -> the fields of the system's config that differ from the published default
    batch:    config fields -> shapes of a batch with which the system can be initialised
    channels: container -> the colour order that the stored weights expect, "rgb" or "bgr"
    reorder:  state -> state, from BGR pictures to RGB or back
    exceptions: canonical name -> path, for tensors that the general rule would misplace
    ignore:   regular expressions of canonical names that are no weights (counters)
    """

    files: tuple[PublishedFile, ...]
    networks: Mapping[str, str]
    required: tuple[str, ...]
    read: Callable[[str], tuple[dict[str, np.ndarray], str]]
    config: Callable[[Mapping[str, np.ndarray]], dict[str, Any]]
    batch: Callable[[Mapping[str, Any]], dict[str, tuple[int, ...]]]
    channels: Mapping[str, str]
    reorder: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
    exceptions: Mapping[str, Path] = {}
    ignore: tuple[str, ...] = ()


LEAVES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "weight": (("params", "kernel"), ("params", "scale"), ("params", "embedding")),
    "bias": (("params", "bias"),),
    "weight_u": (("spectral", "u"),),
    "weight_v": (("spectral", "v"),),
    "running_mean": (("batch_stats", "mean"),),
    "running_var": (("batch_stats", "var"),),
}
"""Torch's last name -> what it may be in Linen: (collection, leaf), the first that the template has."""


def flatten(template: Mapping[str, PyTree]) -> dict[Path, tuple[int, ...]]:
    """{network: variables} -> {path: shape}; leaves are arrays or `jax.ShapeDtypeStruct`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(template)
    return {tuple(entry.key for entry in path): tuple(leaf.shape) for path, leaf in leaves}


def unflatten(flat: Mapping[Path, Any]) -> dict[str, Any]:
    """{path: leaf} -> nested dicts."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = leaf
    return tree


def layout(leaf: str, array: np.ndarray) -> np.ndarray:
    """Torch's layout to Linen's: kernels O I ... -> ... I O; u and v, columns in torch, become rows (1, c)."""
    if leaf == "kernel" and array.ndim >= 2:
        return np.moveaxis(array, (1, 0), (-2, -1))
    if leaf in ("u", "v"):
        return array.reshape(1, -1)
    return array


def reverse_colours(
    state: Mapping[str, np.ndarray], sees: Iterable[str], makes: Iterable[str]
) -> dict[str, np.ndarray]:
    """Weights for BGR pictures as those for RGB ones, and the other way round.

    Args:
      state: tensors by name, in torch's layout; names that are not there are passed over
      sees: kernels of layers that see a picture in their first three channels
      makes: kernels and biases of layers that make one
    """
    state = dict(state)
    for name in sees:
        if name in state:
            state[name] = np.concatenate([state[name][:, 2::-1], state[name][:, 3:]], axis=1)
    for name in makes:
        if name in state:
            state[name] = state[name][::-1]
    return state


def place(name: str, conversion: Conversion, slots: Mapping[Path, Any]) -> Path | None:
    """Where a canonical name goes, None where nothing takes it."""
    if name in conversion.exceptions:
        path = conversion.exceptions[name]
        return path if path in slots else None
    prefix, _, rest = name.partition(".")
    *module, leaf = rest.split(".")
    network = conversion.networks.get(prefix)
    for collection, ours in LEAVES.get(leaf, ()):
        path = (network, collection, *module, ours)
        if path in slots:
            return path
    return None


def assign(
    system: str, conversion: Conversion, state: Mapping[str, np.ndarray], template: Mapping[str, PyTree]
) -> dict[str, dict[str, Any]]:
    """Fills the template with a state's tensors.

    Args:
      system: its name, for messages
      conversion: its record
      state: float arrays by canonical name, in torch's layout
      template: {network: {collection: tree}} of arrays or shapes, as `Module.init` returns

    Returns:
      {network: {collection: tree of float32 arrays}}, without the networks of which the state holds nothing.

    Raises:
      InputError: one, that lists every tensor without a place, every place without a tensor, every two tensors with
        one place, and every tensor of another shape, of another type, or with a value that is not finite.
    """
    slots = flatten(template)
    filled: dict[Path, np.ndarray] = {}
    problems: dict[str, list[str]] = {"no place for": [], "no tensor for": [], "cannot be used": []}
    for name, array in state.items():
        if any(re.fullmatch(pattern, name) for pattern in conversion.ignore):
            continue
        path = place(name, conversion, slots)
        if path is None:
            problems["no place for"].append(f"{name} {tuple(array.shape)}")
            continue
        value = layout(path[-1], array)
        if path in filled:
            problems["cannot be used"].append(f"{name}: {'/'.join(path)} has a tensor already")
        elif value.shape != slots[path]:
            problems["cannot be used"].append(
                f"{name}: shape {tuple(array.shape)} is {value.shape} as {'/'.join(path)}, expected {slots[path]}"
            )
        elif not jnp.issubdtype(array.dtype, jnp.floating):
            problems["cannot be used"].append(f"{name}: {array.dtype} numbers, expected floating point")
        else:
            value = np.ascontiguousarray(value, np.float32)
            if not np.all(np.isfinite(value)):
                problems["cannot be used"].append(f"{name}: holds values that are not finite")
        filled[path] = value  # also where it cannot be used: it is not missing
    if not filled:
        names = "\n  ".join(problems["no place for"][:8])
        raise InputError(
            f"none of the {len(state)} tensors belongs to {system}: a checkpoint of another system? It begins with\n"
            f"  {names}\nexpected are names like {', '.join(sorted(_examples(conversion)))}"
        )
    present = {path[0] for path in filled}
    problems["no tensor for"] = [
        f"{'/'.join(path)} {shape}" for path, shape in slots.items() if path[0] in present and path not in filled
    ]
    if any(problems.values()):
        counts = ", ".join(f"{len(lines)} {what}" for what, lines in problems.items() if lines)
        lists = "\n".join(f"{what}:\n  " + "\n  ".join(lines) for what, lines in problems.items() if lines)
        raise InputError(
            f"the checkpoint does not fit {system} ({counts}): a file of another system, another size of it, or a "
            f"damaged one. All that does not fit:\n{lists}"
        )
    return unflatten(filled)


def _examples(conversion: Conversion) -> list[str]:
    return [f"{prefix}.… ({network})" for prefix, network in conversion.networks.items()]
