"""LPIPS against its formula in NumPy, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.losses.lpips import lpips, lpips_map, lpips_terms
from jaxpaint.types import InputError

SHAPES = [(2, 8, 6, 4), (2, 4, 3, 5), (2, 1, 1, 3)]


def features(seed):
    rng = np.random.default_rng(seed)
    return [np.maximum(rng.standard_normal(shape), 0).astype(np.float32) for shape in SHAPES]


LINEAR = [np.random.default_rng(9).uniform(0, 1, shape[-1]).astype(np.float32) for shape in SHAPES]


def terms(first, second):
    found = []
    for one, two, weight in zip(first, second, LINEAR, strict=True):
        one, two = (x.astype(np.float64) for x in (one, two))
        one, two = (x / (np.sqrt((x**2).sum(-1, keepdims=True)) + 1e-10) for x in (one, two))
        found.append((((one - two) ** 2) * weight).sum(-1).mean((1, 2)))
    return np.stack(found, 1)


def test_the_formula():
    first, second = features(0), features(1)
    expected = terms(first, second)
    np.testing.assert_allclose(lpips_terms(first, second, LINEAR), expected, atol=1e-6)
    np.testing.assert_allclose(lpips(first, second, LINEAR), expected.sum(1), atol=1e-6)
    np.testing.assert_array_equal(lpips(first, first, LINEAR), 0)


def test_the_map_of_even_differences_is_the_distance():
    """Where a tap's difference is the same all over, enlarging changes nothing."""
    first, second = ([np.broadcast_to(x[:, :1, :1], x.shape) for x in features(seed)] for seed in (0, 1))
    maps = lpips_map(first, second, LINEAR, 16, 12)
    assert maps.shape == (2, 16, 12, 1)
    np.testing.assert_allclose(
        maps, np.broadcast_to(lpips(first, second, LINEAR)[:, None, None, None], maps.shape), 1e-5
    )


def test_features_that_are_zero_have_a_gradient():
    first, second = features(0), features(1)
    first[0][:, 2:5] = 0
    for gradient in jax.tree.leaves(jax.jit(jax.grad(lambda f: jnp.sum(lpips(f, second, LINEAR))))(first)):
        assert jnp.isfinite(gradient).all() and jnp.any(gradient != 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, s, w: (f[:2], s, w), "2 and 3 features and 3 linear weights"),
        (lambda f, s, w: (f, [*s[:1], s[1][:, :2], s[2]], w), "at tap 1"),
        (lambda f, s, w: (f, s, [*w[:2], w[2][:2]]), "at tap 2"),
    ],
)
def test_features_of_another_shape(change, message):
    with pytest.raises(InputError, match=message):
        lpips(*change(features(0), features(1), LINEAR))
