"""Spectral normalisation (Miyato et al., arXiv 1802.05957, algorithm 1) of a convolution."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.ops.conv import convolve


class SpectralConv(nn.Module):
    """A convolution whose kernel is divided by its largest singular value, found by one power iteration a call.

    The kernel is the matrix W of k*k*c_in rows and c_out columns. From the stored u (1, c_out) come
    ``v = l2(u Wᵀ)``, ``u' = l2(v W)`` and ``sigma = v W u'ᵀ``. Where the collection ``spectral`` is mutable, u' is
    stored. Gradients flow through u', v and sigma, as in the TensorFlow code of DeepFillv2.

    features: output channels
    kernel:   side of the square kernel
    stride:   of the convolution, with TensorFlow's SAME padding
    dtype:    of the activations; the power iteration is float32
    """

    features: int
    kernel: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """b h w c -> (b h/stride w/stride features, {"sigma": scalar})."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        weight = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        stored = self.variable("spectral", "u", self._first_u)
        matrix = weight.reshape(-1, self.features)
        # "highest": a power iteration in bfloat16 passes, the default on TPU, would rescale the whole layer.
        with jax.default_matmul_precision("highest"):
            v = _l2(stored.value @ matrix.T)
            u = _l2(v @ matrix)
            sigma = jnp.sum((v @ matrix) * u)
        if self.is_mutable_collection("spectral") and not self.is_initializing():
            stored.value = jax.lax.stop_gradient(u)
        y = convolve(x.astype(self.dtype), weight / sigma, bias, stride=self.stride)
        return y, {"sigma": sigma}

    def _first_u(self) -> jax.Array:
        return nn.initializers.truncated_normal(1.0)(self.make_rng("params"), (1, self.features))


def _l2(x: jax.Array) -> jax.Array:
    # The maximum is inside: the slope of a root at zero is infinite.
    return x / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x)), 1e-24))
