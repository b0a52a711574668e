"""Adversarial losses, in pairs: what the discriminator descends, and what the generator descends."""

import jax
import jax.numpy as jnp


def hinge_discriminator(real: jax.Array, fake: jax.Array) -> jax.Array:
    """``0.5 * mean relu(1 - real) + 0.5 * mean relu(1 + fake)`` over scores of any shape, float32.

    Lim and Ye, arXiv 1705.02894; with the halves of DeepFillv2's released code.
    """
    real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
    return 0.5 * jnp.mean(jax.nn.relu(1 - real)) + 0.5 * jnp.mean(jax.nn.relu(1 + fake))


def hinge_generator(fake: jax.Array) -> jax.Array:
    """``-mean fake`` over scores of any shape, float32."""
    return -jnp.mean(fake.astype(jnp.float32))
