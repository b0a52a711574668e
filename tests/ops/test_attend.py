"""Contextual attention: chunks change nothing, memory is bounded, bad sizes are refused. Values: tests/goldens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.ops import attend
from jaxpaint.ops.resize import nearest_align_corners
from jaxpaint.types import InputError

QUICKLY = {"xla_backend_optimization_level": 0}  # compiling is nearly all of the time
contextual_attention = jax.jit(
    attend.contextual_attention, static_argnames=("fuse", "chunk_elements"), compiler_options=QUICKLY
)


def features(height, width, channels=6, batch=2, seed=0):
    f, b = jax.random.normal(jax.random.key(seed), (2, batch, height, width, channels))
    mask = jnp.zeros((batch, height, width, 1)).at[:, 3 : height // 2, 2 : width // 2].set(1.0)
    return f, b, mask


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("size", [(12, 16), (4, 2), (2, 6), (14, 10)])
def test_chunks_change_nothing(fuse, size):
    f, b, mask = features(*size)
    whole = contextual_attention(f, b, mask, fuse=fuse)
    for elements in (1, size[1] // 2 * (size[0] // 2) * (size[1] // 2) * 2 * 3):
        parts = contextual_attention(f, b, mask, fuse=fuse, chunk_elements=elements)
        np.testing.assert_allclose(parts, whole, atol=2e-5)


def test_gradients_through_chunks():
    f, b, mask = features(8, 12)

    def total(f, b, elements):
        return jnp.sum(jnp.sin(attend.contextual_attention(f, b, mask, chunk_elements=elements)))

    grad = jax.jit(jax.grad(total, (0, 1)), static_argnums=2, compiler_options=QUICKLY)
    whole, parts = grad(f, b, 2**24), grad(f, b, 1)
    for a, c in zip(whole, parts, strict=True):
        np.testing.assert_allclose(c, a, atol=1e-4)

    # Half of the features zero, as after a ReLU: norms of zero, where a root has no slope.
    f = f.at[:, :, :6].set(0)
    assert all(jnp.isfinite(g).all() for g in grad(f, f, 2**24))


def test_chunks_do_not_shrink_with_a_global_batch():
    """Training at 256x256 (32 rows of 32 positions) is never in chunks, however many devices share the batch."""
    for batch, loops in ((1, 0), (16, 0), (256, 0)):
        f = jax.ShapeDtypeStruct((batch, 64, 64, 4), jnp.float32)
        traced = str(jax.make_jaxpr(attend.contextual_attention)(f, f))
        assert traced.count("scan[") == loops
    f = jax.ShapeDtypeStruct((1, 256, 256, 4), jnp.float32)
    assert "scan[" in str(jax.make_jaxpr(attend.contextual_attention)(f, f))


def test_bfloat16_keeps_norms_and_softmax_in_float32():
    """Scores of rounded features in float32: the result differs by the rounding of weights and pasted values alone,
    2**-8 relative each, and of four patches added in bfloat16, another 2**-8 each."""
    f, b, mask = features(8, 12)
    f, b = f.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    half = contextual_attention(f, b, mask)
    full = contextual_attention(f.astype(jnp.float32), b.astype(jnp.float32), mask)
    assert half.dtype == jnp.bfloat16
    size = float(jnp.abs(b.astype(jnp.float32)).max())
    np.testing.assert_allclose(half.astype(jnp.float32), full, atol=6 * 2**-8 * size)


def test_memory_is_bounded():
    """A picture of 1024x1024 has 16384 positions at the attention's resolution: their scores alone take 1 GiB a copy.
    In chunks of 2**24 scores (64 MiB) the attention needs under 1 GiB in all; nothing is run here."""
    f = jax.ShapeDtypeStruct((1, 256, 256, 96), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, 256, 256, 1), jnp.float32)
    memory = contextual_attention.lower(f, f, mask).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2**30


def test_every_picture_has_its_own_mask():
    f, b, mask = features(8, 8)
    mask = mask.at[1].set(0)
    both = contextual_attention(f, b, mask)
    for i in range(2):
        np.testing.assert_allclose(
            both[i : i + 1], contextual_attention(f[i : i + 1], b[i : i + 1], mask[i : i + 1]), atol=1e-5
        )


def test_indivisible_size():
    f, b, mask = features(6, 7)
    with pytest.raises(InputError, match="the foreground is 6x7, not divisible by rate 2"):
        contextual_attention(f, b, mask)


def test_nearest_align_corners_drifts():
    rows = nearest_align_corners(jnp.arange(64.0)[None, :, None, None], 32, 1)[0, :, 0, 0]
    assert rows[:4].tolist() == [0, 2, 4, 6]
    assert rows[-3:].tolist() == [59, 61, 63]
    doubled = nearest_align_corners(jnp.arange(5.0)[None, :, None, None], 10, 1)[0, :, 0, 0]
    assert doubled.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
