"""Correlation of all pairs of positions, and reading it around moving positions (RAFT, arXiv 2003.12039, section 3.2).

For features f of one picture and g of another, ``C[i, j] = f_i . g_j / sqrt(c)``. Level k of the pyramid has the means
over 2^k x 2^k blocks of j; since C is linear in g, they are the products with the means of g.

To read a level bilinearly at a window of (2r+1)² positions, one pixel apart, is a product with two matrices: row a of
one holds ``max(0, 1 - |y_a - row|)``, which are the bilinear weights, and zeros outside of the picture for nothing.
A window's rows and columns are independent, so that

    window[a, b] = sum over rows and columns of Y[a, row] C[row, column] X[b, column]

and the whole look-up is matrix products, with neither gathers nor padded copies of C.

C has (h w)² 4/3 numbers: 14 MB at 1/8 of 240x432, 5.6 GB at that of 1080x1920. `Correlation` keeps it where it is small
enough and otherwise makes parts of it again at every look.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpaint.ops.placement import undivided

HIGHEST = jax.lax.Precision.HIGHEST
"""Positions are differences of large numbers, which TPUs would round to 8 bits by default."""


class Correlation(NamedTuple):
    """What `look_up` reads; made by `correlate`.

    first:  b h w c, divided by sqrt(c)
    second: the levels of the other picture's features, b h/2^k w/2^k c
    levels: the levels of C, b h w h/2^k w/2^k; () where they are made again at every look
    rows:   how many rows of `first` are looked at together, where they are made again
    """

    first: jax.Array
    second: tuple[jax.Array, ...]
    levels: tuple[jax.Array, ...]
    rows: int


def correlate(first: jax.Array, second: jax.Array, *, levels: int = 4, limit: int = 2**28) -> Correlation:
    """The correlation of two pictures' features.

    Args:
      first: b h w c, the features at whose positions one looks
      second: b h' w' c, those that are compared with them
      levels: of the pyramid; a level has half the side of the one before, rounded down
      limit: how many numbers may be kept (2^28: 1 GiB); where there would be more, they are made in parts at every
        look: h' w' c products a position and look instead of none
    """
    first = first.astype(jnp.float32) / math.sqrt(first.shape[-1])
    pyramid = [undivided(second.astype(jnp.float32))]
    for _ in range(levels - 1):
        pyramid.append(_halved(pyramid[-1]))
    a_row = len(first) * first.shape[2] * sum(g.shape[1] * g.shape[2] for g in pyramid)
    rows = max(1, limit // a_row)
    kept = tuple(_products(first, g) for g in pyramid) if first.shape[1] <= rows else ()
    return Correlation(first, tuple(pyramid), kept, rows)


def look_up(correlation: Correlation, x: jax.Array, y: jax.Array, *, radius: int = 4) -> jax.Array:
    """The correlation of every position with a window around the one that it points to, at all levels.

    Args:
      correlation: of `correlate`
      x, y: b h w, positions in the other picture's features, in pixels of level 0
      radius: the window reaches so many pixels of the level to each side

    Returns:
      b h w (levels (2 radius + 1)²), float32; the levels one after the other, and in each the columns (x) as the
      slower index and the rows (y) as the faster one, as in the published code. Outside are zeros.
    """
    first, second, levels, rows = correlation
    if levels:
        return _windows(levels, x, y, radius)
    height = first.shape[1]
    parts = -(-height // rows)

    def part(inputs):
        features, x, y = inputs
        return _windows(tuple(_products(features, g) for g in second), x, y, radius)

    found = jax.lax.map(part, [_in_parts(a, parts, rows) for a in (first, x, y)])
    return jnp.moveaxis(found, 0, 1).reshape(len(x), parts * rows, *found.shape[3:])[:, :height]


def _products(first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.einsum("bhwc,bijc->bhwij", first, second, precision=HIGHEST)


def _windows(levels: tuple[jax.Array, ...], x: jax.Array, y: jax.Array, radius: int) -> jax.Array:
    found = []
    for level, products in enumerate(levels):
        height, width = products.shape[-2:]
        across, down = _weights(x / 2**level, width, radius), _weights(y / 2**level, height, radius)
        columns = jnp.einsum("bhwij,bhwxj->bhwxi", products, across, precision=HIGHEST)
        window = jnp.einsum("bhwxi,bhwyi->bhwxy", columns, down, precision=HIGHEST)
        found.append(window.reshape(*x.shape, -1))
    return jnp.concatenate(found, axis=-1)


def _weights(position: jax.Array, size: int, radius: int) -> jax.Array:
    """Bilinear weights of a window's positions: b h w -> b h w (2 radius + 1) size."""
    window = position[..., None] + jnp.arange(-radius, radius + 1)
    return jnp.maximum(0, 1 - jnp.abs(window[..., None] - jnp.arange(size)))


def _halved(x: jax.Array) -> jax.Array:
    """Means of 2x2 blocks; a last row or column without a partner is dropped."""
    b, h, w, c = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def _in_parts(x: jax.Array, parts: int, rows: int) -> jax.Array:
    """b h … -> parts b rows …, with zeros after the last row."""
    x = jnp.pad(x, [(0, 0), (0, parts * rows - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])
    return jnp.moveaxis(x.reshape(len(x), parts, rows, *x.shape[2:]), 1, 0)
