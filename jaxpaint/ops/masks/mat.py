"""MAT's training masks: boxes of two sizes and brush strokes, drawn again until the hole share fits.

Source: Li et al., MAT: Mask-Aware Transformer for Large Hole Image Inpainting (arXiv 2203.15270),
in the constants of the released generators for 256 and 512, each also in a "small" version.
The numbers of boxes and strokes begin at none.
"""

import jax
import jax.numpy as jnp

from jaxpaint.ops.masks import integers, options, share, spans
from jaxpaint.ops.masks.strokes import brush, brush_shape

COUNTS = {
    # side, small -> one more than the most: boxes up to half a side, boxes up to a side, strokes
    (256, False): (4, 2, 8),
    (512, False): (5, 3, 9),
    (256, True): (2, 2, 3),
    (512, True): (3, 2, 4),
}


def mat(
    key: jax.Array,
    height: int,
    width: int,
    *,
    hole_range: tuple[float, float] = (0.0, 1.0),
    small: bool = False,
    scale: float | None = None,
) -> jax.Array:
    """MAT's mask: float32 h w 1, 1 = hole.

    From a shorter side of 512 the published counts for 512 are used, else those for 256. Boxes follow
    the picture's sides; the strokes' thickness is in pixels (see `options.unit`).

    Args:
      hole_range: the hole share lies strictly inside, always. The counts are multiplied by the sum
        of the two (at most 1), as in the released code.
      small: the generator of the "small" masks.
      scale: overrides the rule of `options.unit` for the thickness.
    """
    allowed = share.limits("hole_range", hole_range, height, width, closed=False)
    factor = min(sum(hole_range), 1.0)
    counts = COUNTS[512 if min(height, width) >= 512 else 256, bool(small)]
    middling, large, strokes = (max(int(number * factor) - 1, 0) for number in counts)
    thickness = options.between(12, 48, options.unit(height, width, scale))

    brushes = {"strokes": (0, strokes), "vertices": (4, 17)}

    def draw(key: jax.Array) -> jax.Array:
        shapes = (2,), brush_shape(**brushes), (5, middling), (5, large)
        flips, chance, first, second = integers.bits(key, *shapes)
        segments = brush(chance, height, width, **brushes, thickness=thickness)
        bits = spans.paint(*_flip(flips, *segments, height, width), height, width)
        for drawn, part in ((first, 2), (second, 1)):
            if drawn.size:
                bits = bits | _boxes(drawn, height // part, width // part, height, width)
        return bits

    return spans.unpack(share.redraw(draw, key, allowed, height, width), width)


def _flip(bits, start, end, thickness, present, height, width):
    """Mirrors all strokes, left to right and top to bottom, each with probability 1/2."""
    mirrored = integers.chance(bits, 0.5)
    last = jnp.array([width - 1, height - 1], jnp.int32)
    start, end = (jnp.where(mirrored, last - point, point) for point in (start, end))
    return start, end, thickness, present


def _boxes(drawn, tallest: int, widest: int, height: int, width: int) -> jax.Array:
    """0..n boxes, for random bits of shape (5, n): sides below the given ones, up to half of a box outside."""
    most = drawn.shape[1]
    wide, tall = integers.uniform(drawn[0], 0, widest), integers.uniform(drawn[1], 0, tallest)
    left = integers.uniform(drawn[2], -(wide // 2), width - wide + wide // 2)
    top = integers.uniform(drawn[3], -(tall // 2), height - tall + tall // 2)
    number = integers.uniform(drawn[4, 0], 0, most + 1)
    return spans.fill(spans.boxes(left, top, wide, tall, jnp.arange(most) < number, height, width), width)
