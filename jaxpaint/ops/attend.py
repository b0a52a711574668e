"""Attention between image regions: contextual attention (Yu et al., arXiv 1801.07892, section 3.1; as released
with Free-Form Image Inpainting with Gated Convolution, arXiv 1806.03589).

Every position of a feature map is rebuilt from patches of the known region: scores are cosine-like similarities of
3x3 patches at half resolution, made coherent by fusion, and the weighted patches are pasted back at full resolution.

Patches that overlap share their rows of pixels, so only rows of patches are cut out. With ``q(y, x)`` three pixels side
by side at reduced resolution, the inner product of two 3x3 patches is a sum over three shifts of the inner products of
such rows,

    (1)  S[y x, Y X] = sum over i in -1..1 of  G[y+i x, Y+i X] / |patch at Y X|,   G[n, m] = <q(n), q(m)>,

and pasting patches of 2r x 2r with stride r is a sum over two shifts of weights on strips of r x 2r pixels,

    (2)  out[y x] = sum over Y, X of  (A[y x, Y X] + A[y-1 x, Y-1 X]) * strip[Y X].

For 96 channels that is 288 + 768 products a pair of positions, where whole patches take 864 + 1536. (Columns could be
shared as well; but then lines would need borders, and pairs of lines with borders fit no vector unit.) Positions are
numbered along rows, so that all these shifts are shifts of the two axes of a matrix.

All positions are compared with all others, n x n scores with n = h * w / rate². They are made for a few rows of the
picture at a time, so that memory is bounded by `chunk_elements` and not by n². Where the mesh divides pictures over
``spatial``, each device compares all positions with the known patches of its part.
"""

import functools

import einops
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxpaint.ops.halo import from_after, from_before, with_halo
from jaxpaint.ops.placement import parts, undivided
from jaxpaint.ops.resize import nearest_align_corners
from jaxpaint.types import DATA, FSDP, SPATIAL, InputError

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
    height, width = foreground.shape[1] // rate, foreground.shape[2] // rate
    key_height, key_width = background.shape[1] // rate, background.shape[2] // rate
    queries = nearest_align_corners(foreground, height, width)
    keys = nearest_align_corners(background, key_height, key_width)
    if mask is None:
        mask = jnp.zeros((1, *background.shape[1:3], 1))
    holes = nearest_align_corners(mask, key_height, key_width).astype(jnp.float32)
    holes = jnp.broadcast_to(holes, (len(keys), *holes.shape[1:]))
    attend = functools.partial(
        _attend, kernel=kernel, rate=rate, softmax_scale=softmax_scale, fuse=fuse, chunk_elements=chunk_elements
    )
    count = parts(SPATIAL)
    if count == 1:
        pasted = attend(queries, keys, background, holes)
    elif key_height % count or (height * rate) % count:
        pasted = attend(*[undivided(x) for x in (queries, keys, background, holes)])
    else:
        everything, rows = PartitionSpec((DATA, FSDP)), PartitionSpec((DATA, FSDP), SPATIAL)
        divided = jax.shard_map(
            functools.partial(attend, count=count), in_specs=(everything, rows, rows, rows), out_specs=rows
        )
        pasted = divided(queries, keys, background, holes)
    return (pasted / 4).astype(foreground.dtype)


