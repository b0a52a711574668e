"""Small random projective transforms of frames: what a stable network's output should follow.

The transform and its order of rotation, shear and zoom are those of the released code of IIVI (arXiv 2108.01912).
"""

import jax
import jax.numpy as jnp

from jaxpaint.types import InputError

TRANSLATION = 2.0
"""Pixels, to either side."""

ANGLE = 1.0
"""Of the rotation and both shears, degrees to either side."""

ZOOM = 0.03
"""To either side of 1."""


def draw_jitter(key: jax.Array, batch: int) -> jax.Array:
    """Uniform draws for `jitter_transform`: b 6, (x, y translation, rotation, zoom, x shear, y shear)."""
    angle = jnp.deg2rad(ANGLE)
    spread = jnp.array([TRANSLATION, TRANSLATION, angle, ZOOM, angle, angle])
    centre = jnp.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    return centre + spread * jax.random.uniform(key, (batch, 6), minval=-1.0)


def jitter_transform(draws: jax.Array, height: int, width: int, *, swapped: bool = True) -> jax.Array:
    """The eight numbers of a projective transform, from the output's pixels to the input's.

    With z the zoom, r the rotation, hx and hy the shears, a = hx - r and b = hy + r, the rows are
    ``(z cos a, z sin a) / cos hx`` and ``(z sin b, z cos b) / cos hy``, and the third column keeps the centre where
    it is before it translates.

    Args:
      draws: b 6, of `draw_jitter`
      height, width: of the frames
      swapped: the centre is taken at (height / 2, width / 2) in (x, y), as the released code does: off the middle
        where the frame is not square. False takes the middle

    Returns:
      b 8, float32: (x, y) of the output is ``((m0 x + m1 y + m2) / k, (m3 x + m4 y + m5) / k)`` of the input,
      ``k = m6 x + m7 y + 1`` and m6 = m7 = 0
    """
    tx, ty, r, z, hx, hy = jnp.unstack(draws.astype(jnp.float32), axis=1)
    sx, sy = (height, width) if swapped else (width, height)
    a, b = hx - r, hy + r
    zeros = jnp.zeros_like(tx)
    along = sx * (jnp.cos(hx) - z * jnp.cos(a)) - sy * z * jnp.sin(a)
    along += 2 * z * (tx * jnp.cos(a) + ty * jnp.sin(a))
    across = sy * (jnp.cos(hy) - z * jnp.cos(b)) - sx * z * jnp.sin(b)
    across += 2 * z * (ty * jnp.cos(b) + tx * jnp.sin(b))
    first = [z * jnp.cos(a) / jnp.cos(hx), z * jnp.sin(a) / jnp.cos(hx), along / (2 * jnp.cos(hx))]
    second = [z * jnp.sin(b) / jnp.cos(hy), z * jnp.cos(b) / jnp.cos(hy), across / (2 * jnp.cos(hy))]
    return jnp.stack([*first, *second, zeros, zeros], axis=1)


def project(x: jax.Array, transform: jax.Array, *, nearest: bool = False) -> jax.Array:
    """Pictures seen through projective transforms; zeros come in from outside.

    Args:
      x: b h w c
      transform: b 8, of `jitter_transform`; pixels are counted from 0 at their centres
      nearest: the nearest pixel (masks stay 0 or 1), otherwise bilinear

    Returns:
      b h w c, of x's type

    Raises:
      InputError: a transform for another number of pictures.
    """
    if transform.shape != (x.shape[0], 8):
        raise InputError(f"transforms are {transform.shape} for pictures {x.shape}: expected {(x.shape[0], 8)}")
    return jax.vmap(_project_nearest if nearest else _project_bilinear)(x, transform)


def _places(x: jax.Array, m: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where the output's pixels are in the input: (row, column), each h w."""
    row, column = jnp.mgrid[: x.shape[0], : x.shape[1]].astype(jnp.float32)
    k = m[6] * column + m[7] * row + 1
    return (m[3] * column + m[4] * row + m[5]) / k, (m[0] * column + m[1] * row + m[2]) / k


def _project_nearest(x: jax.Array, m: jax.Array) -> jax.Array:
    # Halves go away from zero, as in C; jnp.round would take them to even numbers.
    row, column = (jnp.sign(place) * jnp.floor(jnp.abs(place) + 0.5) for place in _places(x, m))
    return _read(x, row.astype(jnp.int32), column.astype(jnp.int32))


def _project_bilinear(x: jax.Array, m: jax.Array) -> jax.Array:
    row, column = _places(x, m)
    above, left = jnp.floor(row), jnp.floor(column)
    down, right = (row - above)[..., None], (column - left)[..., None]
    i, j = above.astype(jnp.int32), left.astype(jnp.int32)
    upper = (1 - right) * _read(x, i, j) + right * _read(x, i, j + 1)
    lower = (1 - right) * _read(x, i + 1, j) + right * _read(x, i + 1, j + 1)
    return ((1 - down) * upper + down * lower).astype(x.dtype)


def _read(x: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """x at (row, column), each h w; zeros outside."""
    inside = (row >= 0) & (row < x.shape[0]) & (column >= 0) & (column < x.shape[1])
    # Negative indices would count from the end; what is read for them is not used.
    values = x[jnp.clip(row, 0, x.shape[0] - 1), jnp.clip(column, 0, x.shape[1] - 1)]
    return jnp.where(inside[..., None], values, 0)
