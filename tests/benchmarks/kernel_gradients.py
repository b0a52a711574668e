"""Gradients of convolution kernels on a CPU, layer by layer: the convolution, and the products of shifted inputs.

    python tests/benchmarks/kernel_gradients.py

What `jaxpaint.ops.conv._pays_as_products` decides by. Prints milliseconds of both forms for layers of IIVI (batch 5,
96x160), DeepFillv2 (batch 2, 256x256), VINet and contextual training, and which of them the rule takes; and those of
the convolution in the body of a loop, with axes as they come and turned beforehand, as `jaxpaint.ops.conv` does.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.ops import conv

LAYERS = (
    (5, 96, 160, 4, 48, 5, 1, 1),
    (5, 96, 160, 24, 96, 3, 2, 1),
    (5, 48, 80, 48, 96, 3, 1, 1),
    (5, 48, 80, 48, 192, 3, 2, 1),
    (5, 24, 40, 96, 192, 3, 1, 1),
    (5, 24, 40, 96, 192, 3, 1, 4),
    (5, 24, 40, 96, 192, 3, 1, 16),
    (5, 24, 40, 96, 96, 2, 1, 1),
    (5, 48, 80, 48, 48, 2, 1, 1),
    (5, 96, 160, 24, 24, 3, 1, 1),
    (5, 96, 160, 12, 3, 3, 1, 1),
    (2, 256, 256, 5, 48, 5, 1, 1),
    (2, 256, 256, 24, 48, 3, 2, 1),
    (2, 128, 128, 48, 96, 3, 1, 1),
    (2, 64, 64, 96, 192, 3, 1, 1),
    (2, 64, 64, 96, 192, 3, 1, 8),
    (2, 128, 128, 48, 48, 2, 1, 1),
    (2, 64, 64, 96, 96, 2, 1, 1),
    (2, 256, 256, 24, 24, 3, 1, 1),
    (8, 64, 64, 24, 96, 3, 2, 1),
    (8, 32, 32, 48, 96, 3, 1, 1),
    (8, 16, 16, 96, 192, 3, 1, 1),
    (4, 32, 32, 256, 256, 5, 2, 1),
    (8, 96, 96, 64, 64, 3, 1, 1),
)
"""batch, height, width, channels in and out, kernel, stride, dilation"""


def milliseconds(function, *arrays) -> float:
    """The fastest of five calls, after one to compile."""
    jax.block_until_ready(function(*arrays))
    times = []
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(function(*arrays))
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)


def looped(function):
    """The same over an axis in front of the first array."""
    return lambda xs, gradient: jax.lax.map(lambda x: function(x, gradient), xs)


def main() -> None:
    rng = np.random.default_rng(0)
    print(
        "batch height width in out kernel stride dilation | convolution ms | products ms | ratio | taken "
        "| in a loop: as it comes ms | turned ms"
    )
    for batch, height, width, inputs, outputs, side, stride, dilation in LAYERS:
        reach = (side - 1) * dilation + 1
        padding = tuple(jax.lax.padtype_to_pads((height, width), (reach, reach), (stride, stride), "SAME"))
        x = jnp.asarray(rng.normal(size=(batch, height, width, inputs)), jnp.float32)
        gradient = rng.normal(size=(batch, -(-height // stride), -(-width // stride), outputs))
        gradient = jnp.asarray(gradient, jnp.float32)
        forms = (conv._kernel_gradient, conv._kernel_gradient_by_products, conv._kernel_gradient_in_order)
        plain, products, turned = (functools.partial(form, (side, side), stride, dilation, padding) for form in forms)
        loops = [milliseconds(jax.jit(looped(form)), x[None], gradient) for form in (plain, turned)]
        plain, products = (milliseconds(jax.jit(form), x, gradient) for form in (plain, products))
        taken = conv._pays_as_products(x, gradient, jnp.empty((side, side, inputs, outputs)))
        layer = f"{batch} {height:3} {width:3} {inputs:3} {outputs:3} {side} {stride} {dilation:2}"
        print(
            f"{layer} | {plain:6.1f} | {products:6.1f} | {plain / products:4.2f} | {'yes' if taken else 'no':3} "
            f"| {loops[0]:6.1f} | {loops[1]:6.1f}"
        )


if __name__ == "__main__":
    main()
