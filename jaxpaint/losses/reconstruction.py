"""Losses that compare a picture with the truth."""

import jax
import jax.numpy as jnp


def l1(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean absolute difference over everything, float32: the scale is that of the values, [-1, 1] gives up to 2."""
    return jnp.mean(jnp.abs(prediction.astype(jnp.float32) - target.astype(jnp.float32)))
