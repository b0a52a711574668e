"""Padding to a size that a network takes, and exactly back.

The rule, for a picture and for its mask alike: what is missing is added at the bottom and at the
right, by reflection about the last row and column (which are not repeated), over and over where the
padding is larger than the picture. Reflecting the mask as well keeps a hole at the border a hole in
the padding: the network is never told that unknown pixels are known.

All functions take ``... h w c``, a JAX array or a NumPy one, and return the same kind.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


def pad_to(x: Array, height: int, width: int) -> Array:
    """``... h w c`` to ``... height width c``; ValueError where the picture is larger than that."""
    h, w = x.shape[-3:-1]
    if height < h or width < w:
        raise ValueError(f"a picture of {h}x{w} cannot be padded to {height}x{width}: the target is smaller")
    if (h, w) == (height, width):
        return x
    widths = [(0, 0)] * (x.ndim - 3) + [(0, height - h), (0, width - w), (0, 0)]
    return (np if isinstance(x, np.ndarray) else jnp).pad(x, widths, mode="reflect")


def pad_to_multiple(x: Array, multiple: int) -> Array:
    """``... h w c`` to the next height and width that `multiple` divides."""
    h, w = x.shape[-3:-1]
    return pad_to(x, round_up(h, multiple), round_up(w, multiple))


def unpad(x: Array, height: int, width: int) -> Array:
    """``... h w c`` to ``... height width c``: the inverse of `pad_to`, bit for bit."""
    h, w = x.shape[-3:-1]
    if height > h or width > w:
        raise ValueError(f"{h}x{w} is not a padded picture of {height}x{width}: it is smaller")
    return x[..., :height, :width, :]


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple that is not below `size`."""
    return -(-size // multiple) * multiple


def bucket(size: int) -> int:
    """The side that a side is padded to, so that pictures of many sizes share few compiled programs.

    Multiples of 64 up to 512, of 128 up to 1024, of 256 up to 2048, and so on: four sides an octave. A side
    above 256 grows by a quarter at most, one below by 63 pixels at most. It depends on nothing but the size:
    a picture gives the same result in whatever company it comes.
    """
    return round_up(size, _bucket_step(size))


def bucket_within(size: int) -> int:
    """The largest bucket side that is not above `size` (64 or more)."""
    return size // _bucket_step(size) * _bucket_step(size)


def _bucket_step(size: int) -> int:
    return max(64, 2 ** ((size - 1).bit_length() - 1) // 4)
