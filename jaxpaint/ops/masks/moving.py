"""Holes that move: masks for clips, drawn on the accelerator.

The kinds are those of the literature on video: boxes that move at constant speed, strokes that move and deform,
objects cut from other clips, and masks that stay where they are or jump (Deep Video Inpainting, arXiv 1905.01639;
Free-form Video Inpainting with 3D Gated Convolution, arXiv 1904.10247). What is drawn is our own: in whole numbers, as
everything here (`integers.py`), so that the bits are the same on every machine.

A mask is float32 ``t h w 1``, exactly 0 or 1, **1 = hole**.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxpaint.ops.masks import integers, options, spans
from jaxpaint.ops.masks.families import Masks, family
from jaxpaint.ops.masks.strokes import brush, brush_shape
from jaxpaint.types import InputError, did_you_mean

_PARTS = 256  # of a pixel: the unit of speeds


def moving_box(
    key: jax.Array,
    frames: int,
    height: int,
    width: int,
    *,
    side: float | tuple[float, float] = (0.25, 0.5),
    speed: float | tuple[float, float] = (0, 6),
    square: bool = False,
    scale: float | None = None,
) -> jax.Array:
    """A box that moves at constant speed and turns back at the borders: float32 t h w 1.

    Args:
      side: the range of the box's height as a share of the picture's, and of its width likewise, below 1; a number
        fixes it.
      speed: the range of its speed along each axis, in pixels a frame of a 256 picture (see `options.unit`), at most
        100; the direction is drawn.
      square: the same share for both sides.
      scale: overrides the rule of `options.unit`.
    """
    _check_frames(frames)
    options.check_size(height, width)
    least, most = options.check_range("side", side, 0.01, 0.99)
    sizes, moves = integers.bits(key, (2,), (2, 3))
    high = integers.uniform(sizes[0], max(1, round(least * height)), max(1, round(most * height)) + 1)
    wide = integers.uniform(sizes[0 if square else 1], max(1, round(least * width)), max(1, round(most * width)) + 1)
    high, wide = jnp.minimum(high, height - 1), jnp.minimum(wide, width - 1)
    pace = _pace("speed", speed, height, width, scale)
    top = bounce(*_begin(moves[0], height - high, pace), height - high, frames)
    left = bounce(*_begin(moves[1], width - wide, pace), width - wide, frames)
    every = jnp.ones(frames, jnp.int32)
    drawn = spans.boxes(left, top, wide * every, high * every, every > 0, height, width)
    return jax.vmap(lambda bits: spans.unpack(bits, width))(spans.words(drawn, width))


def moving_freeform(
    key: jax.Array,
    frames: int,
    height: int,
    width: int,
    *,
    strokes: tuple[int, int] = (1, 3),
    vertices: tuple[int, int] = (4, 11),
    thickness: tuple[float, float] = (12, 40),
    speed: float | tuple[float, float] = (0, 4),
    wobble: float | tuple[float, float] = (0, 1),
    scale: float | None = None,
) -> jax.Array:
    """Brush strokes that drift together while each of their vertices goes its own way: float32 t h w 1.

    A vertex turns back at the borders, so that no frame is without a hole.

    Args:
      strokes, vertices, thickness: as of `strokes.freeform`.
      speed: the range of the common speed along each axis, in pixels a frame of a 256 picture, at most 50.
      wobble: the range of each vertex' own speed, likewise.
      scale: overrides the rule of `options.unit`.
    """
    _check_frames(frames)
    options.check_size(height, width)
    unit = options.unit(height, width, scale)
    counts = options.check_counts("strokes", strokes, 1, 64)
    steps = options.check_counts("vertices", vertices, 1, 64)
    thick = options.between(*options.check_range("thickness", thickness, 1, 1024), unit)
    chance, common, own = integers.bits(key, brush_shape(counts, steps), (2, 3), (steps[1] + 1, counts[1], 2, 3))
    start, end, wide, present = brush(chance, height, width, strokes=counts, vertices=steps, thickness=thick)
    drift = _velocity(common, _pace("speed", speed, height, width, scale, most=50))
    velocity = drift + _velocity(own, _pace("wobble", wobble, height, width, scale, most=50))
    room = jnp.array([width, height], jnp.int32)

    def moved(points: jax.Array, speeds: jax.Array) -> jax.Array:
        return bounce(points * _PARTS, speeds.reshape(points.shape), room, frames)

    starts, ends = moved(start, velocity[:-1]), moved(end, velocity[1:])  # a segment's end is the next one's start
    where = [jnp.array([value], jnp.int32) for value in (width // 4, height // 4, width // 2, height // 2)]
    instead = spans.fill(spans.boxes(*where, jnp.ones(1, bool), height, width), width)

    def draw(first: jax.Array, last: jax.Array) -> jax.Array:
        bits = spans.paint(first, last, wide, present, height, width)
        return spans.unpack(spans.keep(bits, instead, width), width)

    return jax.vmap(draw)(starts, ends)


def fixed(
    key: jax.Array, frames: int, height: int, width: int, *, still: str = "centre", still_options: dict | None = None
) -> jax.Array:
    """One mask of a family for pictures (`FAMILIES`) in all frames, as a watermark: float32 t h w 1."""
    _check_frames(frames)
    mask = family(Masks(still, still_options or {}))(key, height, width)
    return jnp.broadcast_to(mask, (frames, *mask.shape))


def jumping(
    key: jax.Array, frames: int, height: int, width: int, *, still: str = "box", still_options: dict | None = None
) -> jax.Array:
    """Another mask of a family for pictures (`FAMILIES`) in every frame: float32 t h w 1."""
    _check_frames(frames)
    draw = family(Masks(still, still_options or {}))
    return jax.vmap(lambda one: draw(one, height, width))(jax.random.split(key, frames))


def paste(
    key: jax.Array, objects: jax.Array, *, speed: float | tuple[float, float] = (0, 4), scale: float | None = None
) -> jax.Array:
    """The masks of an object of another clip, put elsewhere and set in motion: float32 t h w 1.

    All frames are mirrored or not, run forward or backward, and shifted along a path of constant speed that turns back
    where the object, in any of its frames, would leave the picture: so nothing of it is cut off. An object that
    reaches from border to border keeps its place along that axis.

    Args:
      objects: t h w 1, values 0 and 1; frames without an object stay without a hole.
      speed: the range of the added speed along each axis, in pixels a frame of a 256 picture, at most 100.
      scale: overrides the rule of `options.unit`.
    """
    frames, height, width, _ = objects.shape
    bits, moves = integers.bits(key, (2,), (2, 3))
    objects = jnp.where(integers.chance(bits[0], 0.5), objects[:, :, ::-1], objects)
    objects = jnp.where(integers.chance(bits[1], 0.5), objects[::-1], objects)
    pace = _pace("speed", speed, height, width, scale)

    def shifts(covered: jax.Array, move: jax.Array) -> jax.Array:
        before, behind = jnp.argmax(covered), jnp.argmax(covered[::-1])
        return bounce(*_begin(move, before + behind, pace), before + behind, frames) - before

    covered = jnp.any(objects[..., 0] > 0, axis=0)
    down, right = shifts(jnp.any(covered, axis=1), moves[0]), shifts(jnp.any(covered, axis=0), moves[1])
    # What goes over the border and comes back on the other side is empty.
    moved = jax.vmap(lambda mask, y, x: jnp.roll(mask, (y, x), (0, 1)))(objects, down, right)
    return moved.astype(jnp.float32)


MOVING: dict[str, Callable] = {
    "box": moving_box,
    "freeform": moving_freeform,
    "fixed": fixed,
    "jumping": jumping,
}
"""Each: ``(key, frames, height, width, **options) -> float32 t h w 1``; no frame is without a hole or all hole."""


def sample_clips(key: jax.Array, positions: jax.Array, frames: int, height: int, width: int, masks: Masks) -> jax.Array:
    """Masks for each clip of a batch, a function of ``fold_in(key, position)`` alone: float32 b t h w 1.

    Args:
      key: a key of the run, the same for all its steps.
      positions: uint32 b, the examples' numbers in the global stream.
      frames, height, width: static.
      masks: a family of `MOVING` with its options.

    Raises:
      InputError: no such family, or no such option of it.
    """
    if masks.family not in MOVING:
        near = did_you_mean(masks.family, MOVING, "did you mean {!r}? ")
        raise InputError(
            f"there is no mask family {masks.family!r} for clips: {near}set masks.family to one of {', '.join(MOVING)}"
        )
    draw = MOVING[masks.family]
    known = [name for name, p in inspect.signature(draw).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in masks.options:
        if name not in known:
            near = did_you_mean(name, known, "did you mean {!r}? ") + f"there are {', '.join(known)}"
            raise InputError(f"moving mask family {masks.family!r} has no option {name!r}: {near}")

    def one(position: jax.Array) -> jax.Array:
        return draw(jax.random.fold_in(key, position), frames, height, width, **masks.options)

    return jax.vmap(one)(positions)


def bounce(start: jax.Array, velocity: jax.Array, room: Any, frames: int) -> jax.Array:
    """Places at constant speed that turn back at 0 and at `room`: int32 t ..., whole pixels.

    Args:
      start: int32 ..., in 256ths of a pixel, from 0 to room.
      velocity: int32 ..., in 256ths of a pixel a frame.
      room: the last place, in pixels; broadcasts with `start`.
      frames: t.
    """
    time = jnp.arange(frames, dtype=jnp.int32).reshape(-1, *[1] * jnp.ndim(start))
    last = jnp.asarray(room, jnp.int32) * _PARTS
    along = jnp.mod(start + velocity * time, jnp.maximum(2 * last, 1))
    return (last - jnp.abs(along - last)) >> 8


def _begin(bits: jax.Array, room: jax.Array, pace: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """(start, velocity) along one axis, for `bounce`, from uint32 (3,)."""
    return integers.uniform(bits[2], 0, room + 1) * _PARTS, _velocity(bits, pace)


def _velocity(bits: jax.Array, pace: tuple[int, int]) -> jax.Array:
    """256ths of a pixel a frame, either way: uint32 (..., 3) -> int32 ..."""
    size = integers.uniform(bits[..., 0], pace[0], pace[1] + 1)
    return jnp.where(integers.chance(bits[..., 1], 0.5), size, -size)


def _pace(name: str, value, height: int, width: int, scale: float | None, most: float = 100) -> tuple[int, int]:
    """A range of speeds, in 256ths of a pixel a frame, at this picture's size."""
    low, high = options.check_range(name, value, 0, most)
    unit = options.unit(height, width, scale)
    return tuple(min(round(part * unit * _PARTS), round(most * _PARTS)) for part in (low, high))


def _check_frames(frames: int) -> None:
    if not isinstance(frames, int) or frames < 1:
        raise InputError(f"masks for {frames!r} frames were asked for: give 1 or more")
