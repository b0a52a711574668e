"""Rows of neighbours, where the height of a picture is divided over the mesh. To be called inside ``shard_map``."""

import jax
import jax.numpy as jnp

from jaxpaint.types import SPATIAL


def with_halo(x: jax.Array, above: int, below: int, count: int) -> jax.Array:
    """This part ``b h w c`` of a picture with rows of its neighbours, from as many of them as it takes.

    Args:
      x: b h w c
      above: rows of the parts before this one; zeros where the picture ends
      below: rows of the parts after it
      count: number of parts; 1 works outside ``shard_map`` too

    Returns:
      b above+h+below w c
    """
    if count == 1:
        return jnp.pad(x, ((0, 0), (above, below), (0, 0), (0, 0)))
    rows, pieces = x.shape[1], [x]
    for hop in range(1, -(-above // rows) + 1):
        pieces.insert(0, from_before(x[:, -min(above - (hop - 1) * rows, rows) :], count, hop))
    for hop in range(1, -(-below // rows) + 1):
        pieces.append(from_after(x[:, : min(below - (hop - 1) * rows, rows)], count, hop))
    return jnp.concatenate(pieces, axis=1)


def from_before(x: jax.Array, count: int, hop: int = 1, *, around: bool = False) -> jax.Array:
    """What the part `hop` places before this one has as `x`; zeros in the first parts, or `around` from the last."""
    if count == 1:
        return x if around else jnp.zeros_like(x)
    last = count if around else count - hop
    return jax.lax.ppermute(x, SPATIAL, [(i, (i + hop) % count) for i in range(last)])


def from_after(x: jax.Array, count: int, hop: int = 1, *, around: bool = False) -> jax.Array:
    """What the part `hop` places after this one has as `x`; zeros in the last parts, or `around` from the first."""
    if count == 1:
        return x if around else jnp.zeros_like(x)
    first = 0 if around else hop
    return jax.lax.ppermute(x, SPATIAL, [(i, (i - hop) % count) for i in range(first, count)])
