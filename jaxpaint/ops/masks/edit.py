"""Masks from masks: union, intersection, dilation, erosion, share and reduction to a feature grid.

All take masks of any leading axes, ``... h w 1``, values 0 and 1, and keep the dtype.
"""

import functools

import jax
import jax.numpy as jnp

from jaxpaint.types import InputError


def compose(*masks: jax.Array) -> jax.Array:
    """Hole where any of the masks is hole; shapes broadcast."""
    return functools.reduce(jnp.maximum, masks)


def intersect(*masks: jax.Array) -> jax.Array:
    """Hole where all of the masks are hole; shapes broadcast."""
    return functools.reduce(jnp.minimum, masks)


def dilate(mask: jax.Array, pixels: int) -> jax.Array:
    """Grows the hole: a pixel is hole if any within a square of side 2 * pixels + 1 around it was.

    Costs 2 * log2(2 * pixels + 1) maxima a pixel, so that a large radius is cheap.

    Args:
      mask: ... h w 1.
      pixels: from 0 up, static.

    Raises:
      InputError: `pixels` is negative or no integer.
    """
    _check_count("pixels", pixels, 0)
    return _running_maximum(_running_maximum(mask, pixels, -2), pixels, -3)


def erode(mask: jax.Array, pixels: int) -> jax.Array:
    """Shrinks the hole: a pixel stays hole if all within a square of side 2 * pixels + 1 around it were.

    What lies outside the picture does not shrink it: a hole at the border stays at the border.
    Arguments and errors as of `dilate`.
    """
    return 1 - dilate(1 - mask, pixels)


def _running_maximum(mask: jax.Array, pixels: int, axis: int) -> jax.Array:
    """The maximum over 2 * pixels + 1 places along an axis; nothing but 0 outside."""
    length = mask.shape[axis]
    pixels = min(pixels, length - 1)
    if pixels == 0:
        return mask
    window = 2 * pixels + 1
    padding = [(0, 0)] * mask.ndim
    padding[axis] = (pixels, pixels)
    best, reach = jnp.pad(mask, padding), 1

    def part(first: int, size: int) -> jax.Array:
        return jax.lax.slice_in_dim(best, first, first + size, axis=axis)

    while 2 * reach <= window:
        size = best.shape[axis] - reach
        best = jnp.maximum(part(0, size), part(reach, size))
        reach *= 2
    return jnp.maximum(part(0, length), part(window - reach, length))


def ratio(mask: jax.Array) -> jax.Array:
    """The share of hole, in [0, 1]: ... h w 1 -> float32 ..."""
    return jnp.mean(mask.astype(jnp.float32), axis=(-3, -2, -1))


def downsample(mask: jax.Array, factor: int) -> jax.Array:
    """A mask for features or latents: a cell is hole if any pixel of it is.

    Args:
      mask: ... h w 1; h and w multiples of `factor`.
      factor: pixels a cell, along both sides.

    Returns:
      ... h/factor w/factor 1.

    Raises:
      InputError: h or w is no multiple of `factor`.
    """
    _check_count("factor", factor, 1)
    *leading, height, width, channels = mask.shape
    if height % factor or width % factor:
        raise InputError(
            f"a mask of {height}x{width} cannot be reduced by {factor}: pad the picture and the mask to multiples of it"
        )
    cells = mask.reshape(*leading, height // factor, factor, width // factor, factor, channels)
    return jnp.max(cells, axis=(-4, -2))


def _check_count(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}: give an integer from {least} up")
