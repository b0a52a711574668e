"""Spectral normalisation (Miyato et al., arXiv 1802.05957, algorithm 1) of a convolution, in two conventions.

Published weights were trained with one or the other:

| | `SpectralConv` (TensorFlow, DeepFillv2) | `TorchSpectralConv` (``torch.nn.utils.spectral_norm``) |
|---|---|---|
| stored | u | u and v |
| power iteration | at every call | where ``spectral`` is mutable (torch's training mode) |
| gradient | through u, v and sigma | u and v are constants |
| padding, bias | SAME, a bias | a number of zeros, a bias or none |
"""

from collections.abc import Callable

import einops
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


class TorchSpectralConv(nn.Module):
    """A convolution whose kernel is divided by its largest singular value, as ``torch.nn.utils.spectral_norm`` does it.

    The kernel is the matrix W of c_out rows and c_in*k*k columns, in this order (that of torch's kernels, so v fits as
    it is published). Where the collection ``spectral`` is mutable, ``v' = l2(Wᵀ u)`` and ``u' = l2(W v')`` are stored
    and ``sigma = u'ᵀ W v'``; otherwise the stored u and v are used as they are. u and v are constants to the gradient:
    ``d sigma / dW = u vᵀ``. Torch starts with an unrelated v, for which sigma could be zero; here v starts as
    ``l2(Wᵀ u)``.

    features:    output channels
    kernel:      side of the square kernel
    stride:      of the convolution
    padding:     zeros at each of the four sides
    use_bias:    whether there is one
    kernel_init: how kernels start
    dtype:       of the activations; the power iteration is float32
    """

    features: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.glorot_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """b h w c -> (b h' w' features, {"sigma": scalar}); h' = (h + 2 padding - kernel) // stride + 1."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        weight = self.param("kernel", self.kernel_init, shape)
        bias = jnp.zeros(self.features)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        matrix = einops.rearrange(weight, "i j c o -> o (c i j)")
        constant = jax.lax.stop_gradient(matrix)
        # "highest": see `SpectralConv`.
        with jax.default_matmul_precision("highest"):
            u = self.variable("spectral", "u", self._first_u)
            v = self.variable("spectral", "v", lambda: _l2(u.value @ constant))
            if self.is_mutable_collection("spectral") and not self.is_initializing():
                v.value = _l2(u.value @ constant)
                u.value = _l2(v.value @ constant.T)
            sigma = jnp.sum((u.value @ matrix) * v.value)
        around = ((self.padding, self.padding),) * 2
        y = convolve(x.astype(self.dtype), weight / sigma, bias, stride=self.stride, padding=around)
        return y, {"sigma": sigma}

    def _first_u(self) -> jax.Array:
        return _l2(nn.initializers.normal(1.0)(self.make_rng("params"), (1, self.features)))


def _l2(x: jax.Array) -> jax.Array:
    # The maximum is inside: the slope of a root at zero is infinite.
    return x / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x)), 1e-24))
