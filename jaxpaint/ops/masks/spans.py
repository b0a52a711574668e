"""Drawing: a convex shape is one span of pixels a row, and a row of pixels is a few 32-bit words.

A brush stroke is a chain of capsules (all points within half a thickness of a segment), a box is a
box; each is convex, so that each row of the picture meets it in one interval [left, right]. The
intervals cost n * h, not n * h * w; a union of them is a bitwise or on words of 32 pixels. Nothing
is scattered, so the same code is quick on a CPU, a GPU and a TPU, under `vmap` and sharded over examples.

Shapes: `n` shapes, `h` rows, `w` columns, words = ceil(w / 32). A row's pixel x is bit x % 32 of word
x // 32; bits beyond w are zero.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpaint.ops.masks.integers import floor_divide, floor_root

_FAR = 1 << 20  # beyond any picture


class Spans(NamedTuple):
    """For every shape and row the first and the last column, int32 n h; right < left where it is absent."""

    left: jax.Array
    right: jax.Array


def capsules(start, end, thickness, present, height: int, width: int) -> Spans:
    """Segments drawn with a round brush.

    A pixel belongs to it where the centre is within thickness / 2 of the segment.

    Args:
      start, end: int32 n 2, (x, y) in pixels; may lie outside of the picture.
      thickness: int32 n, pixels.
      present: bool n, False for an entry that is only there to keep the shape static.
    """
    start, end, thickness = start[:, None, :], end[:, None, :], thickness[:, None]
    dx, dy = (end - start)[..., 0], (end - start)[..., 1]
    rows = jnp.arange(height, dtype=jnp.int32)[None]
    below = rows - start[..., 1]

    # The rectangle between the ends. In x measured from the start: the distance from the line is
    # |x dy - below dx| / length, the way along it (x dx + below dy) / length.
    square = dx * dx + dy * dy
    reach = jnp.floor(thickness.astype(jnp.float32) * jnp.sqrt(square.astype(jnp.float32)) * 0.5).astype(jnp.int32)
    across = _solve(dy, -below * dx, -reach, reach)
    along = _solve(dx, below * dy, jnp.zeros_like(square), square)
    left = jnp.maximum(across[0], along[0]) + start[..., 0]
    right = jnp.minimum(across[1], along[1]) + start[..., 0]
    drawn = (left <= right) & (square > 0)
    left, right = jnp.where(drawn, left, _FAR), jnp.where(drawn, right, -_FAR)

    # The discs at both ends; a capsule is convex, so that the hull of the three spans is their union.
    for centre in (start, end):
        room = thickness * thickness - 4 * jnp.square(rows - centre[..., 1])
        half = floor_root(jnp.maximum(room, 0)) >> 1
        left = jnp.where(room >= 0, jnp.minimum(left, centre[..., 0] - half), left)
        right = jnp.where(room >= 0, jnp.maximum(right, centre[..., 0] + half), right)
    return _clip(left, right, present[:, None], width)


def _solve(slope, offset, low, high):
    """The integers x with low <= slope * x + offset <= high, as (first, last)."""
    sign = jnp.where(slope < 0, -1, 1)
    low, high = jnp.where(slope < 0, -high, low), jnp.where(slope < 0, -low, high)
    slope, offset = slope * sign, offset * sign
    divisor = jnp.maximum(slope, 1)
    first, last = -floor_divide(offset - low, divisor), floor_divide(high - offset, divisor)
    everywhere = (offset >= low) & (offset <= high)
    flat = slope == 0
    first = jnp.where(flat, jnp.where(everywhere, -_FAR, _FAR), first)
    return first, jnp.where(flat, jnp.where(everywhere, _FAR, -_FAR), last)


def boxes(left, top, wide, high, present, height: int, width: int) -> Spans:
    """Upright boxes: columns [left, left + wide), rows [top, top + high).

    Args:
      left, top, wide, high: int32 n; may reach over the border; an empty box is absent.
      present: bool n.
    """
    left, top, wide, high, present = (jnp.asarray(value)[:, None] for value in (left, top, wide, high, present))
    rows = jnp.arange(height, dtype=jnp.int32)[None]
    return _clip(left, left + wide - 1, present & (rows >= top) & (rows < top + high), width)


def _clip(left, right, present, width: int) -> Spans:
    left = jnp.where(present, jnp.maximum(left, 0), width)
    return Spans(left, jnp.where(present, jnp.minimum(right, width - 1), -1))


def words(spans: Spans, width: int) -> jax.Array:
    """Each shape on its own, as words: uint32 n h words."""
    first = 32 * jnp.arange(-(-width // 32), dtype=jnp.int32)
    left, right = spans.left[..., None] - first, spans.right[..., None] + 1 - first
    return _below(right) & ~_below(left)


def _below(count):
    """The word with the lowest `count` bits set, count clipped to 0..32."""
    count = jnp.clip(count, 0, 32).astype(jnp.uint32)
    # A shift by 32 is left to the device by some compilers: two shifts of at most 16 are not.
    half = count >> 1
    return ~((jnp.uint32(0xFFFFFFFF) << half) << (count - half))


def fill(spans: Spans, width: int) -> jax.Array:
    """The union of a few shapes: uint32 h words."""
    # Not lax.reduce: for some numbers of shapes its code on a CPU is 30 times slower than this chain.
    drawn = words(spans, width)
    return functools.reduce(jnp.bitwise_or, [drawn[number] for number in range(drawn.shape[0])])


def paint(start, end, thickness, present, height: int, width: int) -> jax.Array:
    """The union of many segments, arguments as of `capsules`: uint32 h words.

    One segment after the other, so that temporaries stay at one mask's words whatever their number.
    """

    def add(bits, segment):
        one = [value[None] for value in segment]
        return bits | fill(capsules(*one, height, width), width), None

    blank = jnp.zeros((height, -(-width // 32)), jnp.uint32)
    return jax.lax.scan(add, blank, (start, end, thickness, present))[0]


def count(bits: jax.Array) -> jax.Array:
    """Pixels set in h words: int32 scalar."""
    return jnp.sum(jax.lax.population_count(bits).astype(jnp.int32))


def unpack(bits: jax.Array, width: int) -> jax.Array:
    """Words to a mask: uint32 h words -> float32 h w 1, 1 where the bit is set."""
    pixels = (bits[..., None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
    return pixels.reshape(bits.shape[0], -1)[:, :width, None].astype(jnp.float32)


def keep(bits: jax.Array, instead: jax.Array, width: int) -> jax.Array:
    """`bits`, or `instead` where `bits` has no hole or nothing but hole."""
    area = count(bits)
    return jnp.where((area > 0) & (area < bits.shape[0] * width), bits, instead)
