"""Boxes and borders: the random box, the centred box, and outpainting.

Sources: the centred square of half the side is the test mask of Context Encoders (arXiv 1604.07379)
and of most papers since; outpainting with random borders follows the published generator of LaMa
(`OutpaintingMaskGenerator`: 4 % to 25 % of a side, each side with probability 1/2, at least one).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxpaint.ops.masks import integers, options, spans
from jaxpaint.types import InputError

SIDES = ("left", "top", "right", "bottom")


def box(
    key: jax.Array, height: int, width: int, *, side: float | tuple[float, float] = (0.25, 0.5), square: bool = False
) -> jax.Array:
    """One box anywhere inside the picture: float32 h w 1, 1 = hole.

    Args:
      side: the range of the box's height as a share of the picture's, and of its width likewise, below 1;
        a number fixes it.
      square: the same share for both.
    """
    options.check_size(height, width)
    least, most = options.check_range("side", side, 0.01, 0.99)
    drawn = jax.random.bits(key, (4,), jnp.uint32)
    high = integers.uniform(drawn[0], max(1, round(least * height)), max(1, round(most * height)) + 1)
    wide = integers.uniform(drawn[0 if square else 1], max(1, round(least * width)), max(1, round(most * width)) + 1)
    high, wide = jnp.minimum(high, height - 1), jnp.minimum(wide, width - 1)
    left = integers.uniform(drawn[2], 0, width - wide + 1)
    return _draw([left], [integers.uniform(drawn[3], 0, height - high + 1)], [wide], [high], [True], height, width)


def centre(key: jax.Array, height: int, width: int, *, side: float = 0.5) -> jax.Array:
    """The centred box: float32 h w 1, 1 = hole. The key is ignored.

    Args:
      side: height and width of the box as a share of the picture's, below 1.
    """
    del key
    options.check_size(height, width)
    options.check_range("side", side, 0.01, 0.99)
    high, wide = (min(max(1, round(side * length)), length - 1) for length in (height, width))
    return _draw([(width - wide) // 2], [(height - high) // 2], [wide], [high], [True], height, width)


def outpaint(
    key: jax.Array,
    height: int,
    width: int,
    *,
    sides: Sequence[str] = SIDES,
    fraction: float | tuple[float, float] = (0.04, 0.25),
    probability: float = 0.5,
) -> jax.Array:
    """A border to be painted beyond a picture: float32 h w 1, 1 = hole.

    Args:
      sides: those that may be holes, of left, top, right, bottom.
      fraction: the range of a border's depth as a share of the picture's side, below 1/2; a number fixes it.
      probability: with which each of `sides` is a hole, independently; where chance takes none, one of
        them drawn evenly is. 1 takes all: with a number for `fraction`, every mask is the same.
    """
    options.check_size(height, width)
    sides = [sides] if isinstance(sides, str) else list(sides)
    if not sides or any(name not in SIDES for name in sides):
        raise InputError(f"mask option sides is {sides}: give one or more of {', '.join(SIDES)}")
    options.check_range("probability", probability, 0, 1)
    least, most = options.check_range("fraction", fraction, 0.01, 0.49)

    drawn = jax.random.bits(key, (9,), jnp.uint32)
    named = jnp.array([name in sides for name in SIDES])
    taken = named & integers.chance(drawn[:4], probability)
    spare = jnp.array([SIDES.index(name) for name in sides])[integers.uniform(drawn[4], 0, len(sides))]
    taken = jnp.where(jnp.any(taken), taken, jnp.arange(4) == spare)

    length = [width, height, width, height]
    low = jnp.array([max(1, round(least * side)) for side in length], jnp.int32)
    high = jnp.array([max(1, round(most * side)) for side in length], jnp.int32)
    depth = integers.uniform(drawn[5:], low, high + 1)
    return _draw(
        [0, 0, width - depth[2], 0],
        [0, 0, 0, height - depth[3]],
        [depth[0], width, depth[2], width],
        [height, depth[1], height, depth[3]],
        list(taken),
        height,
        width,
    )


def _draw(left, top, wide, high, present, height: int, width: int) -> jax.Array:
    where = [jnp.stack([jnp.asarray(value, jnp.int32) for value in values]) for values in (left, top, wide, high)]
    drawn = spans.boxes(*where, jnp.stack([jnp.asarray(value) for value in present]), height, width)
    return spans.unpack(spans.fill(drawn, width), width)
