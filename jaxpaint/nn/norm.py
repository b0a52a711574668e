"""Normalisation: of the whole batch, on however many devices it lies (Ioffe and Szegedy, arXiv 1502.03167), and of each
picture by itself (Ulyanov et al., arXiv 1607.08022)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.ops.placement import mean_over_devices


class BatchNorm(nn.Module):
    """Batch normalisation with the variables of Flax's: ``scale`` and ``bias``, ``batch_stats`` ``mean`` and ``var``.

    In training the statistics are those of all examples of an update, over batch, height and width. Under jit the
    compiler adds them up over the mesh; under pmap they are averaged over the devices here. Gradients flow through
    them. The variance is that of the batch, divided by its count (torch stores count - 1, which differs where the
    batch is tiny).

    use_running_average: normalise with what is stored, and store nothing; here or in the call
    momentum:            what stays of the stored statistics at an update: 0.9 is torch's 0.1
    epsilon:             added to the variance
    dtype:               of the result; statistics and parameters are float32
    """

    use_running_average: bool | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool | None = None) -> jax.Array:
        """b ... c -> the same shape."""
        stored = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        features = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        var = self.variable("batch_stats", "var", jnp.ones, features)
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        x = x.astype(jnp.float32)
        if stored:
            by, around = var.value, mean.value
        else:
            over = tuple(range(x.ndim - 1))
            # The mean of squares needs no second look at x, nor a second exchange between devices.
            around, squares = mean_over_devices((jnp.mean(x, over), jnp.mean(jnp.square(x), over)))
            by = jnp.maximum(squares - jnp.square(around), 0)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                mean.value = self.momentum * mean.value + (1 - self.momentum) * around
                var.value = self.momentum * var.value + (1 - self.momentum) * by
        factor = scale * jax.lax.rsqrt(by + self.epsilon)
        return ((x - around) * factor + bias).astype(self.dtype)


class InstanceNorm(nn.Module):
    """Every channel of every picture brought to mean 0 and variance 1 over its positions; no parameters.

    torch's ``InstanceNorm2d`` with its defaults: no learned scale, nothing stored, the same in training and inference.

    epsilon: added to the variance
    dtype:   of the result; statistics are float32
    """

    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """b ... c -> the same shape."""
        over = tuple(range(1, x.ndim - 1))
        x = x.astype(jnp.float32)
        x = x - jnp.mean(x, over, keepdims=True)
        return (x * jax.lax.rsqrt(jnp.mean(jnp.square(x), over, keepdims=True) + self.epsilon)).astype(self.dtype)
