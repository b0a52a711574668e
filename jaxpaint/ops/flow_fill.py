"""Filling the holes of a flow field, or of a picture, from their borders and from gradients.

With w_pq the weight of two neighbours p, q (one above the other, or side by side), of which one at least lies in the
hole, the unknown values f minimise

    sum over pairs  w_pq (f_q - f_p - g_pq)²

where g_pq is the difference that they ought to have; known values stay. Pairs across the border of the frame do not
exist, so nothing holds a hole that touches it there.

| | weight | difference |
|---|---|---|
| `laplace_fill` | 1 | 0 |
| `poisson_fill` | 1 with a known pixel, 2 among unknown ones, 0 where one is an edge | given, or 0 |

The first is harmonic, every unknown the mean of its neighbours: what DFVI (arXiv 1905.02884) starts with and FGVC falls
back to. The second is FGVC's own (arXiv 2009.01835): it writes an equation for every neighbour of an unknown, so that
two unknown neighbours have it twice, and without edges and differences it is not the first.

The equations are solved by conjugate gradients, without ever writing them down as a matrix.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from jaxpaint.types import InputError

TOLERANCE = 1e-6
"""Of the equations' residual, relative to the right-hand side."""


def laplace_fill(values: jax.Array, mask: jax.Array, *, iterations: int = 2000) -> jax.Array:
    """Every pixel of the hole the mean of its neighbours, four inside of the frame; each channel by itself.

    Pure, for jit and vmap.

    Args:
      values: b h w c, float; what is in the hole does not matter, be it NaN
      mask: b h w 1, 1 = hole
      iterations: of conjugate gradients at most; two or three times the width of the largest hole in pixels are needed

    Returns:
      b h w c, float32; outside of the hole the values given

    Raises:
      InputError: shapes do not fit or, where the mask is concrete, a picture is a hole altogether
    """
    _check("laplace_fill", values, mask)
    hole = mask > 0.5
    beside, below = (_pairs(hole, axis, jnp.logical_or).astype(jnp.float32) for axis in (2, 1))
    nothing = (jnp.zeros_like(beside), jnp.zeros_like(below))
    return _fill(values, hole, (beside, below), nothing, iterations)


def poisson_fill(
    values: jax.Array,
    mask: jax.Array,
    gradients: tuple[jax.Array, jax.Array] | None = None,
    edges: jax.Array | None = None,
    *,
    iterations: int = 2000,
) -> jax.Array:
    """FGVC's completion: the hole from its border and given differences, but not across edges.

    A part of the hole that edges cut off from all known pixels has nothing to hold it: the least values that have the
    given differences, as the published solver (zeros for none). Then every edge pixel of the hole takes the value of
    the first of its neighbours above, below, left and right that is no edge; one without such a neighbour is zero.

    Pure, for jit and vmap.

    Args:
      values, mask, iterations: as of `laplace_fill`
      gradients: b h w c each, float: value of the next column minus that of a pixel's own, and of the next row; what
        leads out of the frame is not looked at. None: zeros, as for a flow, whose differences are unknown wherever
        they are asked for (`untrusted`)
      edges: b h w 1, 1 = edge; None: no edge

    Returns:
      b h w c, float32; outside of the hole the values given

    Raises:
      InputError: shapes do not fit or, where the mask is concrete, a picture is a hole altogether
    """
    _check("poisson_fill", values, mask)
    hole = mask > 0.5
    edge = jnp.zeros_like(hole) if edges is None else edges > 0.5
    _check_like("poisson_fill", "edges", edge, mask.shape)
    weights = []
    for axis in (2, 1):
        unknown = _pairs(hole.astype(jnp.float32), axis, jnp.add)
        weights.append(jnp.where(_pairs(edge, axis, jnp.logical_or), 0.0, unknown))
    if gradients is None:
        differences = tuple(jnp.zeros_like(weight) for weight in weights)
    else:
        for gradient in gradients:
            _check_like("poisson_fill", "gradients", gradient, values.shape)
        across, down = (gradient.astype(jnp.float32) for gradient in gradients)
        differences = (across[:, :, :-1], down[:, :-1])
    filled = _fill(values, hole, tuple(weights), differences, iterations)
    return filled if edges is None else jnp.where(hole & edge, _from_beside_the_edge(filled, edge), filled)


