"""Where arrays lie while a step is traced for a mesh of devices.

These look at the ambient mesh (``jax.set_mesh``, set by `jaxpaint.parallel.compile`), or under pmap at the axis that
`mapped` names. Where there is none, or it lacks the axis, they do nothing: the same code runs on one device.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
from jax.sharding import PartitionSpec

from jaxpaint.types import DATA, FSDP, SPATIAL, PyTree


def parts(axis: str) -> int:
    """Into how many parts the ambient mesh divides an axis; 1 without a mesh."""
    return dict(jax.sharding.get_abstract_mesh().shape).get(axis, 1)


def whole(tree: PyTree) -> PyTree:
    """The leaves whole on every device.

    What is stored in parts over ``fsdp`` is used whole: left to itself the compiler would divide convolutions over
    their channels, at five times the memory.
    """
    if parts(FSDP) == 1:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), tree)


def undivided(x: jax.Array) -> jax.Array:
    """An activation ``b h w c`` whole over ``spatial``, the batch divided as it is."""
    if parts(SPATIAL) == 1:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec((DATA, FSDP)))


_MAPPED: contextvars.ContextVar[str | None] = contextvars.ContextVar("mapped", default=None)


@contextlib.contextmanager
def mapped(axis: str | None) -> Iterator[None]:
    """What is traced inside is one device's share of a step under pmap, whose axis has this name; None: it is not."""
    token = _MAPPED.set(axis)
    try:
        yield
    finally:
        _MAPPED.reset(token)


def mean_over_devices(tree: PyTree) -> PyTree:
    """The mean over the devices of a pmap; outside of one the leaves as they are, which are of the whole batch."""
    axis = _MAPPED.get()
    return tree if axis is None else jax.lax.pmean(tree, axis)
