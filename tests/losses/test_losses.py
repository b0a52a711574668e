"""Losses against their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.losses.adversarial import hinge_discriminator, hinge_generator
from jaxpaint.losses.reconstruction import l1

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.normal(0, 2, (2, 3, 4, 4, 5)).astype(np.float32)


def test_hinge():
    expected = 0.5 * np.maximum(1 - REAL, 0).mean() + 0.5 * np.maximum(1 + FAKE, 0).mean()
    np.testing.assert_allclose(hinge_discriminator(REAL, FAKE), expected, rtol=1e-6)
    np.testing.assert_allclose(hinge_generator(FAKE), -FAKE.mean(), rtol=1e-5)


def test_hinge_gradients():
    """-1/2n where real < 1, else 0; +1/2n where fake > -1, else 0; -1/n for the generator."""
    real, fake = jax.grad(hinge_discriminator, (0, 1))(jnp.asarray(REAL), jnp.asarray(FAKE))
    np.testing.assert_allclose(real, np.where(REAL < 1, -0.5, 0) / REAL.size, rtol=1e-6)
    np.testing.assert_allclose(fake, np.where(FAKE > -1, 0.5, 0) / FAKE.size, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(hinge_generator)(jnp.asarray(FAKE)), -1 / FAKE.size, rtol=1e-6)


def test_l1_is_float32_whatever_comes_in():
    np.testing.assert_allclose(l1(REAL, FAKE), np.abs(REAL - FAKE).mean(), rtol=1e-6)
    half = l1(jnp.asarray(REAL, jnp.bfloat16), jnp.asarray(FAKE, jnp.bfloat16))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, np.abs(REAL - FAKE).mean(), rtol=2**-8)