def _attend(queries, keys, background, holes, *, kernel, rate, softmax_scale, fuse, chunk_elements, count=1):
    """All queries against the keys of this of `count` parts of the picture.

    Args:
      queries: b h w c, at the reduced resolution, whole
      keys: b H W c, this part's; with background b H*rate W*rate c and holes b H W 1

    Returns:
      b h*rate/count w*rate c, float32: this part's rows of the pasted patches
    """
    batch, height, width, _ = queries.shape
    key_height, key_width = keys.shape[1:3]
    before = (kernel - 1) // 2
    after = kernel - 1 - before
    first_part = last_part = True
    if count > 1:
        first_part = jax.lax.axis_index(SPATIAL) == 0
        last_part = jax.lax.axis_index(SPATIAL) == count - 1

    def rows_of(x):
        """The middle one of `kernel` pixels side by side -> all of them: b h w c to b (h w) (kernel c)."""
        padded = jnp.pad(x, ((0, 0), (0, 0), (before, after), (0, 0)))
        side = jnp.concatenate([padded[:, :, i : i + x.shape[2]] for i in range(kernel)], axis=-1)
        return side.reshape(batch, -1, side.shape[-1])

    keys, holes = with_halo(keys, before, after, count), with_halo(holes, before, after, count)
    squares = jnp.sum(jnp.square(keys.astype(jnp.float32)), axis=-1)
    # 1 / max(norm, 1e-4), with the maximum inside: the slope of a root at zero is infinite, and features after a ReLU
    # have patches that are zero all over.
    scale = jax.lax.rsqrt(jnp.maximum(_windows(squares, kernel), 1e-8))[:, None]
    known = (_windows(holes[..., 0], kernel) == 0).astype(jnp.float32)[:, None]
    keys = rows_of(keys)
    # Two more rows at each end: the neighbours of neighbours that fusion looks at.
    queries = jnp.pad(queries, ((0, 0), (before + 2, after + 2), (0, 0), (0, 0)))
    strips = with_halo(background, rate // 2, rate - rate // 2, count)
    strips = jnp.pad(strips, ((0, 0), (0, 0), (rate // 2, rate - rate // 2), (0, 0)))
    strips = einops.rearrange(strips, "b (h p) (w q) c -> b h w p q c", p=rate, q=rate)
    strips = jnp.concatenate([strips[:, :, :-1], strips[:, :, 1:]], axis=4)
    strips = einops.rearrange(strips, "b h w p q c -> b (h w) (p q c)")

    def similarity(first, rows):
        """Equation 1 for `rows` rows from `first` on: b (rows w) (H W); zeros in rows outside the picture."""
        window = jax.lax.dynamic_slice_in_dim(queries, first + 2, rows + kernel - 1, axis=1)
        products = jnp.einsum("bnd,bmd->bnm", rows_of(window), keys, preferred_element_type=jnp.float32)
        n, m = rows * width, key_height * key_width
        shifts = ((i * width, i * key_width) for i in range(kernel))
        scores = sum(products[:, down : down + n, right : right + m] for down, right in shifts)
        row = first + jnp.arange(rows).repeat(width)
        inside = ((row >= 0) & (row < height)).astype(jnp.float32)
        return scores * scale * inside[:, None]

    def fused_along_rows(first, rows):
        """Plus the scores of the pairs one position before and after, lines running on in the next."""
        scores = similarity(first - 1, rows + 2)
        n = rows * width
        above, middle, below = (scores[:, width + i : width + i + n] for i in (-1, 0, 1))
        previous = jnp.concatenate([from_before(above[..., -1:], count), above[..., :-1]], axis=-1)
        following = jnp.concatenate([below[..., 1:], from_after(below[..., :1], count)], axis=-1)
        return previous + middle + following

    def fused(first, rows, ends=None):
        """Plus the same along columns; `ends` are the first and the last row of the picture, fused along rows."""
        if ends is None:
            middle = fused_along_rows(first, rows)
            above, below = _shifted(middle[:, -width:], 1, axis=1), _shifted(middle[:, :width], -1, axis=1)
        else:
            more = fused_along_rows(first - 1, rows + 2)
            middle = more[:, width:-width]
            above = jnp.where(first == 0, _shifted(ends[1], 1, axis=1), more[:, :width])
            below = jnp.where(first + rows == height, _shifted(ends[0], -1, axis=1), more[:, -width:])
        previous = jnp.concatenate([above, middle[:, :-width]], axis=1)
        following = jnp.concatenate([middle[:, width:], below], axis=1)
        wrapped = from_before(previous[..., -key_width:], count, around=True)
        wrapped = jnp.where(first_part, _shifted(wrapped, 1, axis=2), wrapped)
        previous = jnp.concatenate([wrapped, previous[..., :-key_width]], axis=2)
        wrapped = from_after(following[..., :key_width], count, around=True)
        wrapped = jnp.where(last_part, _shifted(wrapped, -1, axis=2), wrapped)
        following = jnp.concatenate([following[..., key_width:], wrapped], axis=2)
        return previous + middle + following

    def softmax(scores):
        most = jnp.max(jax.lax.stop_gradient(scores), axis=-1, keepdims=True)
        most = jax.lax.pmax(most, SPATIAL) if count > 1 else most
        powers = jnp.exp(scores - most)
        total = jnp.sum(powers, axis=-1, keepdims=True)
        return powers / (jax.lax.psum(total, SPATIAL) if count > 1 else total)

    def pasted(rows, scores):
        """Equation 2 for the pixels that patches of these rows touch: b rows+1 r (w+1)*r c."""
        weights = softmax(softmax_scale * known * scores) * known
        weights = jnp.pad(weights, ((0, 0), (width, width), (key_width, key_width)))
        weights = weights[:, width:, key_width:] + weights[:, :-width, :-key_width]
        filled = jnp.einsum("bnm,bme->bne", weights.astype(strips.dtype), strips, preferred_element_type=jnp.float32)
        filled = filled.reshape(batch, rows + 1, width, rate, 2, rate, -1)
        left, right = (jnp.pad(filled[:, :, :, :, i], [(0, 0)] * 2 + [(i, 1 - i)] + [(0, 0)] * 3) for i in range(2))
        return einops.rearrange(left + right, "b h w p q c -> b h p (w q) c")

    def chunk(first, rows, ends=None):
        return pasted(rows, fused(first, rows, ends) if fuse else similarity(first, rows))

    budget = max(chunk_elements // batch, min(chunk_elements, LEAST_PER_PICTURE)) // count
    rows = _rows_per_chunk(height, width * key_height * key_width, budget)
    if rows == height:
        canvas = chunk(0, height)
    else:
        ends = (fused_along_rows(0, 1), fused_along_rows(height - 1, 1)) if fuse else None
        part = jax.checkpoint(functools.partial(chunk, rows=rows, ends=ends))

        def add(canvas, first):
            """The chunk's rows of pixels, of which the last are the next chunk's first too."""
            added = jax.lax.dynamic_slice_in_dim(canvas, first, rows + 1, axis=1) + part(first)
            return jax.lax.dynamic_update_slice_in_dim(canvas, added, first, axis=1), None

        canvas = jnp.zeros((batch, height + 1, rate, (width + 1) * rate, background.shape[-1]), jnp.float32)
        if count > 1:
            canvas = jax.lax.pcast(canvas, (DATA, FSDP, SPATIAL), to="varying")
        canvas, _ = jax.lax.scan(add, canvas, jnp.arange(0, height, rows))
    canvas = einops.rearrange(canvas, "b h p w c -> b (h p) w c")
    start = rate // 2
    canvas = canvas[:, start : start + height * rate, start : start + width * rate]
    if count > 1:
        canvas = jax.lax.psum_scatter(canvas, SPATIAL, scatter_dimension=1, tiled=True)
    return canvas


def _windows(x: jax.Array, size: int) -> jax.Array:
    """Sums over windows of size x size around every column, rows only where windows fit: b h w to b (h-size+1)*w."""
    height, width = x.shape[1] - size + 1, x.shape[2]
    x = jnp.pad(x, ((0, 0), (0, 0), ((size - 1) // 2, size // 2)))
    x = sum(x[:, :, i : i + width] for i in range(size))
    return sum(x[:, i : i + height] for i in range(size)).reshape(len(x), -1)


def _shifted(x: jax.Array, by: int, axis: int) -> jax.Array:
    """Moved by one place, up (1) or down (-1), zero moving in."""
    length = x.shape[axis]
    kept = jax.lax.slice_in_dim(x, max(-by, 0), length - max(by, 0), axis=axis)
    return jnp.pad(kept, [(max(by, 0), max(-by, 0)) if i == axis else (0, 0) for i in range(x.ndim)])


def _rows_per_chunk(height: int, elements_per_row: int, budget: int) -> int:
    """The largest divisor of the height whose rows fit the budget (at least one row)."""
    fitting = [r for r in range(1, height + 1) if height % r == 0 and r * elements_per_row <= budget]
    return max(fitting, default=1)
