"""Recurrent layers: a state goes in, a state comes out, so that `jax.lax.scan` or a stream of frames can carry it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.nn.conv import Conv


class Memory(NamedTuple):
    """What a `ConvLSTM` carries from one step to the next.

    hidden: b h w c, float32, within (-1, 1): what the layer gave
    cell:   b h w c, float32, unbounded
    """

    hidden: jax.Array
    cell: jax.Array

    @classmethod
    def empty(cls, batch: int, height: int, width: int, features: int) -> "Memory":
        """Zeros: before the first step."""
        return cls(*jnp.zeros((2, batch, height, width, features)))


class ConvLSTM(nn.Module):
    """A convolutional LSTM (Shi et al., arXiv 1506.04214, without its peephole connections).

    One convolution ``Gates`` of input and hidden state makes, in this order, input gate i, forget gate f, output gate o
    and candidate g:

        cell' = sigmoid(f) cell + sigmoid(i) tanh(g)        hidden' = sigmoid(o) tanh(cell')

    features:    channels of the state
    kernel:      side of the square kernel, odd
    kernel_init: how kernels start
    bias_init:   how biases start
    dtype:       of the convolution; the state and the arithmetic of the gates are float32
    """

    features: int
    kernel: int = 3
    kernel_init: Callable = nn.initializers.glorot_uniform()
    bias_init: Callable = nn.initializers.zeros
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, memory: Memory, x: jax.Array) -> tuple[Memory, jax.Array]:
        """(memory, b h w c) -> (the next memory, its hidden state: b h w features in `dtype`)."""
        gates = Conv(
            4 * self.features,
            self.kernel,
            padding=self.kernel // 2,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            name="Gates",
        )(jnp.concatenate([x.astype(self.dtype), memory.hidden.astype(self.dtype)], axis=-1))
        let_in, keep, let_out, candidate = jnp.split(gates.astype(jnp.float32), 4, axis=-1)
        cell = nn.sigmoid(keep) * memory.cell + nn.sigmoid(let_in) * jnp.tanh(candidate)
        hidden = nn.sigmoid(let_out) * jnp.tanh(cell)
        return Memory(hidden, cell), hidden.astype(self.dtype)
