"""The six masks of RePaint: thin and thick, and four extreme ones that are the same for every picture.

Source: Lugmayr et al., RePaint: Inpainting using Denoising Diffusion Probabilistic Models
(arXiv 2201.09865). Thin ("narrow") and thick ("wide") are LaMa's. The authors publish the
masks as pictures and no generator; the phase of the lines and of the known pixels is taken as 0 here.
"""

import jax
import jax.numpy as jnp

from jaxpaint.ops.masks import lama, options


def half(key: jax.Array, height: int, width: int) -> jax.Array:
    """The left half is known, the right half is hole: float32 h w 1. The key is ignored."""
    _, columns = _grid(key, height, width)
    return _mask(columns >= width // 2, height, width)


def expand(key: jax.Array, height: int, width: int, *, known: float = 0.25) -> jax.Array:
    """Only a centred crop is known, 64x64 of 256x256: float32 h w 1. The key is ignored.

    Args:
      known: sides of the crop as a share of the picture's.
    """
    rows, columns = _grid(key, height, width)
    options.check_range("known", known, 0.01, 0.99)
    inside = True
    for index, length in ((rows, height), (columns, width)):
        side = min(max(1, round(known * length)), length - 1)
        first = (length - side) // 2
        inside = inside & (index >= first) & (index < first + side)
    return _mask(~inside, height, width)


def every_second_line(key: jax.Array, height: int, width: int) -> jax.Array:
    """Rows 1, 3, 5, ... are hole ("alternating lines"): float32 h w 1. The key is ignored."""
    rows, _ = _grid(key, height, width)
    return _mask(rows % 2 == 1, height, width)


def super_resolution(key: jax.Array, height: int, width: int, *, factor: int = 2) -> jax.Array:
    """Every second pixel of every second row is known, the rest is hole: float32 h w 1. The key is ignored.

    Args:
      factor: the stride of the known pixels, from 2 up.
    """
    rows, columns = _grid(key, height, width)
    factor, _ = options.check_counts("factor", factor, 2, min(height, width))
    return _mask((rows % factor != 0) | (columns % factor != 0), height, width)


def repaint_thin(key: jax.Array, height: int, width: int) -> jax.Array:
    """LaMa's thin strokes: float32 h w 1, 1 = hole."""
    return lama.lama_thin(key, height, width)


def repaint_thick(key: jax.Array, height: int, width: int) -> jax.Array:
    """LaMa's thick strokes and boxes: float32 h w 1, 1 = hole."""
    return lama.lama_thick(key, height, width)


def _grid(key, height: int, width: int):
    del key
    options.check_size(height, width)
    return jnp.arange(height, dtype=jnp.int32)[:, None], jnp.arange(width, dtype=jnp.int32)[None]


def _mask(hole: jax.Array, height: int, width: int) -> jax.Array:
    return jnp.broadcast_to(hole, (height, width))[..., None].astype(jnp.float32)
