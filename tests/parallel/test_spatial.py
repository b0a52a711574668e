"""Convolutions and attention with the height of pictures divided over four devices: values and all gradients equal
those of one device.

Sums are taken in another order, which is float32 rounding: a few 1e-7 of the largest value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.ops.attend import contextual_attention
from jaxpaint.ops.conv import convolve, convolve_doubled, interleave
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh, replicated, split

MESH = make_mesh(Layout(data=2, spatial=4))
QUICKLY = {"xla_backend_optimization_level": 0}


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def plain(x, kernel, bias, *, stride=1, dilation=1):
    """The same by JAX alone, and its gradients by JAX alone."""
    numbers = ("NHWC", "HWIO", "NHWC")
    strides, dilations = (stride, stride), (dilation, dilation)
    y = jax.lax.conv_general_dilated(x, kernel, strides, "SAME", rhs_dilation=dilations, dimension_numbers=numbers)
    return y + bias


def on_one_device(function, pictures, weights=()):
    """The result, and the gradients of a sum that weighs every element of it differently."""
    return jax.jit(_valued(function), compiler_options=QUICKLY)(*pictures, *weights)


def on_the_mesh(function, pictures, weights=()):
    """The same, pictures divided by rows; also the compiled program."""
    shardings = [split(MESH, x.shape) if x.shape[1] % 4 == 0 else replicated(MESH) for x in pictures]
    shardings += [replicated(MESH)] * len(weights)
    arguments = [jax.device_put(x, s) for x, s in zip([*pictures, *weights], shardings, strict=True)]
    with jax.set_mesh(MESH):
        jitted = jax.jit(_valued(function), in_shardings=shardings)
        compiled = jitted.lower(*arguments).compile(compiler_options=QUICKLY)
    return compiled(*arguments), compiled.as_text()


def _valued(function):
    def value(*arguments):
        y = function(*arguments).astype(jnp.float32)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)), y

    def run(*arguments):
        gradients, y = jax.grad(value, range(len(arguments)), has_aux=True)(*arguments)
        return y, gradients

    return run


def assert_equal(found, expected, tolerance=5e-6):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        b = np.asarray(b)
        np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1.0))


@pytest.mark.parametrize(
    ("height", "size", "stride", "dilation"),
    [
        (16, 3, 1, 1),
        (32, 5, 1, 1),
        (32, 3, 2, 1),
        (16, 5, 2, 1),
        (32, 3, 1, 4),
        (32, 3, 1, 16),  # the kernel reaches over two neighbours
        (4, 5, 2, 1),  # rows that the stride does not divide over the devices: whole on each
        (2, 5, 2, 1),
        (16, 1, 2, 1),
        (18, 3, 1, 1),
    ],
)
def test_convolutions(height, size, stride, dilation):
    x, kernel, bias = normal(4, height, 12, 3), normal(size, size, 3, 4, seed=1), normal(4, seed=2)
    options = {"stride": stride, "dilation": dilation}
    expected = on_one_device(functools.partial(plain, **options), [x], [kernel, bias])
    ours = functools.partial(convolve, **options)
    assert_equal(on_one_device(ours, [x], [kernel, bias]), expected)
    found, text = on_the_mesh(ours, [x], [kernel, bias])
    assert_equal(found, expected)
    if size > stride and height % (4 * stride) == 0:
        assert "collective-permute" in text  # halos travel
        assert "all-gather" not in text  # pictures do not


def test_convolution_of_the_doubled_picture():
    x, kernel, bias = normal(4, 8, 6, 3), normal(3, 3, 3, 5, seed=1), normal(5, seed=2)

    def doubled(x, kernel, bias):
        return plain(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2), kernel, bias)

    def ours(x, kernel, bias):
        return interleave(convolve_doubled(x, kernel, bias))

    expected = on_one_device(doubled, [x], [kernel, bias])
    assert_equal(on_one_device(ours, [x], [kernel, bias]), expected)
    assert_equal(on_the_mesh(ours, [x], [kernel, bias])[0], expected)


@pytest.mark.parametrize(("height", "elements"), [(16, 2**24), (16, 1), (12, 2**24)])
def test_attention(height, elements):
    """In one piece, in chunks of a row, and with rows at half resolution that four devices cannot divide."""
    f, b = normal(2, height, 8, 6), normal(2, height, 8, 6, seed=1)
    mask = jnp.zeros((2, height, 8, 1)).at[:, 3 : height // 2, 2:5].set(1.0)
    attend = functools.partial(contextual_attention, chunk_elements=elements)
    expected = on_one_device(attend, [f, b, mask])
    found, text = on_the_mesh(attend, [f, b, mask])
    # What is compared is divided by norms and goes through a softmax of sharpness 10, which amplify rounding.
    assert_equal(found, expected, tolerance=2e-5)
    assert ("reduce-scatter" in text) == (height % 8 == 0)


def test_gradients_of_bfloat16_layers_are_summed_in_float32():
    """Over a mesh, too: nothing is rounded to eight bits on its way through a pod."""
    mesh = make_mesh()
    x, kernel, bias = normal(8, 6, 6, 3).astype(jnp.bfloat16), normal(3, 3, 3, 4, seed=1), normal(4, seed=2)

    def loss(x, kernel, bias):
        return jnp.mean(jnp.square(convolve(x, kernel, bias).astype(jnp.float32)))

    gradient = jax.jit(
        jax.grad(loss, (1, 2)),
        in_shardings=(split(mesh, x.shape), replicated(mesh), replicated(mesh)),
        out_shardings=replicated(mesh),
    )
    text = gradient.lower(x, kernel, bias).compile().as_text()
    reductions = [line for line in text.splitlines() if " all-reduce(" in line]
    assert reductions and all("bf16" not in line for line in reductions)
    rounded = jax.grad(loss, (1, 2))(x.astype(jnp.float32), kernel.astype(jnp.bfloat16).astype(jnp.float32), bias)
    for a, b in zip(gradient(x, kernel, bias), rounded, strict=True):
        assert a.dtype == jnp.float32
        # What is left is the rounding of the layer's result and of its gradient, 2**-9 each, in a sum of 288.
        np.testing.assert_allclose(a, b, rtol=0, atol=2**-8 * float(jnp.abs(b).max()))


def test_second_derivatives_exist():
    """As a gradient penalty needs them: d/dk |dy/dx|², against JAX' own convolution."""
    x, kernel, bias = normal(1, 6, 5, 2), normal(3, 3, 2, 3, seed=1), normal(3, seed=2)

    def penalty(conv, kernel):
        slopes = jax.grad(lambda x: jnp.sum(jnp.sin(conv(x, kernel, bias))))(x)
        return jnp.sum(jnp.square(slopes))

    found, expected = (jax.grad(functools.partial(penalty, conv))(kernel) for conv in (convolve, plain))
    assert_equal(found, expected, tolerance=1e-5)


def test_without_a_mesh_nothing_is_divided():
    traced = str(jax.make_jaxpr(convolve)(normal(2, 8, 8, 3), normal(3, 3, 3, 4), normal(4)))
    assert "shard_map" not in traced and "sharding_constraint" not in traced
