"""Layers against NumPy and plain convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxpaint.nn import GatedConv, GatedUpConv, SpectralConv
from jaxpaint.nn.spectral import _l2

KEY = jax.random.key(0)


def test_gated_convolution_is_features_times_gates():
    x = jax.random.normal(KEY, (2, 7, 10, 3))
    layer = GatedConv(4, kernel=3, stride=2, dilation=1, activation=nn.relu)
    variables = layer.init(KEY, x)
    kernel = variables["params"]["conv"]["kernel"]
    assert kernel.shape == (3, 3, 3, 8)
    y, out = layer.apply(variables, x)
    pre = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(out["pre"], pre, atol=1e-6)
    np.testing.assert_allclose(y, np.maximum(pre[..., :4], 0) / (1 + np.exp(-pre[..., 4:])), atol=1e-6)


def test_gated_up_convolution_doubles_first():
    x = jax.random.normal(KEY, (1, 3, 4, 2))
    layer = GatedUpConv(5)
    variables = layer.init(KEY, x)
    y, _ = layer.apply(variables, x)
    doubled = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
    expected, _ = GatedConv(5).apply({"params": variables["params"]["conv"]}, doubled)
    np.testing.assert_allclose(y, expected, atol=1e-6)  # taps are added before the products and not after


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_gain_scales_the_first_kernels(gain):
    """Uniform in ± gain * sqrt(6 / (fan_in + fan_out)), the fans counting both halves of the filters."""
    kernel = GatedConv(16, gain=gain).init(KEY, jnp.zeros((1, 4, 4, 32)))["params"]["conv"]["kernel"]
    limit = gain * np.sqrt(6 / (9 * 32 + 9 * 32))
    assert 0.95 * limit < np.abs(kernel).max() <= limit


def test_spectral_norm_converges_to_the_largest_singular_value():
    layer = SpectralConv(6, 3)
    x = jax.random.normal(KEY, (1, 8, 8, 4))
    variables = layer.init(KEY, x)
    matrix = np.asarray(variables["params"]["kernel"]).reshape(-1, 6)
    largest = np.linalg.svd(matrix, compute_uv=False)[0]
    for _ in range(100):
        (y, out), changed = layer.apply(variables, x, mutable=["spectral"])
        variables = {**variables, **changed}
    np.testing.assert_allclose(out["sigma"], largest, rtol=1e-5)
    kernel = (matrix / largest).reshape(3, 3, 4, 6)
    plain = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(y, plain, atol=1e-4)


def test_one_power_iteration_a_call_and_none_stored_unless_mutable():
    layer = SpectralConv(5, 3)
    x = jnp.zeros((1, 4, 4, 2))
    variables = layer.init(KEY, x)
    u, matrix = np.asarray(variables["spectral"]["u"]), np.asarray(variables["params"]["kernel"]).reshape(-1, 5)
    v = u @ matrix.T
    v /= np.linalg.norm(v)
    new = v @ matrix
    sigma = np.linalg.norm(new)
    _, out = layer.apply(variables, x)
    np.testing.assert_allclose(out["sigma"], sigma, rtol=1e-5)
    (_, out), changed = layer.apply(variables, x, mutable=["spectral"])
    np.testing.assert_allclose(changed["spectral"]["u"], new / sigma, rtol=1e-5)
    np.testing.assert_allclose(out["sigma"], sigma, rtol=1e-5)


def test_gradients_flow_through_the_norm():
    """d(W / sigma)/dW keeps the direction of W out of the gradient: scaling W changes nothing."""
    layer = SpectralConv(5, 3)
    x = jax.random.normal(KEY, (1, 6, 6, 2))
    variables = layer.init(KEY, x)

    def loss(scale):
        params = {**variables["params"], "kernel": scale * variables["params"]["kernel"]}
        return jnp.sum(layer.apply({**variables, "params": params}, x)[0] ** 2)

    assert abs(jax.grad(loss)(1.0)) < 1e-4 * loss(1.0)


def test_a_vector_of_zeros_has_a_gradient():
    """The root of a sum of squares has none at zero."""
    assert jnp.isfinite(jax.grad(lambda x: _l2(x).sum())(jnp.zeros(3))).all()
