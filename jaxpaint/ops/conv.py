"""Convolution as the networks use it: activations in their own type, kernels and all their gradients in float32.

Two things that ``jax.lax.conv_general_dilated`` alone does not do:

- gradients of kernels and biases leave the products in float32, and so they are summed over devices: by itself a
  bfloat16 convolution gives bfloat16 gradients, rounded again by every sum over a pod;
- where the mesh divides the height of pictures (``spatial``), the parts exchange the rows that kernels reach into and
  every device convolves what it has. The compiler could divide convolutions by itself, but gradients of strided ones
  came out wrong (XLA of jax 0.10.2; ``tests/parallel/test_spatial.py``).
"""

import functools

import einops
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxpaint.ops.halo import with_halo
from jaxpaint.ops.placement import parts, undivided
from jaxpaint.types import DATA, FSDP, SPATIAL

Padding = tuple[tuple[int, int], tuple[int, int]]
"""((above, below), (left, right))"""


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: Padding | None = None,
) -> jax.Array:
    """A convolution with zeros around the picture.

    Args:
      x: b h w c, of any floating-point type
      kernel: k k c c', float32
      bias: c', float32
      stride: of the output's positions
      dilation: of the kernel
      padding: by default TensorFlow's SAME

    Returns:
      b h' w' c', of x's type; with SAME h' = ceil(h / stride)
    """
    reach = [(k - 1) * dilation + 1 for k in kernel.shape[:2]]
    if padding is None:
        padding = tuple(jax.lax.padtype_to_pads(x.shape[1:3], reach, (stride, stride), "SAME"))
    count = parts(SPATIAL)
    if count == 1:
        return _products(x, kernel, bias, stride, dilation, padding)
    (above, below), across = padding
    if x.shape[1] % (count * stride) or max(reach[0] - stride, 0) != above + below:
        return undivided(_products(undivided(x), kernel, bias, stride, dilation, padding))

    def part(x: jax.Array, *weights: jax.Array) -> jax.Array:
        kernel, bias = (jax.lax.pcast(w, (DATA, FSDP, SPATIAL), to="varying") for w in weights)
        return _products(with_halo(x, above, below, count), kernel, bias, stride, dilation, ((0, 0), across))

    rows, whole = PartitionSpec((DATA, FSDP), SPATIAL), PartitionSpec()
    return jax.shard_map(part, in_specs=(rows, whole, whole), out_specs=rows)(x, kernel, bias)


