"""The local correlation against sums written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.ops.cost_volume import local_correlation
from jaxpaint.types import InputError


def written_out(first, second, displacement):
    """b h w (2d+1)², place by place."""
    batch, height, width, _ = first.shape
    side = 2 * displacement + 1
    out = np.zeros((batch, height, width, side * side))
    for y, x, dy, dx in np.ndindex(height, width, side, side):
        row, column = y + dy - displacement, x + dx - displacement
        if 0 <= row < height and 0 <= column < width:
            out[:, y, x, dy * side + dx] = np.mean(first[:, y, x] * second[:, row, column], axis=-1)
    return out


def maps(shape=(2, 5, 7, 3)):
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape), rng.standard_normal(shape)


@pytest.mark.parametrize("displacement", [0, 2, 4])
def test_values(displacement):
    first, second = maps()
    got = local_correlation(jnp.asarray(first), jnp.asarray(second), displacement)
    np.testing.assert_allclose(got, written_out(first, second, displacement), atol=1e-6)


def test_gradients():
    """The correlation is linear in either map, so differences in float64 are exact but for rounding."""
    first, second = maps((1, 3, 4, 2))
    weights = np.random.default_rng(1).standard_normal((1, 3, 4, 9))

    def total(first, second):
        return jnp.sum(weights * local_correlation(first, second, 1))

    got = jax.jit(jax.grad(total, (0, 1)))(jnp.asarray(first), jnp.asarray(second))
    for position, gradient in enumerate(got):
        for place in np.ndindex(gradient.shape):
            one = np.zeros(gradient.shape)
            one[place] = 1
            pair = (one, second) if position == 0 else (first, one)
            np.testing.assert_allclose(gradient[place], np.sum(weights * written_out(*pair, 1)), atol=1e-5)


def test_bfloat16_maps_give_bfloat16():
    first, second = (jnp.asarray(x, jnp.bfloat16) for x in maps())
    got = local_correlation(first, second, 1)
    assert got.dtype == jnp.bfloat16
    # Products and sum may each be rounded to 8 bits: 2^-8 of the values' size, about 3.
    want = written_out(*(np.asarray(x, np.float64) for x in (first, second)), 1)
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.03)


def test_errors():
    x = jnp.zeros((1, 4, 4, 2))
    with pytest.raises(InputError, match="maps"):
        local_correlation(x, x[:, :3])
    with pytest.raises(InputError, match="displacement is -1"):
        local_correlation(x, x, -1)
