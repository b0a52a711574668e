"""Convolutions with the parameters that Flax's ``Conv`` has (``kernel`` k k c c', ``bias``), on `jaxpaint.ops.conv`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.ops.conv import Padding, convolve, convolve_doubled, convolve_transposed, interleave


class Conv(nn.Module):
    """A convolution with zeros around the picture.

    features:    output channels
    kernel:      side of the square kernel, or (height, width)
    stride:      of the convolution
    dilation:    of the kernel
    padding:     zeros at each of the four sides (as torch counts), or ((above, below), (left, right)); None is
                 TensorFlow's SAME
    use_bias:    whether there is one
    kernel_init: how kernels start
    bias_init:   how biases start
    dtype:       of the activations; parameters and their gradients are float32
    """

    features: int
    kernel: int | tuple[int, int] = 3
    stride: int = 1
    dilation: int = 1
    padding: int | Padding | None = None
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.glorot_uniform()
    bias_init: Callable = nn.initializers.zeros
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """b h w c -> b h' w' features; with SAME h' = ceil(h / stride)."""
        sides = (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel
        kernel = self.param("kernel", self.kernel_init, (*sides, x.shape[-1], self.features))
        bias = jnp.zeros(self.features)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,))
        around = ((self.padding, self.padding),) * 2 if isinstance(self.padding, int) else self.padding
        x = x.astype(self.dtype)
        return convolve(x, kernel, bias, stride=self.stride, dilation=self.dilation, padding=around)


class DoubledConv(nn.Module):
    """A 3x3 convolution of the picture doubled by repetition, which is never made.

    features:    output channels
    kernel_init: how kernels start
    dtype:       of the activations; parameters and their gradients are float32
    """

    features: int
    kernel_init: Callable = nn.initializers.glorot_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """b h w c -> four results b h w features; `jaxpaint.ops.conv.interleave` makes one b 2h 2w features of them."""
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve_doubled(x.astype(self.dtype), kernel, bias)


class UpConv(nn.Module):
    """A transposed convolution that doubles a picture: torch's ``ConvTranspose2d(c, c', 4, stride=2, padding=1)``.

    ``kernel`` is 4 4 c c'; which entry goes where says `jaxpaint.ops.conv.convolve_transposed`.

    features:    output channels
    use_bias:    whether there is one
    kernel_init: how kernels start
    dtype:       of the activations; parameters and their gradients are float32
    """

    features: int
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.glorot_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """b h w c -> b 2h 2w features."""
        kernel = self.param("kernel", self.kernel_init, (4, 4, x.shape[-1], self.features))
        bias = jnp.zeros(self.features)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return interleave(convolve_transposed(x.astype(self.dtype), kernel, bias))
