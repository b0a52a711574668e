"""Which part of the state lies where: an ordered list of (pattern over a leaf's path, spec)."""

import math
import re
from collections.abc import Sequence

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpaint.types import FSDP, InputError, PyTree, leaf_name

Rule = tuple[str, str | tuple[str | None, ...]]
"""(pattern, spec); see `jaxpaint.parallel.layout.Layout.rules`."""

DEFAULT: tuple[Rule, ...] = ((r"^(opt|ema)/", FSDP),)
"""Parameters are whole everywhere, what only the update needs is divided."""

LEAST = 1024
"""Numbers in a leaf below which an axis name alone leaves it whole: biases are not worth a message."""


def shardings(abstract: PyTree, mesh: Mesh, rules: Sequence[Rule] = ()) -> PyTree:
    """The sharding of every leaf of a state.

    Args:
      abstract: the state's shapes
      mesh: its devices
      rules: looked at before `DEFAULT`

    Raises:
      InputError: a pattern that cannot be read, an unknown axis, a spec that does not fit a leaf it matches.
    """
    compiled = []
    for pattern, spec in (*rules, *DEFAULT):
        _check_axes(pattern, spec, mesh)
        try:
            compiled.append((re.compile(pattern), spec))
        except re.error as error:
            raise InputError(f"mesh.rules: the pattern {pattern!r} is no regular expression: {error}") from error

    def one(path: tuple, x: jax.ShapeDtypeStruct) -> NamedSharding:
        name = leaf_name(path)
        for pattern, spec in compiled:
            if pattern.search(name):
                return NamedSharding(mesh, _spec(name, x.shape, pattern.pattern, spec, mesh))
        return NamedSharding(mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(one, abstract)


def _check_axes(pattern: str, spec: str | tuple[str | None, ...], mesh: Mesh) -> None:
    axes = [spec] if isinstance(spec, str) else [axis for axis in spec if axis is not None]
    unknown = [axis for axis in axes if axis not in mesh.shape]
    if unknown:
        raise InputError(
            f"mesh.rules: the rule {(pattern, spec)!r} names the axis {unknown[0]!r}; the axes are {tuple(mesh.shape)}"
        )


def _spec(name: str, shape: tuple[int, ...], pattern: str, spec: str | tuple, mesh: Mesh) -> PartitionSpec:
    """A rule's spec for one leaf."""
    if isinstance(spec, str):
        count = mesh.shape[spec]
        fitting = [axis for axis, n in enumerate(shape) if n % count == 0]
        if count == 1 or not fitting or math.prod(shape) < LEAST:
            return PartitionSpec()
        largest = max(fitting, key=lambda axis: shape[axis])
        return PartitionSpec(*[spec if axis == largest else None for axis in range(len(shape))])
    if not spec:
        return PartitionSpec()
    size = "x".join(map(str, shape)) or "a scalar"
    rule = f"mesh.rules: the rule {(pattern, spec)!r} matches {name}, which is {size}"
    if len(spec) != len(shape):
        raise InputError(f"{rule}: the spec has {len(spec)} entries for {len(shape)} dimensions")
    for n, axis in zip(shape, spec, strict=True):
        if axis is not None and n % mesh.shape[axis]:
            raise InputError(f"{rule}: {n} does not divide over {axis}={mesh.shape[axis]}")
    return PartitionSpec(*spec)
