"""Which floating-point type activations have."""

import jax
import jax.numpy as jnp

from jaxpaint.types import InputError

POLICIES = ("auto", "float32", "bfloat16")


def compute_dtype(policy: str) -> jnp.dtype:
    """The type of activations under a policy; everything else stays float32.

    ``auto`` is bfloat16 on TPU and GPU, float32 on CPU. Parameters, optimiser states, softmax,
    spectral norm and losses are float32 under every policy. float16 is not offered: its range is
    what made published GANs overflow.
    """
    if policy == "auto":
        policy = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if policy not in POLICIES:
        raise InputError(f"precision is {policy!r}: expected one of {', '.join(POLICIES)}")
    return jnp.dtype(policy)
