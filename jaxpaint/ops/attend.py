"""Attention between image regions: contextual attention (Yu et al., arXiv 1801.07892, section 3.1; as released
with Free-Form Image Inpainting with Gated Convolution, arXiv 1806.03589).

Every position of a feature map is rebuilt from patches of the known region: scores are cosine-like similarities of
3x3 patches at half resolution, made coherent by `fuse`, and the weighted patches are pasted back at full resolution.

All positions are compared with all others, n x n scores with n = h * w / rate². They are made for a few rows of the
picture at a time, so that memory is bounded by `chunk_elements` and not by n²; every chunk is a matrix product.
"""

import jax
import jax.numpy as jnp

from jaxpaint.ops.patches import add_patches, extract_patches
from jaxpaint.ops.resize import nearest_align_corners
from jaxpaint.types import InputError

LEAST_PER_PICTURE = 2**20
"""Scores of one picture that are made at a time whatever the batch: those of a 256x256 picture."""


def contextual_attention(
    foreground: jax.Array,
    background: jax.Array,
    mask: jax.Array | None = None,
    *,
    kernel: int = 3,
    rate: int = 2,
    softmax_scale: float = 10.0,
    fuse: bool = True,
    chunk_elements: int = 2**24,
) -> jax.Array:
    """Rebuilds the foreground from known patches of the background.

    Args:
      foreground: b h w c, features whose positions ask; h and w divisible by `rate`
      background: b h' w' c, features whose patches are pasted
      mask: b h' w' 1 (or 1 h' w' 1, shared), 1 = hole, at the background's size; None: all is known
      kernel: side of the patches that are compared, at the reduced resolution
      rate: reduction before comparing; patches of 2 * rate are pasted with stride `rate`
      softmax_scale: the sharpness λ of the softmax over patches
      fuse: add the scores of neighbours in the same displacement (the paper's attention propagation),
        first along rows, then along columns; at the ends of a line it runs on in the next, as released
      chunk_elements: scores held at a time, over the batch (16 M take 64 MiB in float32). A batch of more than 16
        pictures may hold 2**20 of each: under a mesh it is the batch of all devices, which share the memory

    Returns:
      b h w c, in the foreground's type; scores, softmax and norms are float32. Patches that touch the hole get no
      weight, but their zero scores count in the softmax's denominator, as released. Pasted sums are divided by
      four everywhere, so the outermost ring is darker, as released.

    Raises:
      InputError: if a size is not divisible by `rate`.
    """
    for name, x in (("foreground", foreground), ("background", background)):
        if x.shape[1] % rate or x.shape[2] % rate:
            raise InputError(
                f"contextual attention: the {name} is {x.shape[1]}x{x.shape[2]}, not divisible by rate {rate}: "
                f"pad the picture (to a multiple of {4 * rate} for DeepFillv2)"
            )
    batch, height, width = foreground.shape[0], foreground.shape[1] // rate, foreground.shape[2] // rate
    key_height, key_width = background.shape[1] // rate, background.shape[2] // rate
    queries = extract_patches(nearest_align_corners(foreground, height, width), kernel)
    keys = extract_patches(nearest_align_corners(background, key_height, key_width), kernel).astype(jnp.float32)
    # max(norm, 1e-4), with the maximum inside: the slope of a root at zero is infinite, and features after a ReLU have
    # patches that are zero all over.
    norm = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(keys), axis=(3, 4, 5), keepdims=True), 1e-8))
    keys = (keys / norm).astype(queries.dtype)
    values = extract_patches(background, 2 * rate, rate)
    if mask is None:
        known = jnp.ones((batch, key_height * key_width), jnp.float32)
    else:
        holes = extract_patches(nearest_align_corners(mask, key_height, key_width).astype(jnp.float32), kernel)
        known = (jnp.max(holes, axis=(3, 4, 5)) == 0).astype(jnp.float32).reshape(mask.shape[0], -1)
        known = jnp.broadcast_to(known, (batch, known.shape[1]))

    budget = max(chunk_elements // batch, min(chunk_elements, LEAST_PER_PICTURE))
    rows = _rows_per_chunk(height, width * key_height * key_width, budget)

    def one(queries, keys, values, known):
        """One picture: (n d), (m d), (m e), (m) -> n e."""
        # Two zero rows at each end: the fused neighbours of the first and last positions.
        padded = jnp.pad(queries, ((2, 2), (0, 0)))

        def similarity(start, length):
            """Scores of positions start … start + length, fused along rows: length m."""
            part = jax.lax.dynamic_slice_in_dim(padded, start + 1, length + 2)
            scores = jnp.einsum("nd,md->nm", part, keys, preferred_element_type=jnp.float32)
            if not fuse:
                return scores[1:-1]
            before = jnp.pad(scores[:-2, :-1], ((0, 0), (1, 0)))
            after = jnp.pad(scores[2:, 1:], ((0, 0), (0, 1)))
            return before + scores[1:-1] + after

        def scores_of(first_row):
            start = first_row * width
            main = similarity(start, rows * width)
            if not fuse:
                return main
            # The row above: for the first one, the last row one column to the left (column-major order runs on).
            at_top, at_end = first_row == 0, first_row + rows == height
            above = similarity(jnp.where(at_top, (height - 1) * width - 1, start - width), width)
            above = above.at[0].multiply(jnp.where(at_top, 0.0, 1.0))
            below = similarity(jnp.where(at_end, 1, start + rows * width), width)
            below = below.at[-1].multiply(jnp.where(at_end, 0.0, 1.0))
            stacked = jnp.concatenate([above, main, below]).reshape(-1, key_height, key_width)
            before, centre, after = stacked[: -2 * width], stacked[width:-width], stacked[2 * width :]
            return (_previous(before) + centre + _next(after)).reshape(rows * width, -1)

        def chunk(first_row):
            weights = jax.nn.softmax(softmax_scale * known * scores_of(first_row), axis=-1) * known
            return jnp.einsum("nm,me->ne", weights.astype(values.dtype), values)

        if rows == height:
            return chunk(jnp.int32(0))
        pasted = jax.lax.map(jax.checkpoint(chunk), jnp.arange(0, height, rows))
        return pasted.reshape(height * width, -1)

    flat = [x.reshape(batch, -1, x[0, 0, 0].size) for x in (queries, keys, values)]
    pasted = jax.vmap(one)(*flat, known)
    return add_patches(pasted.reshape(batch, height, width, 2 * rate, 2 * rate, -1)).astype(foreground.dtype) / 4


def _previous(scores: jax.Array) -> jax.Array:
    """Along the last two axes (h, w), the value at the previous position in column-major order."""
    wrapped = jnp.pad(scores[..., -1:, :-1], ((0, 0), (0, 0), (1, 0)))
    return jnp.concatenate([wrapped, scores[..., :-1, :]], axis=-2)


def _next(scores: jax.Array) -> jax.Array:
    """Along the last two axes (h, w), the value at the next position in column-major order."""
    wrapped = jnp.pad(scores[..., :1, 1:], ((0, 0), (0, 0), (0, 1)))
    return jnp.concatenate([scores[..., 1:, :], wrapped], axis=-2)


def _rows_per_chunk(height: int, elements_per_row: int, budget: int) -> int:
    """The largest divisor of the height whose rows fit the budget (at least one row)."""
    fitting = [r for r in range(1, height + 1) if height % r == 0 and r * elements_per_row <= budget]
    return max(fitting, default=1)
