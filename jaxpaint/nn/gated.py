"""Gated convolution (Yu et al., Free-Form Image Inpainting with Gated Convolution, arXiv 1806.03589, section 3.1).

One convolution makes features and gates; the output is ``activation(features) * sigmoid(gates)``: at every place and
channel the layer learns how far what it sees there is valid. No normalisation.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.ops.resize import double


class GatedConv(nn.Module):
    """A gated convolution with TensorFlow's SAME zero padding.

    features:   output channels; the convolution has twice as many filters, features first, gates second
    kernel:     side of the square kernel
    stride:     of the convolution
    dilation:   of the kernel
    activation: of the features
    gain:       kernels start at so many times Glorot's uniform. At 1 a layer gives about a third of the signal that it
                gets (the split halves it, the gates halve it again); near 3 it gives as much
    dtype:      of the activations; parameters are float32
    """

    features: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    activation: Callable = nn.elu
    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """b h w c -> (b h/stride w/stride features, {"pre": before activation and gate, 2 * features channels})."""
        pre = nn.Conv(
            2 * self.features,
            (self.kernel, self.kernel),
            strides=self.stride,
            kernel_dilation=self.dilation,
            padding="SAME",
            kernel_init=nn.initializers.variance_scaling(self.gain**2, "fan_avg", "uniform"),
            dtype=self.dtype,
            name="conv",
        )(x)
        features, gates = jnp.split(pre, 2, axis=-1)
        return self.activation(features) * nn.sigmoid(gates), {"pre": pre}


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
        return GatedConv(self.features, gain=self.gain, dtype=self.dtype, name="conv")(double(x))
