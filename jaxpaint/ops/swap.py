"""Patch-swap: the hole of a feature map rebuilt from patches of its known region (after Song et al., arXiv 1711.08590,
section 3; the style-swap of Chen and Schmidt, arXiv 1612.04337, between two regions of one map).

Every patch of ``size`` x ``size`` cells that touches the hole is replaced by the known patch of the largest normalised
cross-correlation, and where patches overlap their values are averaged.

The inner product of two patches is a sum of inner products of cells. With cells numbered along rows, in a map that is
w cells wide the cell (i, j) of the patch that begins at n is ``n + i * w + j``, so with one product of matrices
``G[n, m] = <query cell n, source cell m>`` all scores are sums of shifts of it along both axes,

    (1)  T[n, m] = sum over j of  G[n + j, m + j]
    (2)  S[n, m] = sum over i of  T[n + i * w, m + i * W].

That is one product of 256 numbers a pair of positions where patches of 3x3x256 take 2304. Patches lie in the map as a
whole, none is padded: so nothing is lost where the numbering runs on in the next row, those patches are only ignored.
The norm of the query's patch is the same for all candidates; the candidate's divides a column of S.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxpaint.ops.placement import parts
from jaxpaint.types import DATA, FSDP, InputError

TIE = 2.0**-18
"""Correlations (in -1..1) this close are equal: a few times the rounding of 2304 products in float32, so that rounding,
which may depend on a chunk's size, does not choose between copies of a patch."""


class Swapped(NamedTuple):
    """What `patch_swap` made.

    features: b h w c, the map with its hole rebuilt
    index:    b h-size+1 w-size+1, int32: for the patch that begins (upper left) at a cell, the number
              ``row * W + column`` of the source cell where the chosen patch begins; -1 where none was chosen
    """

    features: jax.Array
    index: jax.Array


def patch_swap(
    features: jax.Array,
    mask: jax.Array,
    *,
    source: jax.Array | None = None,
    source_mask: jax.Array | None = None,
    size: int = 3,
    restore: bool = True,
    chunk_elements: int = 2**22,
) -> Swapped:
    """Replaces the patches that touch the hole by the most alike known ones.

    Args:
      features: b h w c
      mask: b h w 1 (or 1 h w 1, shared) at the features' size, 1 = hole; every cell a hole swaps the whole map
      source: b H W c (or 1 H W c, shared), where candidates come from; None: `features` themselves. For style transfer
        the style's features
      source_mask: b H W 1 (or 1 H W 1), 1 = not to be used; None: `mask` for the features themselves, and for
        another source nothing
      size: side of a patch, in cells
      restore: known cells come back as they were, bit for bit (our choice: the paper averages within the hole). False:
        known cells that a swapped patch covers are averaged, too
      chunk_elements: scores of one picture held at a time; chunks of rows without a query are not computed

    Returns:
      Features in their own type and the index. Among candidates whose correlations differ by less than `TIE` the
      first counts; a patch of zeros correlates 0 with everything. Gradients flow through the copied values, none
      through the choice. Pictures of a batch are worked on one after another, each device on its own.

    Raises:
      InputError: if shapes do not fit, or, where the masks are concrete, as `check_known`. Where they are traced
        (under jit), a picture without a candidate gets the index -1 and NaN in all cells that were to be swapped.
    """
    own = source is None
    source = features if own else source
    source_mask = (mask if own else jnp.zeros((1, *source.shape[1:3], 1))) if source_mask is None else source_mask
    for name, x, grid in (("features", features, mask), ("source", source, source_mask)):
        if x.ndim != 4 or len(x) not in (1, len(features)) or x.shape[-1] != features.shape[-1]:
            raise InputError(f"patch-swap: {name} are {x.shape}, expected b h w c as the features' {features.shape}")
        if grid.shape not in {(n, *x.shape[1:3], 1) for n in (1, len(features))}:
            raise InputError(
                f"patch-swap: the mask of {name} is {grid.shape} but {name} are {x.shape}: "
                f"expected b h w 1 or 1 h w 1 with their height and width; reduce the picture's mask first"
            )
        if min(x.shape[1:3]) < size:
            raise InputError(f"patch-swap: {name} of {x.shape[1]}x{x.shape[2]} cells hold no {size}x{size} patch")
    if not isinstance(source_mask, jax.core.Tracer):
        check_known(source_mask, size)

    swap = functools.partial(jax.lax.map, functools.partial(_swap, size=size, restore=restore, budget=chunk_elements))
    arrays = [jnp.broadcast_to(x, (len(features), *x.shape[1:])) for x in (mask, source, source_mask)]
    if parts(DATA) * parts(FSDP) > 1:
        batch = PartitionSpec((DATA, FSDP))
        swap = jax.shard_map(swap, in_specs=((batch,) * 4,), out_specs=batch)
    return swap((features, *arrays))


def check_known(mask: np.ndarray | jax.Array, size: int = 3) -> None:
    """Refuses masks (b h w 1, 1 = hole, on the host) that leave no known patch of size x size cells.

    Raises:
      InputError: with the number of the first such picture.
    """
    known = np.asarray(mask)[..., 0] == 0
    windows = np.lib.stride_tricks.sliding_window_view(known, (size, size), axis=(1, 2))
    for number, found in enumerate(windows.all((3, 4)).any((1, 2))):
        if not found:
            raise InputError(
                f"patch-swap: the known region of picture {number} is empty: none of its {size}x{size} patches lies "
                f"outside the hole, which covers {1 - known[number].mean():.0%} of {known.shape[1]}x{known.shape[2]} "
                f"cells; give a smaller hole"
            )