def untrusted(mask: jax.Array) -> jax.Array:
    """Where the differences to the next column and row are not those of known values: b h w 1 -> b h w 1, bool.

    The hole, and pixels of which the one below or to the right is in it.
    """
    hole = mask > 0.5
    below = jnp.pad(hole[:, 1:], ((0, 0), (0, 1), (0, 0), (0, 0)))
    right = jnp.pad(hole[:, :, 1:], ((0, 0), (0, 0), (0, 1), (0, 0)))
    return hole | below | right


def _fill(values, hole, weights, differences, iterations: int) -> jax.Array:
    """Weights and differences of pairs (beside, below): b h w-1 1 and b h-1 w 1, or with c channels."""
    values = values.astype(jnp.float32)
    known = jnp.where(hole, 0.0, values)
    channels = values.shape[-1]
    solve = functools.partial(_solve, iterations=iterations)
    # Of the channels the first axis, so that each has its own equations and its own end.
    split = [jnp.moveaxis(jnp.broadcast_to(x, (*x.shape[:-1], channels)), -1, 0) for x in (*weights, *differences)]
    inside = jnp.moveaxis(jnp.broadcast_to(hole, values.shape), -1, 0)
    solution = jax.vmap(jax.vmap(solve))(jnp.moveaxis(known, -1, 0), inside, *split)
    return jnp.where(hole, jnp.moveaxis(solution, 0, -1), values)


def _solve(known, hole, beside, below, across, down, *, iterations: int) -> jax.Array:
    """One channel, h w: the minimum in the hole; `known` has zeros there."""

    def slope(f):
        """Half of the derivative of the sum of squares of f's own differences."""
        right, under = beside * (f[:, 1:] - f[:, :-1]), below * (f[1:] - f[:-1])
        return jnp.where(hole, _divergence(right, under), 0.0)

    asked = jnp.where(hole, _divergence(beside * across, below * down), 0.0)
    solution, _ = cg(slope, asked - slope(known), tol=TOLERANCE, maxiter=iterations)
    return solution


def _divergence(right: jax.Array, under: jax.Array) -> jax.Array:
    """The transpose of taking differences: h w-1 and h-1 w -> h w."""
    return (
        jnp.pad(right, ((0, 0), (1, 0)))
        - jnp.pad(right, ((0, 0), (0, 1)))
        + jnp.pad(under, ((1, 0), (0, 0)))
        - jnp.pad(under, ((0, 1), (0, 0)))
    )


def _pairs(x: jax.Array, axis: int, join) -> jax.Array:
    """What `join` makes of a pixel and the next one along the axis."""
    size = x.shape[axis]
    return join(jax.lax.slice_in_dim(x, 0, size - 1, axis=axis), jax.lax.slice_in_dim(x, 1, size, axis=axis))


def _from_beside_the_edge(values: jax.Array, edge: jax.Array) -> jax.Array:
    """The value of the first neighbour above, below, left, right that is no edge; zero without one."""
    height, width = values.shape[1:3]
    values = jnp.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    edge = jnp.pad(edge, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=True)
    found = jnp.zeros_like(values[:, 1:-1, 1:-1])
    for row, column in ((1, 2), (1, 0), (2, 1), (0, 1)):  # the last one that applies stays
        there = (slice(None), slice(row, row + height), slice(column, column + width))
        found = jnp.where(edge[there], found, values[there])
    return found


def _check(name: str, values: jax.Array, mask: jax.Array) -> None:
    if values.ndim != 4 or mask.shape != (*values.shape[:3], 1):
        raise InputError(f"{name}: values {values.shape} and a mask {mask.shape}: expected b h w c and b h w 1")
    if isinstance(mask, jax.core.Tracer):
        return
    for number, hole in enumerate(np.asarray(mask) > 0.5):
        if hole.all():
            raise InputError(
                f"{name}: picture {number} is a hole altogether ({hole.shape[0]}x{hole.shape[1]}), and there is "
                "nothing to fill it from: give a mask that leaves something known"
            )


def _check_like(name: str, what: str, x: jax.Array, shape: tuple[int, ...]) -> None:
    if x.shape != shape:
        raise InputError(f"{name}: {what} {x.shape}: expected {shape}")
