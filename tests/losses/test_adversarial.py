"""Adversarial pairs against their formulas in NumPy (float64), gradients against finite differences of those."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.losses import adversarial
from jaxpaint.losses.adversarial import gradient_penalty, r1
from jaxpaint.ops.conv import convolve
from jaxpaint.types import InputError

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.normal(0, 2, (2, 3, 4, 5, 1)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def ragan(real, fake):
    return -np.log(sigmoid(real - fake.mean())).mean() - np.log(1 - sigmoid(fake - real.mean())).mean()


def ragan_hinge(real, fake):
    return np.maximum(0, 1 - (real - fake.mean())).mean() + np.maximum(0, 1 + (fake - real.mean())).mean()


# What each descends, of (real, fake).
DISCRIMINATORS = {
    "non_saturating": lambda real, fake: -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(fake)).mean(),
    "hinge": lambda real, fake: (np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()) / 2,
    "least_squares": lambda real, fake: (((real - 1) ** 2).mean() + (fake**2).mean()) / 2,
    "wasserstein": lambda real, fake: fake.mean() - real.mean(),
    "relativistic_average": ragan,
    "relativistic_average_hinge": ragan_hinge,
}
# Of (fake), or of (fake, real).
GENERATORS = {
    "non_saturating": lambda fake: -np.log(sigmoid(fake)).mean(),
    "hinge": lambda fake: -fake.mean(),
    "least_squares": lambda fake: ((fake - 1) ** 2).mean() / 2,
    "wasserstein": lambda fake: -fake.mean(),
    "relativistic_average": lambda fake, real: ragan(fake, real),
    "relativistic_average_hinge": lambda fake, real: ragan_hinge(fake, real),
}


def finite_differences(function, arrays, which, step=1e-5):
    """The gradient with respect to one of the arrays, in float64: errors of step², and of 1e-16 / step."""
    arrays = [np.asarray(array, np.float64) for array in arrays]
    gradient = np.zeros_like(arrays[which])
    for index in np.ndindex(gradient.shape):
        values = []
        for sign in (1, -1):
            moved = [array.copy() for array in arrays]
            moved[which][index] += sign * step
            values.append(function(*moved))
        gradient[index] = (values[0] - values[1]) / (2 * step)
    return gradient


def check(function, formula, arrays):
    """float32 against float64: a handful of roundings of 6e-8, relative to the largest slope."""
    expected = formula(*[array.astype(np.float64) for array in arrays])
    found, gradients = jax.value_and_grad(function, range(len(arrays)))(*map(jnp.asarray, arrays))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)
    for which, gradient in enumerate(gradients):
        slopes = finite_differences(formula, arrays, which)
        np.testing.assert_allclose(gradient, slopes, rtol=0, atol=3e-6 * np.abs(slopes).max())
    halves = function(*(jnp.asarray(array, jnp.bfloat16) for array in arrays))
    assert halves.dtype == jnp.float32
    np.testing.assert_allclose(halves, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator(name):
    check(getattr(adversarial, f"{name}_discriminator"), DISCRIMINATORS[name], [REAL, FAKE])


@pytest.mark.parametrize("name", GENERATORS)
def test_generator(name):
    arrays = [FAKE, REAL] if name.startswith("relativistic") else [FAKE]
    check(getattr(adversarial, f"{name}_generator"), GENERATORS[name], arrays)


def test_every_pair_is_here():
    names = [name.removesuffix("_discriminator") for name in vars(adversarial) if name.endswith("_discriminator")]
    assert sorted(names) == sorted(DISCRIMINATORS) == sorted(GENERATORS)


@pytest.mark.parametrize("score", [-200.0, 200.0])
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_sure_discriminators_stay_finite(name, score):
    """exp(200) is no float32."""
    scores = jnp.full((2, 1), score)
    for arguments in ((scores, -scores), (-scores, scores)):
        value, slopes = jax.value_and_grad(getattr(adversarial, f"{name}_discriminator"))(*arguments)
        assert jnp.isfinite(value)
        assert jnp.isfinite(slopes).all()


# A critic whose slope is known: D(x) = Σ_k a_k tanh(x · w_k), dD/dx = Σ_k a_k (1 - tanh²) w_k.
PICTURES, FAKES = RNG.normal(0, 1, (2, 3, 2, 4, 2)).astype(np.float32)
WEIGHTS = (0.3 * RNG.normal(0, 1, (16, 5))).astype(np.float32)
OUTER = RNG.normal(0, 1, 5).astype(np.float32)
BETWEEN = np.array([0.2, 0.9, 0.5], np.float32)
HOLE = (RNG.uniform(0, 1, (3, 2, 4, 1)) < 0.5).astype(np.float32)


def slopes_of(weights, pictures):
    hidden = np.tanh(pictures.reshape(3, -1).astype(np.float64) @ weights)
    return ((1 - hidden**2) * OUTER) @ weights.T


def penalty_formula(weights, mask):
    mixed = PICTURES + BETWEEN[:, None, None, None] * (FAKES - PICTURES)
    inside = np.broadcast_to(mask, PICTURES.shape).reshape(3, -1)
    return ((np.sqrt((slopes_of(weights, mixed) ** 2 * inside).sum(1)) - 1) ** 2).mean()


def r1_formula(weights):
    return (slopes_of(weights, PICTURES) ** 2).sum(1).mean()


def critic(weights):
    def scores(pictures):
        return jnp.tanh(pictures.reshape(pictures.shape[0], -1) @ weights) @ OUTER

    return scores


@pytest.mark.parametrize("mask", [None, HOLE], ids=["whole", "hole"])
def test_gradient_penalty(mask):
    def found(weights):
        with jax.default_matmul_precision("highest"):
            return gradient_penalty(critic(weights), jnp.asarray(PICTURES), jnp.asarray(FAKES), BETWEEN, mask)

    value, gradient = jax.value_and_grad(found)(jnp.asarray(WEIGHTS))

    def formula(weights):
        return penalty_formula(weights, np.ones(1) if mask is None else mask)

    np.testing.assert_allclose(value, formula(WEIGHTS.astype(np.float64)), rtol=1e-5)
    slopes = finite_differences(formula, [WEIGHTS], 0)
    np.testing.assert_allclose(gradient, slopes, rtol=0, atol=1e-5 * np.abs(slopes).max())


def test_r1():
    value, gradient = jax.value_and_grad(lambda weights: r1(critic(weights), PICTURES))(jnp.asarray(WEIGHTS))
    np.testing.assert_allclose(value, r1_formula(WEIGHTS.astype(np.float64)), rtol=1e-5)
    slopes = finite_differences(r1_formula, [WEIGHTS], 0)
    np.testing.assert_allclose(gradient, slopes, rtol=0, atol=1e-5 * np.abs(slopes).max())


def test_second_derivatives_go_through_our_convolution():
    """The penalty's gradient with `convolve`, whose derivatives are our own, equals that with JAX's convolution."""
    pictures = RNG.normal(0, 1, (2, 9, 10, 2)).astype(np.float32)
    kernels = [RNG.normal(0, 0.3, shape).astype(np.float32) for shape in ((4, 4, 2, 3), (3, 3, 3, 2))]
    biases = [jnp.full(3, 0.1), jnp.full(2, -0.2)]

    def ours(x, kernel, bias, stride, dilation):
        return convolve(x, kernel, bias, stride=stride, dilation=dilation, padding=((1, 1), (1, 1)))

    def plain(x, kernel, bias, stride, dilation):
        strides, dilations = (stride, stride), (dilation, dilation)
        numbers, around = ("NHWC", "HWIO", "NHWC"), ((1, 1), (1, 1))
        return bias + jax.lax.conv_general_dilated(
            x, kernel, strides, around, rhs_dilation=dilations, dimension_numbers=numbers
        )

    def penalty(weights, layer):
        def scores(x):
            x = jnp.tanh(layer(x, weights[0][0], weights[1][0], 2, 1))
            return jnp.square(layer(x, weights[0][1], weights[1][1], 1, 2))

        return r1(scores, jnp.asarray(pictures))

    run = jax.jit(jax.grad(penalty), static_argnums=1)
    found, expected = (run((kernels, biases), layer) for layer in (ours, plain))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_a_critic_without_slope_has_a_penalty_and_a_gradient():
    """A root has no slope at zero: the first step of a critic that starts with zeros would be lost."""
    value, gradient = jax.value_and_grad(
        lambda weights: gradient_penalty(critic(weights), jnp.asarray(PICTURES), jnp.asarray(FAKES), BETWEEN)
    )(jnp.zeros((16, 5)))
    np.testing.assert_allclose(value, 1.0)
    assert jnp.isfinite(gradient).all()


def test_a_number_between_for_each_picture():
    with pytest.raises(InputError, match=r"\(2,\) numbers between real and fake for a batch of 3"):
        gradient_penalty(critic(WEIGHTS), jnp.asarray(PICTURES), jnp.asarray(FAKES), jnp.zeros(2))
