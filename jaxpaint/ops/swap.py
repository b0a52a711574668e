"""Patch-swap: the hole of a feature map rebuilt from patches of its known region (after Song et al., arXiv 1711.08590,
section 3; the style-swap of Chen and Schmidt, arXiv 1612.04337, between two regions of one map).

Every patch of ``size`` x ``size`` cells that touches the hole is replaced by the known patch of the largest normalised
cross-correlation, and where patches overlap their values are averaged.

The inner product of two patches is a sum of inner products of cells. With cells numbered along rows, the cell (i, j) of
the patch that begins at cell n of a map w cells wide is ``n + i * w + j``: so one product of matrices, ``G[n, m] =
<query cell n, source cell m>``, holds all there is, and scores are sums of it shifted along both axes,

    (1)  T[n, m] = sum over j of  G[n + j, m + j]
    (2)  S[n, m] = sum over i of  T[n + i * w, m + i * W].

That is one product of 256 numbers for a pair of cells, where patches of 3x3x256 take 2304. Patches lie in the map as a
whole (none is padded), so nothing is lost where the numbering runs on in the next row: such patches are ignored. A
column of S is divided by the norm of its candidate; the query's norm changes no choice.

G is made for some query cells at a time, and only for those in rows and columns that queries cover. Pasting looks up
every cell of a patch, without a scatter.
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
"""Correlations (in -1..1) this close are equal, so that rounding, which may depend on a chunk's size, does not choose
between copies of a patch. That is five times the largest error met for 2304 products in float32 (7e-7)."""


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
    chunk: int = 256,
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
      chunk: cells whose scores are made at a time: memory goes with (chunk + 2 w) H W, and not with h w H W. Cells in
        rows and columns that no swapped patch covers cost nothing

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

    count = parts(DATA) * parts(FSDP)
    divided = count > 1 and len(features) % count == 0
    one = functools.partial(_swap, size=size, restore=restore, chunk=chunk, divided=divided)
    swap = functools.partial(jax.lax.map, one)
    if divided:
        batch = PartitionSpec((DATA, FSDP))
        swap = jax.shard_map(swap, in_specs=((batch,) * 4,), out_specs=batch)
    return swap((features, *[jnp.broadcast_to(x, (len(features), *x.shape[1:])) for x in (mask, source, source_mask)]))


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


def _swap(arrays, *, size, restore, chunk, divided):
    """`patch_swap` of one picture: features h w c, mask h w 1, source H W c, its mask H W 1."""
    features, mask, source, source_mask = arrays
    hole = mask != 0
    asking = _windows(hole[..., 0], size) > 0
    known = _windows(source_mask[..., 0] != 0, size) == 0
    searched = jax.lax.stop_gradient((features, source))
    beginning = _search(*searched, asking, known, size=size, chunk=chunk, divided=divided)
    averaged = _averaged(source, beginning, asking, size).astype(features.dtype)
    out = jnp.where(hole if restore else _covered(asking, size)[..., None], averaged, features)
    return Swapped(out, jnp.where(beginning < source.shape[0] * source.shape[1], beginning, -1))


def _search(features, source, asking, known, *, size, chunk, divided):
    """Where the best candidate of each asking patch begins: h-size+1 w-size+1, int32; H * W where there is none.

    Only rows and columns of cells that asking patches cover are worked on, moved together: the cells of such a patch
    stay neighbours, and its next row is `across` cells further on. How many these are ends the loop.
    """
    (height, width), (source_height, source_width) = features.shape[:2], source.shape[:2]
    last, nothing = size - 1, source_height * source_width
    lengths, source_lengths = [_windows(_squares(x), size) for x in (features, source)]
    scale = jnp.where(source_lengths > 0, jax.lax.rsqrt(source_lengths), 0)
    scale, known = [_along(x, last) for x in (scale, known)]
    keys = source.reshape(nothing, -1)
    numbers = jnp.arange(len(known), dtype=jnp.int32)

    covered = _covered(asking, size)
    rows, row_places, down = _together(jnp.any(covered, axis=1))
    columns, column_places, across = _together(jnp.any(covered, axis=0))
    chunk = min(chunk, height * width)
    lengths = jnp.pad(lengths, ((last, 0), (last, 0)))  # at the cell where the patch ends

    def step(number, carry):
        """The best candidates of the patches that end at the cells of a chunk."""
        products, sides, found = carry
        place = number * chunk + jnp.arange(chunk, dtype=jnp.int32)
        row, column = rows[place // jnp.maximum(across, 1)], columns[place % jnp.maximum(across, 1)]
        queries = features[row, column]
        more = jnp.einsum("nc,mc->nm", queries, keys, precision="highest", preferred_element_type=jnp.float32)
        products = jnp.concatenate([products, more])
        sides = jnp.concatenate([sides, sum(products[i : i + chunk, i : nothing - last + i] for i in range(size))])
        starts = [last * width - (last - i) * across for i in range(size)]
        sums = [jax.lax.dynamic_slice_in_dim(sides, start, chunk) for start in starts]
        scores = sum(x[:, i * source_width : i * source_width + len(known)] for i, x in enumerate(sums)) * scale
        scores = jnp.where(known, scores, -jnp.inf)
        least = jnp.max(scores, axis=1) - TIE * jnp.sqrt(lengths[row, column])
        best = jnp.min(jnp.where((scores >= least[:, None]) & known, numbers, nothing), axis=1)
        return products[chunk:], sides[chunk:], jax.lax.dynamic_update_slice_in_dim(found, best, number * chunk, 0)

    chunks = -(-height * width // chunk)
    carry = (
        jnp.zeros((last, nothing), jnp.float32),
        jnp.zeros((last * width, nothing - last), jnp.float32),
        jnp.full(chunks * chunk, nothing, jnp.int32),
    )
    if divided:
        carry = jax.lax.pcast(carry, (DATA, FSDP), to="varying")
    _, _, found = jax.lax.fori_loop(0, -(-down * across // chunk), step, carry)
    ends = row_places[last:, None] * across + column_places[last:]
    return jnp.where(asking, found[ends], nothing)


def _together(used):
    """What is used, moved to the front: the numbers of the used first, the new place of each, how many they are."""
    places = jnp.cumsum(used, dtype=jnp.int32) - 1
    return jnp.nonzero(used, size=len(used), fill_value=0)[0], places, places[-1] + 1


def _averaged(source, beginning, asking, size):
    """The mean at each cell of the patches that cover it: h w c, float32; NaN where one of them was not found.

    Each of the size² cells of a patch is looked up for all patches and lies, shifted, on the map. The running mean is
    exact where all values are equal: their sum over their number is not.
    """
    cells = source.reshape(-1, source.shape[-1])
    mean, count = jnp.float32(0), jnp.float32(0)
    for i in range(size):
        for j in range(size):
            around = ((i, size - 1 - i), (j, size - 1 - j))
            here = jnp.pad(asking, around)[..., None]
            number = jnp.where(beginning < len(cells), beginning + i * source.shape[1] + j, len(cells))
            values = jnp.take(cells, jnp.pad(number, around), axis=0, mode="fill").astype(jnp.float32)
            count = count + here
            mean = jnp.where(here, mean + (values - mean) / jnp.maximum(count, 1), mean)
    return mean


def _covered(asking, size):
    """Cells that lie in a patch that asks: h-size+1 w-size+1 to h w."""
    return _windows(jnp.pad(asking, size - 1), size) > 0


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