def _swap(arrays, *, size, restore, budget):
    """`patch_swap` of one picture: features h w c, mask h w 1, source H W c, its mask H W 1."""
    features, mask, source, source_mask = arrays
    hole = mask != 0
    asking = _windows(hole[..., 0], size) > 0
    known = _windows(source_mask[..., 0] != 0, size) == 0
    beginning = _search(*jax.lax.stop_gradient((features, source)), asking, known, size=size, budget=budget)
    averaged = _averaged(source, beginning, asking, features.shape[:2], size)
    covered = jnp.pad(asking, size - 1).astype(jnp.float32)
    covered = (_windows(covered, size) > 0)[..., None]
    out = jnp.where(hole if restore else covered, averaged.astype(features.dtype), features)
    chosen = asking & (beginning < source.shape[0] * source.shape[1])
    return Swapped(out, jnp.where(chosen, beginning, -1))


def _search(features, source, asking, known, *, size, budget):
    """Where the best candidate of each asking patch begins: h-size+1 w-size+1, int32; H * W where there is none."""
    (height, width), (source_height, source_width) = features.shape[:2], source.shape[:2]
    last, columns, nothing = size - 1, asking.shape[1], source_height * source_width
    lengths, source_lengths = [_windows(_squares(x), size) for x in (features, source)]
    scale = jnp.where(source_lengths > 0, jax.lax.rsqrt(source_lengths), 0)
    scale, known = [_along(x, last) for x in (scale, known)]
    keys = source.reshape(nothing, -1)

    chunk = max(1, min(height, budget // (width * nothing)))
    count = -(-height // chunk)
    extra = count * chunk - height
    features = jnp.pad(features, ((0, extra), (0, 0), (0, 0)))
    # A chunk completes the patches whose last row of cells it holds: here patches are numbered by that row.
    wanted = jnp.pad(jnp.any(asking, axis=1), (last, extra + last))
    lengths = jnp.pad(lengths, ((last, extra), (0, last)))
    numbers = jnp.arange(len(known), dtype=jnp.int32)

    def best(above, first):
        cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=chunk)
        cells = cut(features).reshape(-1, features.shape[-1])
        products = jnp.einsum("nc,mc->nm", cells, keys, precision="highest", preferred_element_type=jnp.float32)
        sides = jnp.pad(_shifted_sum(products, 1, 1, size), ((0, last), (0, 0)))
        sides = jnp.concatenate([above, sides])
        scores = _shifted_sum(sides, width, source_width, size) * scale
        scores = jax.lax.optimization_barrier(jnp.where(known, scores, -jnp.inf))
        least = jnp.max(scores, axis=-1) - TIE * jnp.sqrt(cut(lengths).reshape(-1))
        found = jnp.min(jnp.where((scores >= least[:, None]) & known, numbers, nothing), axis=-1)
        return sides[chunk * width :], found.reshape(chunk, width)[:, :columns]

    def skip(above, first):
        return jnp.zeros_like(above), jnp.full((chunk, columns), nothing, jnp.int32)

    def one(above, first):
        needed = jnp.any(jax.lax.dynamic_slice_in_dim(wanted, first, chunk + last))
        return jax.lax.cond(needed, best, skip, above, first)

    above = jnp.zeros((last * width, nothing - last), jnp.float32)
    _, found = jax.lax.scan(one, above, jnp.arange(count) * chunk)
    return found.reshape(-1, columns)[last : last + len(asking)]


def _averaged(source, beginning, asking, shape, size):
    """The mean at each cell of the patches that cover it: h w c, float32; NaN where one of them was not found.

    Each of the size² cells of a patch is looked up for all patches and lies, shifted, on the map. The running mean is
    exact where all values are equal: their sum over their number is not.
    """
    height, width = shape
    width_source = source.shape[1]
    cells = source.reshape(-1, source.shape[-1])
    nothing = len(cells)
    mean, count = jnp.zeros((height, width, source.shape[-1]), jnp.float32), jnp.zeros(shape, jnp.float32)
    for i in range(size):
        for j in range(size):
            around = ((i, size - 1 - i), (j, size - 1 - j))
            here = jnp.pad(asking, around)
            number = jnp.where(beginning == nothing, nothing, beginning + i * width_source + j)
            values = jnp.take(cells, jnp.pad(number, around), axis=0, mode="fill").astype(jnp.float32)
            count = count + here
            share = (1 / jnp.maximum(count, 1))[..., None]
            mean = jnp.where(here[..., None], mean + (values - mean) * share, mean)
    return mean


def _windows(x, size):
    """Sums over the windows of size x size that lie in a map: h w to h-size+1 w-size+1, float32."""
    x = x.astype(jnp.float32)
    x = sum(x[:, j : x.shape[1] - (size - 1) + j] for j in range(size))
    return sum(x[i : x.shape[0] - (size - 1) + i] for i in range(size))


def _squares(x):
    """Of each cell: h w c to h w."""
    return jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1)


def _along(x, last):
    """Values of patches, h w-last, in the numbering of cells, up to the last patch: h * w - last."""
    return jnp.pad(x, ((0, 0), (0, last))).reshape(-1)[: x.shape[0] * (x.shape[1] + last) - last]


def _shifted_sum(x, down, right, times):
    """Equations 1 and 2: the sum over i of x[n + i * down, m + i * right], for all n and m where it exists."""
    rows, columns = x.shape[0] - (times - 1) * down, x.shape[1] - (times - 1) * right
    return sum(x[i * down : i * down + rows, i * right : i * right + columns] for i in range(times))
