"""Masks whose hole takes a given share of the picture: redrawing, growing, and the irregular family.

The irregular family stands in for the test masks of Liu et al., Image Inpainting for Irregular Holes
Using Partial Convolutions (arXiv 1804.07723): holes sorted into six ranges of hole share,
(0.01, 0.1], (0.1, 0.2], ... (0.5, 0.6]. Those were made from occlusions between video frames and cannot
be drawn anew; ours are brush strokes of uneven thickness. What is the same is the ranges, exactly.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpaint.ops.masks import integers, options, spans
from jaxpaint.types import InputError

TRIES = 32
SEGMENTS = 512


class Limits(NamedTuple):
    """least <= pixels of the hole <= most."""

    least: int
    most: int


def limits(name: str, value, height: int, width: int, *, closed: bool) -> Limits:
    """The pixel counts of a range of hole shares, open below, and above too unless `closed`.

    A mask is never empty and never full, whatever the range.

    Raises:
      InputError: the range is no range, or so narrow at this size that a row of pixels jumps over it.
    """
    options.check_size(height, width)
    low, high = options.check_range(name, value, 0, 1)
    area = height * width
    # 0.1 * area may come out a hair beside the whole number that is meant.
    first = math.floor(round(low * area, 6)) + 1
    last = math.floor(round(high * area, 6)) if closed else math.ceil(round(high * area, 6)) - 1
    found = Limits(first, min(last, area - 1))
    if found.most - found.least < width:
        raise InputError(
            f"mask option {name} is {value!r}: at {height}x{width} that leaves {found.least} to {found.most} pixels, "
            f"and the range must be wider than a row of {width}"
        )
    return found


def redraw(
    draw: Callable[[jax.Array], jax.Array], key: jax.Array, allowed: Limits, height: int, width: int
) -> jax.Array:
    """The first of up to 32 drawings whose hole is of an allowed size; failing all, a hole grown to fit.

    Args:
      draw: key -> uint32 h words.

    Returns:
      uint32 h words, always within `allowed`.
    """

    def fits(bits):
        area = spans.count(bits)
        return (area >= allowed.least) & (area <= allowed.most)

    def another(carry):
        number, _ = carry
        return number + 1, draw(jax.random.fold_in(key, number))

    def going(carry):
        number, bits = carry
        return (number < TRIES) & ~((number > 0) & fits(bits))

    blank = jnp.zeros((height, -(-width // 32)), jnp.uint32)
    _, bits = jax.lax.while_loop(going, another, (jnp.uint32(0), blank))
    # Where the drawing fits, growing costs no turn of its loop.
    fit = fits(bits)
    multiplier = min(height, width) / options.REFERENCE
    return grow(key, jnp.where(fit, bits, 0), fit, allowed, height, width, multiplier)


class _Pen(NamedTuple):
    number: jax.Array
    target: jax.Array  # pixels of hole to be reached; drawn in turn 0, which draws no segment
    bits: jax.Array
    area: jax.Array
    point: jax.Array  # (x, y) where the last segment ended
    direction: jax.Array
    thickness: jax.Array
    halvings: jax.Array  # how often the pen was made finer, after a segment that would have been too much


def grow(
    key: jax.Array, bits: jax.Array, done: jax.Array, allowed: Limits, height: int, width: int, multiplier: float
) -> jax.Array:
    """Adds brush segments until the hole has a size drawn evenly from the allowed ones.

    A segment that would lead beyond the allowed is left out and the pen is made finer. At most 512
    segments are tried; should they not have reached the range (or had the hole been too large to
    begin with), whole rows from the top make up for it. So the size is right in every case, at a bounded cost.

    Args:
      bits: uint32 h words to begin with, not above `allowed`.
      done: bool, `bits` shall stay as it is.
      allowed: at least a row of pixels wide.
      multiplier: of the pen's sizes, which are meant for 256 pixels.
    """
    gain = max(1, round(height * width / (80 * multiplier)))
    longest = options.at_size(72, multiplier, least=4)

    def going(pen: _Pen):
        return ~done & ((pen.area < pen.target) | (pen.number == 0)) & (pen.number <= SEGMENTS)

    def stroke(pen: _Pen) -> _Pen:
        # Beyond the numbers that `redraw` uses of the same key.
        chance = jax.random.bits(jax.random.fold_in(key, TRIES + pen.number), (8,), jnp.uint32)
        setting = pen.number == 0
        # The range times a 16-bit fraction, in two halves: the product may not fit 32 bits.
        fraction, span = chance[0] >> 16, allowed.most - allowed.least
        target = allowed.least + ((span >> 16) * fraction + ((span & 0xFFFF) * fraction >> 16)).astype(jnp.int32)
        target = jnp.where(setting, target, pen.target)
        # A larger hole is made with a broader pen, as dilated occlusions are: 24 pixels at none, 72 at 60 %.
        broadest = options.at_size(24, multiplier, least=4) + target // gain
        fresh = (pen.number <= 1) | integers.chance(chance[0], 0.2)
        anywhere = jnp.stack([integers.uniform(chance[1], 0, width), integers.uniform(chance[2], 0, height)])
        start = jnp.where(fresh, anywhere, pen.point)
        turn = integers.uniform(chance[3], -integers.TURN // 5, integers.TURN // 5)
        heading = integers.uniform(chance[4], 0, integers.TURN)
        direction = jnp.where(fresh, heading, pen.direction + turn) % integers.TURN
        # The product of two even draws: many thin strokes, few broad ones.
        thin = integers.uniform(chance[5], 2, broadest + 1)
        thickness = integers.uniform(chance[6], 2, thin + 1)
        thickness = jnp.where(fresh, thickness, (pen.thickness + thickness + 1) // 2)
        thickness = jnp.maximum(thickness >> pen.halvings, 1)
        length = integers.pixels(integers.uniform(chance[7], 1, longest + 1)) >> pen.halvings
        move = jnp.stack(integers.step(direction, length))
        end = jnp.clip(start + move, 0, jnp.array([width - 1, height - 1]))
        shape = spans.capsules(start[None], end[None], thickness[None], jnp.ones((1,), bool), height, width)
        after = pen.bits | spans.fill(shape, width)
        area = spans.count(after)
        fits = (area <= allowed.most) & ~setting
        return _Pen(
            pen.number + 1,
            target,
            jnp.where(fits, after, pen.bits),
            jnp.where(fits, area, pen.area),
            jnp.where(fits, end, start),
            direction,
            thickness,
            jnp.minimum(pen.halvings + ~(fits | setting), 6),
        )

    zero = jnp.int32(0)
    pen = _Pen(jnp.uint32(0), zero, bits, spans.count(bits), jnp.zeros((2,), jnp.int32), zero, zero, zero)
    pen = jax.lax.while_loop(going, stroke, pen)
    return _make_up(pen.bits, allowed.least, height, width)


def _make_up(bits: jax.Array, least: int, height: int, width: int) -> jax.Array:
    """Fills rows from the top until at least `least` pixels are hole: one row at most beyond it."""
    holes = jnp.sum(jax.lax.population_count(bits).astype(jnp.int32), axis=-1)
    # After row i is filled, the hole has all of rows 0..i and what there was below.
    filled_before = jnp.cumsum(width - holes) - (width - holes) + jnp.sum(holes)
    everything = spans.Spans(jnp.zeros((1, height), jnp.int32), jnp.full((1, height), width - 1, jnp.int32))
    return jnp.where((filled_before < least)[:, None], spans.fill(everything, width), bits)


def irregular(
    key: jax.Array,
    height: int,
    width: int,
    *,
    bucket: tuple[float, float] = (0.01, 0.6),
    scale: float | None = None,
) -> jax.Array:
    """Irregular holes whose share of the picture lies in a bucket, always: float32 h w 1, 1 = hole.

    Args:
      bucket: (low, high): low < share <= high; the share is drawn evenly from it.
      scale: overrides the rule of `options.unit` for the pen.
    """
    allowed = limits("bucket", bucket, height, width, closed=True)
    blank = jnp.zeros((height, -(-width // 32)), jnp.uint32)
    # A pen for 256 pixels would need too many segments on a larger picture: here sizes follow it both ways.
    multiplier = min(height, width) / options.REFERENCE if scale is None else options.unit(height, width, scale)
    bits = grow(key, blank, jnp.array(False), allowed, height, width, multiplier)
    return spans.unpack(bits, width)