def convolve_doubled(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> list[jax.Array]:
    """A 3x3 convolution of a picture that is first doubled by repetition, without ever making the doubled picture.

    Where neighbours are equal their taps can be added: the even rows of the result see two rows of `x` through the
    kernel's rows (0, 1 + 2), the odd ones through (0 + 1, 2); columns likewise. Four 2x2 convolutions make four ninths
    of the products.

    Args:
      x: b h w c
      kernel: 3 3 c c', float32
      bias: c', float32

    Returns:
      the results at (even row, even column), (even, odd), (odd, even), (odd, odd), each b h w c'; see `interleave`
    """
    phases = []
    for row_taps, rows in ((_even, (1, 0)), (_odd, (0, 1))):
        for column_taps, columns in ((_even, (1, 0)), (_odd, (0, 1))):
            taps = column_taps(row_taps(kernel, 0), 1)
            phases.append(convolve(x, taps, bias, padding=(rows, columns)))
    return phases


def convolve_transposed(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> list[jax.Array]:
    """The transposed convolution of a 4x4 kernel, stride 2 and padding 1: torch's ``ConvTranspose2d(c, c', 4, 2, 1)``.

    ``kernel[i, j]`` is what a pixel (y, x) of the input adds to the pixel (2y - 1 + i, 2x - 1 + j) of the result: i and
    j count as in torch (whose layout is c c' i j), and backwards in Flax' ``ConvTranspose``. So the even rows of the
    result see two rows of `x` through the kernel's rows (3, 1), the odd ones through (2, 0); columns likewise: four
    2x2 convolutions, and no zeros between pixels are ever multiplied.

    Args:
      x: b h w c
      kernel: 4 4 c c', float32
      bias: c', float32

    Returns:
      the results at (even row, even column), (even, odd), (odd, even), (odd, odd), each b h w c'; see `interleave`
    """
    halves = ((slice(3, None, -2), (1, 0)), (slice(2, None, -2), (0, 1)))
    return [
        convolve(x, kernel[row_taps, column_taps], bias, padding=(rows, columns))
        for row_taps, rows in halves
        for column_taps, columns in halves
    ]


def interleave(phases: list[jax.Array]) -> jax.Array:
    """The four results of `convolve_doubled` or `convolve_transposed` in one picture, b 2h 2w c'."""
    return einops.rearrange(jnp.stack(phases), "(p q) b h w c -> b (h p) (w q) c", p=2, q=2)


def _even(kernel: jax.Array, axis: int) -> jax.Array:
    first, second, third = jnp.split(kernel, 3, axis)
    return jnp.concatenate([first, second + third], axis)


def _odd(kernel: jax.Array, axis: int) -> jax.Array:
    first, second, third = jnp.split(kernel, 3, axis)
    return jnp.concatenate([first + second, third], axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _products(x, kernel, bias, stride: int, dilation: int, padding: Padding):
    return _forward(x, kernel, stride, dilation, padding) + bias.astype(x.dtype)


def _forward(x, kernel, stride: int, dilation: int, padding: Padding):
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, stride),
        padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _products_forward(x, kernel, bias, stride: int, dilation: int, padding: Padding):
    return _products(x, kernel, bias, stride, dilation, padding), (x, kernel)


def _products_backward(stride: int, dilation: int, padding: Padding, kept, gradient):
    x, kernel = kept
    how = (stride, dilation, padding)
    products = _pays_as_products(x, gradient, kernel)

    def on_cpu(x, kernel, gradient):
        of_kernel = _kernel_gradient_by_products if products else _kernel_gradient_in_order
        return _input_gradient_in_order(*how, x, kernel, gradient), of_kernel(kernel.shape[:2], *how, x, gradient)

    def elsewhere(x, kernel, gradient):
        return _input_gradient(*how, x, kernel, gradient), _kernel_gradient(kernel.shape[:2], *how, x, gradient)

    # Lowered for what the program is for, which may not be what this process runs on.
    gradients = jax.lax.platform_dependent(x, kernel, gradient, cpu=on_cpu, default=elsewhere)
    return *gradients, jnp.sum(gradient, axis=(0, 1, 2), dtype=jnp.float32)


def _input_gradient(stride: int, dilation: int, padding: Padding, x, kernel, gradient):
    (for_x,) = jax.linear_transpose(lambda y: _forward(y, kernel, stride, dilation, padding), x)(gradient)
    return for_x


def _input_gradient_in_order(stride: int, dilation: int, padding: Padding, x, kernel, gradient):
    """The same, the kernel turned beforehand, so that axes stand in the order for which XLA has fast code on a CPU. By
    itself it brings them into that order in the main computation only (XLA of jax 0.10.2): in the body of a loop or in
    a function called, gradients took up to 50 times as long (`tests/benchmarks/kernel_gradients.py`)."""
    around = [
        ((k - 1) * dilation - before, size - 1 - (n - 1) * stride + before)
        for k, n, size, (before, _) in zip(kernel.shape[:2], gradient.shape[1:3], x.shape[1:3], padding, strict=True)
    ]
    return jax.lax.conv_general_dilated(
        gradient,
        jnp.flip(kernel, (0, 1)).swapaxes(2, 3).astype(gradient.dtype),
        (1, 1),
        around,
        lhs_dilation=(stride, stride),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _kernel_gradient(
    sides: tuple[int, int], stride: int, dilation: int, padding: Padding, x, gradient, axes=("CHWN", "IHWO", "HWNC")
):
    """A convolution of the input with the output's gradient, over the batch: what was stride is dilation and the other
    way round; the padding is such that it has the kernel's size."""
    of_input, of_gradient, _ = axes
    sizes = [x.shape[of_input.index(axis)] for axis in "HW"]
    counts = [gradient.shape[of_gradient.index(axis)] for axis in "HW"]
    around = [
        (before, (k - 1) * dilation + (n - 1) * stride + 1 - size - before)
        for k, n, size, (before, _) in zip(sides, counts, sizes, padding, strict=True)
    ]
    return jax.lax.conv_general_dilated(
        x,
        gradient,
        (dilation, dilation),
        around,
        rhs_dilation=(stride, stride),
        dimension_numbers=axes,
        preferred_element_type=jnp.float32,
    )


def _kernel_gradient_in_order(sides: tuple[int, int], stride: int, dilation: int, padding: Padding, x, gradient):
    """The same, axes turned before and after: see `_input_gradient_in_order`."""
    x, gradient = einops.rearrange(x, "b h w i -> i h w b"), einops.rearrange(gradient, "b h w o -> h w b o")
    turned = _kernel_gradient(sides, stride, dilation, padding, x, gradient, ("NHWC", "HWIO", "NHWC"))
    return einops.rearrange(turned, "i h w o -> h w i o")


def _kernel_gradient_by_products(sides: tuple[int, int], stride: int, dilation: int, padding: Padding, x, gradient):
    """The same, a matrix product for each tap: of the input, shifted by the tap, and the output's gradient."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = gradient.shape[1:3]

    def tap(row: int, column: int) -> jax.Array:
        top, left = row * dilation, column * dilation
        rows = slice(top, top + (height - 1) * stride + 1, stride)
        columns = slice(left, left + (width - 1) * stride + 1, stride)
        return jnp.einsum("b h w i, b h w o -> i o", x[:, rows, columns], gradient, preferred_element_type=jnp.float32)

    return jnp.stack([jnp.stack([tap(row, column) for column in range(sides[1])]) for row in range(sides[0])])


def _pays_as_products(x: jax.Array, gradient: jax.Array, kernel: jax.Array) -> bool:
    """Whether `_kernel_gradient_by_products` is the faster form on a CPU, as measured over the layers of our networks
    (`tests/benchmarks/kernel_gradients.py`): up to 3.7 times where a shifted input stays in a core's cache and the
    products are large enough to be worth k x k of them."""
    taps, inputs, outputs = kernel.shape[0] * kernel.shape[1], *kernel.shape[2:]
    positions = gradient.shape[0] * gradient.shape[1] * gradient.shape[2]
    cache = 2**20 * (2 if taps <= 4 else 1)  # in numbers
    return inputs <= 128 and positions * inputs <= cache and positions * taps * inputs * outputs >= 2**26


_products.defvjp(_products_forward, _products_backward)
