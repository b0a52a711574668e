"""Layers in torch's conventions, against NumPy and JAX's own convolution.

That the spectral norm's numbers are torch's is `tests/goldens/test_edge_connect_golden.py`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.nn import Conv, TorchSpectralConv

KEY = jax.random.key(0)
QUICKLY = {"xla_backend_optimization_level": 0}
NUMBERS = ("NHWC", "HWIO", "NHWC")


def quickly(function, *arguments):
    """Compiled as one program, without optimisation: much sooner than operation by operation."""
    return jax.jit(function, compiler_options=QUICKLY)(*arguments)


@pytest.mark.parametrize(
    ("kernel", "padding", "around"),
    [
        (4, 1, ((1, 1), (1, 1))),
        ((1, 7), ((0, 0), (3, 3)), ((0, 0), (3, 3))),
        (3, 0, ((0, 0), (0, 0))),
        (3, None, "SAME"),
    ],
)
def test_padding(kernel, padding, around):
    x = jax.random.normal(KEY, (2, 9, 12, 3))
    layer = Conv(5, kernel, stride=2, padding=padding, use_bias=False)
    variables = quickly(layer.init, KEY, x)
    assert list(variables["params"]) == ["kernel"]
    weight = variables["params"]["kernel"]
    expected = jax.lax.conv_general_dilated(x, weight, (2, 2), around, dimension_numbers=NUMBERS)
    np.testing.assert_allclose(quickly(layer.apply, variables, x), expected, atol=1e-5)


def as_torch(kernel):
    """k k c o -> the matrix o (c k k), float64."""
    kernel = np.asarray(kernel, np.float64)
    return kernel.transpose(3, 2, 0, 1).reshape(kernel.shape[3], -1)


def unit(x):
    return x / np.linalg.norm(x)


def test_power_iteration():
    """Stored where `spectral` is mutable; otherwise what is stored is used as it is."""
    layer = TorchSpectralConv(5, 4, stride=2, padding=1, use_bias=False)
    x = jax.random.normal(KEY, (1, 9, 12, 3))
    variables = quickly(layer.init, KEY, x)
    assert {name: array.shape for name, array in variables["spectral"].items()} == {"u": (1, 5), "v": (1, 48)}
    matrix = as_torch(variables["params"]["kernel"])
    # Another v than the iteration would give, as in a published file of which we know nothing.
    given = {"u": variables["spectral"]["u"], "v": jnp.ones((1, 48)) / np.sqrt(48)}
    variables = {**variables, "spectral": given}
    u, v = (np.asarray(given[name], np.float64)[0] for name in ("u", "v"))

    y, out = quickly(layer.apply, variables, x)
    np.testing.assert_allclose(out["sigma"], u @ matrix @ v, rtol=1e-5)
    kernel = variables["params"]["kernel"] / out["sigma"]
    plain = jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=NUMBERS)
    np.testing.assert_allclose(y, plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())

    (_, out), changed = quickly(functools.partial(layer.apply, mutable=["spectral"]), variables, x)
    v = unit(matrix.T @ u)
    u = unit(matrix @ v)
    np.testing.assert_allclose(changed["spectral"]["v"][0], v, atol=1e-6)
    np.testing.assert_allclose(changed["spectral"]["u"][0], u, atol=1e-6)
    np.testing.assert_allclose(out["sigma"], u @ matrix @ v, rtol=1e-5)


def test_it_starts_with_a_norm_that_can_be_divided_by():
    """Torch draws v by itself: sigma would be near zero, of either sign, until the first iteration."""
    layer = TorchSpectralConv(16, 4, padding=1)
    variables = quickly(layer.init, KEY, jnp.zeros((1, 8, 8, 8)))
    _, out = quickly(layer.apply, variables, jnp.zeros((1, 8, 8, 8)))
    largest = np.linalg.norm(as_torch(variables["params"]["kernel"]), 2)
    assert 0.4 * largest < out["sigma"] <= 1.0001 * largest


def test_u_and_v_are_constants_to_the_gradient():
    """d sigma / dW = u vᵀ, of the new u and v."""
    layer = TorchSpectralConv(3, 2)
    x = jnp.zeros((1, 4, 4, 2))
    variables = quickly(layer.init, KEY, x)

    def sigma(kernel):
        params = {**variables["params"], "kernel": kernel}
        (_, out), changed = layer.apply({**variables, "params": params}, x, mutable=["spectral"])
        return out["sigma"], changed["spectral"]

    gradient, stored = quickly(jax.grad(sigma, has_aux=True), variables["params"]["kernel"])
    np.testing.assert_allclose(as_torch(gradient), np.outer(stored["u"], stored["v"]), atol=1e-6)
