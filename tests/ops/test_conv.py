"""Gradients of `convolve`: every form of them against JAX's own."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.ops import conv

SHAPE = (2, 11, 14, 3)

CASES = {
    "plain": (3, 1, 1, ((1, 1), (1, 1))),
    "stride": (3, 2, 1, ((0, 1), (0, 1))),
    "stride, rows left over": (2, 3, 1, ((0, 0), (0, 0))),
    "dilation": (3, 1, 4, ((4, 4), (4, 4))),
    "both": (5, 2, 2, ((4, 3), (2, 5))),
    "one-sided": (2, 1, 1, ((1, 0), (0, 1))),
    "more padding than the kernel reaches": (1, 1, 1, ((2, 1), (1, 3))),
}
"""name -> (kernel side, stride, dilation, padding)"""


@pytest.mark.parametrize("case", CASES)
def test_gradients(case):
    """What runs on a CPU, what runs elsewhere and the products of shifted inputs are all the gradients that JAX has."""
    side, stride, dilation, padding = CASES[case]
    how = (stride, dilation, padding)
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], SHAPE), jax.random.normal(keys[1], (side, side, 3, 4))
    out, transposed = jax.vjp(lambda x, kernel: conv._forward(x, kernel, *how), x, kernel)
    gradient = jax.random.normal(keys[2], out.shape)
    of_x, of_kernel = transposed(gradient)
    for form in (conv._input_gradient, conv._input_gradient_in_order):
        np.testing.assert_allclose(form(*how, x, kernel, gradient), of_x, atol=2e-5)
    for form in (conv._kernel_gradient, conv._kernel_gradient_in_order, conv._kernel_gradient_by_products):
        np.testing.assert_allclose(form((side, side), *how, x, gradient), of_kernel, atol=2e-4)


@pytest.mark.parametrize("channels", [4, 96])
def test_gradients_in_a_loop_are_in_the_order_that_is_fast_on_a_cpu(channels):
    """XLA does not turn axes by itself in a loop, and has slow code for every other order."""
    x, kernel, bias = jnp.ones((2, 32, 32, channels)), jnp.ones((3, 3, channels, channels)), jnp.zeros(channels)

    def step(kernel, x):
        of_kernel, of_x = jax.grad(lambda kernel, x: jnp.sum(conv.convolve(x, kernel, bias) ** 2), (0, 1))(kernel, x)
        return of_kernel, of_x

    program = jax.jit(lambda kernel, x: jax.lax.scan(step, kernel, x)).lower(kernel, jnp.stack([x, x])).compile()
    orders = set(re.findall(r" convolution\(.*dim_labels=([^, ]+)", program.as_text()))
    assert orders == {"b01f_01io->b01f"}
