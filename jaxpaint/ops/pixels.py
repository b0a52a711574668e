"""Pixel values: uint8 pictures to floats and back, and pasting known pixels."""

import jax
import jax.numpy as jnp


def from_uint8(image: jax.Array) -> jax.Array:
    """uint8 in 0..255 to float32 in [-1, 1]: ``x / 127.5 - 1``."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def to_uint8(image: jax.Array) -> jax.Array:
    """Float in [-1, 1] to uint8, rounded to nearest and clipped: the exact inverse of `from_uint8`."""
    return jnp.clip(jnp.round((image.astype(jnp.float32) + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def composite(prediction: jax.Array, image: jax.Array, mask: jax.Array) -> jax.Array:
    """The prediction inside the hole, the image everywhere else, bit for bit.

    A select, not ``p * m + x * (1 - m)``: a NaN or a rounding in the hole cannot reach a known pixel,
    and a known pixel comes back with the bits it had.

    Args:
      prediction: ... h w c
      image: ... h w c, of the same shape
      mask: ... h w 1, 1 = hole
    """
    return jnp.where(mask > 0.5, prediction.astype(image.dtype), image)


def without_hole(image: jax.Array, mask: jax.Array) -> jax.Array:
    """The image with 0, the middle of the range, in the hole: a select, so that not even a NaN gets out of it.

    Args:
      image: ... h w c
      mask: ... h w 1, 1 = hole
    """
    return jnp.where(mask > 0.5, 0.0, image)
