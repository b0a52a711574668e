"""Layers against NumPy and plain convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxpaint.nn import GatedConv, GatedUpConv, SpectralConv, UpConv
from jaxpaint.nn.spectral import _l2
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh, replicated, split

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


def transposed_by_hand(x, kernel, bias):
    """What `convolve_transposed` says that an entry of the kernel does, one at a time."""
    b, h, w, _ = x.shape
    y = np.zeros((b, 2 * h + 2, 2 * w + 2, kernel.shape[-1]))  # a row and column more on each side
    for row in range(h):
        for column in range(w):
            for i in range(4):
                for j in range(4):
                    y[:, 2 * row + i, 2 * column + j] += x[:, row, column] @ kernel[i, j]
    return y[:, 1:-1, 1:-1] + bias


def test_up_convolution():
    layer = UpConv(5)
    x = jax.random.normal(KEY, (2, 3, 4, 2))
    variables = layer.init(KEY, x)
    variables["params"]["bias"] = jnp.arange(5.0)
    params = jax.tree.map(np.asarray, variables["params"])
    assert params["kernel"].shape == (4, 4, 2, 5)
    y = layer.apply(variables, x)
    assert y.shape == (2, 6, 8, 5)
    np.testing.assert_allclose(y, transposed_by_hand(np.asarray(x), **params), atol=1e-6)
    bare = UpConv(5, use_bias=False, dtype=jnp.bfloat16)
    assert list(bare.init(KEY, x)["params"]) == ["kernel"]
    half = bare.apply({"params": {"kernel": params["kernel"]}}, x)
    assert half.dtype == jnp.bfloat16
    # Numbers of 8 bits and up to 1.5, of which 8 are multiplied and added.
    np.testing.assert_allclose(np.float32(half), y - params["bias"], atol=8 * 1.5 * 2**-8)


def test_up_convolution_is_that_of_torch():
    torch = pytest.importorskip("torch")
    x, kernel, bias = (np.array(jax.random.normal(KEY, shape)) for shape in ((2, 5, 1, 3), (4, 4, 3, 6), (6,)))
    y = UpConv(6).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    theirs = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(kernel.transpose(2, 3, 0, 1).copy()),
        torch.from_numpy(bias),
        stride=2,
        padding=1,
    )
    np.testing.assert_allclose(y, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-5)


def test_gradients_of_the_up_convolution():
    """Against those of JAX's own, whose kernel counts backwards."""
    x, kernel = jax.random.normal(KEY, (2, 3, 4, 2)), jax.random.normal(KEY, (4, 4, 2, 5))

    def plain(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_transpose(x, kernel[::-1, ::-1], (2, 2), "SAME", dimension_numbers=numbers)

    def ours(x, kernel):
        return UpConv(5, use_bias=False).apply({"params": {"kernel": kernel}}, x)

    found, expected = (jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), (0, 1))(x, kernel) for f in (ours, plain))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_up_convolution_over_a_divided_height():
    x, kernel = jax.random.normal(KEY, (2, 8, 4, 3)), jax.random.normal(KEY, (4, 4, 3, 5))
    mesh = make_mesh(Layout(data=2, spatial=4))

    def run(x, kernel):
        y = UpConv(5, use_bias=False).apply({"params": {"kernel": kernel}}, x)
        return jnp.sum(jnp.sin(y)), y

    expected = jax.grad(run, (0, 1), has_aux=True)(x, kernel)
    shardings = (split(mesh, x.shape), replicated(mesh))
    with jax.set_mesh(mesh):
        compiled = jax.jit(jax.grad(run, (0, 1), has_aux=True), in_shardings=shardings).lower(x, kernel).compile()
    assert "collective-permute" in compiled.as_text()  # rows of neighbours travel
    assert "all-gather" not in compiled.as_text()  # pictures do not
    found = compiled(*jax.device_put((x, kernel), shardings))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=2e-5)
