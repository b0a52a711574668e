"""Gated convolution (Yu et al., Free-Form Image Inpainting with Gated Convolution, arXiv 1806.03589, section 3.1).

One convolution makes features and gates; the output is ``activation(features) * sigmoid(gates)``: at every place and
channel the layer learns how far what it sees there is valid. No normalisation.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.nn.conv import Conv, DoubledConv
from jaxpaint.ops.conv import interleave


class GatedConv(nn.Module):
    """A gated convolution with zeros around the picture.

    features:    output channels; the convolution has twice as many filters, features first, gates second
    kernel:      side of the square kernel
    stride:      of the convolution
    dilation:    of the kernel
    activation:  of the features
    gain:        kernels start at so many times Glorot's uniform. At 1 a layer gives about a third of the signal that it
                 gets (the split halves it, the gates halve it again); near 3 it gives as much
    padding:     zeros at each of the four sides (as torch counts); None is TensorFlow's SAME
    use_bias:    whether there is one
    kernel_init: how kernels start, in place of what `gain` says
    dtype:       of the activations; parameters are float32
    """

    features: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    activation: Callable = nn.elu
    gain: float = 1.0
    padding: int | None = None
    use_bias: bool = True
    kernel_init: Callable | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """b h w c -> (b h/stride w/stride features, {"pre": before activation and gate, 2 * features channels})."""
        pre = Conv(
            2 * self.features,
            self.kernel,
            self.stride,
            self.dilation,
            self.padding,
            self.use_bias,
            kernel_init=self.kernel_init or _scaled(self.gain),
            dtype=self.dtype,
            name="conv",
        )(x)
        return gate(pre, self.activation), {"pre": pre}


class GatedUpConv(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 gated convolution.

    features: output channels
    gain:     see `GatedConv`
    dtype:    of the activations
    """

    features: int
    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """b h w c -> (b 2h 2w features, {"pre": …})."""
        phases = _UpPhases(2 * self.features, self.gain, self.dtype, name="conv")(x)
        return interleave([gate(pre, nn.elu) for pre in phases]), {"pre": interleave(phases)}


class _UpPhases(nn.Module):
    """The convolution of `GatedUpConv`, one level further down, where published files have it (``conv.conv``)."""

    features: int
    gain: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        init = _scaled(self.gain)
        return DoubledConv(self.features, kernel_init=init, dtype=self.dtype, name="conv")(x)


@functools.partial(jax.checkpoint, static_argnums=1)
def gate(pre: jax.Array, activation: Callable) -> jax.Array:
    """``activation(features) * sigmoid(gates)`` of ``pre``, features first: ... 2c -> ... c.

    Made again in the backward pass: keeping `pre` alone takes a third off a generator's memory, and costs nothing
    beside the convolutions.
    """
    features, gates = jnp.split(pre, 2, axis=-1)
    return activation(features) * nn.sigmoid(gates)


def _scaled(gain: float) -> Callable:
    return nn.initializers.variance_scaling(gain**2, "fan_avg", "uniform")
