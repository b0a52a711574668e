"""Where arrays lie while a step is traced for a mesh of devices.

These look at the ambient mesh (``jax.set_mesh``, set by `jaxpaint.parallel.compile`). Where there is none, or it lacks
the axis, they do nothing: the same code runs on one device.
"""

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
