"""Losses over features against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.losses.perceptual import feature_matching, gram, perceptual, style
from jaxpaint.types import InputError

RNG = np.random.default_rng(2)
WEIGHTS = {"relu1_1": 1.0, "relu2_1": 0.25}


def features(seed):
    rng = np.random.default_rng(seed)
    shapes = {"relu1_1": (2, 4, 5, 3), "relu2_1": (2, 2, 2, 6), "other": (2, 1, 1, 1)}
    return {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


FIRST, SECOND = features(0), features(1)


def gram_by_loops(x):
    b, h, w, c = x.shape
    out = np.zeros((b, c, c))
    for i, j in np.ndindex(c, c):
        out[:, i, j] = (x[..., i].astype(np.float64) * x[..., j]).sum((1, 2)) / (h * w * c)
    return out


@pytest.mark.parametrize(("difference", "power"), [(jnp.abs, 1), (jnp.square, 2)])
def test_perceptual_and_style(difference, power):
    def expected(made):
        return sum(w * (np.abs(made(FIRST[k]) - made(SECOND[k])) ** power).mean() for k, w in WEIGHTS.items())

    found = perceptual(FIRST, SECOND, WEIGHTS, difference)
    np.testing.assert_allclose(found, expected(np.float64), rtol=1e-5)
    np.testing.assert_allclose(style(FIRST, SECOND, WEIGHTS, difference), expected(gram_by_loops), rtol=1e-5)


def test_gram():
    np.testing.assert_allclose(gram(FIRST["relu1_1"]), gram_by_loops(FIRST["relu1_1"]), rtol=1e-5, atol=1e-7)


def test_style_does_not_ask_where():
    """Places in another order, or another number of them in the same shares, change nothing."""
    x = FIRST["relu1_1"]
    moved = np.concatenate([x[:, ::-1], x[:, :, ::-1]], axis=1)
    assert style({"x": x}, {"x": moved}, {"x": 1.0}) < 1e-6


def test_feature_matching_leaves_the_real_alone():
    def loss(fake, real):
        return feature_matching(fake, real, WEIGHTS)

    np.testing.assert_allclose(loss(FIRST, SECOND), perceptual(FIRST, SECOND, WEIGHTS), rtol=1e-6)
    fake, real = jax.grad(loss, (0, 1))(FIRST, SECOND)
    for name, weight in WEIGHTS.items():
        sign = np.sign(FIRST[name] - SECOND[name])
        np.testing.assert_allclose(fake[name], weight * sign / sign.size, rtol=1e-6)
        assert not np.any(real[name])


def test_float32_whatever_comes_in():
    halves = [{name: jnp.asarray(x, jnp.bfloat16) for name, x in side.items()} for side in (FIRST, SECOND)]
    rounded = [{name: np.asarray(x, np.float32) for name, x in side.items()} for side in halves]
    for loss in (perceptual, style, feature_matching):
        found = loss(*halves, WEIGHTS)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, loss(*rounded, WEIGHTS), rtol=1e-6)


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match="the target has no feature 'relu2_1'; did you mean 'relu1_1'"):
        perceptual(FIRST, {"relu1_1": SECOND["relu1_1"]}, WEIGHTS)
    with pytest.raises(InputError, match=r"no feature 'relu2_1'.*there are: relu1_1"):
        feature_matching(FIRST, {"relu1_1": SECOND["relu1_1"]}, WEIGHTS)
    smaller = {**SECOND, "relu1_1": SECOND["relu1_1"][:, :2]}
    with pytest.raises(InputError, match=r"relu1_1 is \(2, 4, 5, 3\) of the prediction and \(2, 2, 5, 3\)"):
        perceptual(FIRST, smaller, WEIGHTS)
    with pytest.raises(InputError, match="channels"):
        style(FIRST, {**SECOND, "relu1_1": SECOND["relu1_1"][..., :2]}, WEIGHTS)
