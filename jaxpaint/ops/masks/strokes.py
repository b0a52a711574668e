"""Free-form brush strokes: DeepFillv2's training masks, and the strokes that MAT took over from it.

Source: Yu et al., Free-Form Image Inpainting with Gated Convolution (arXiv 1806.03589),
in the constants of the released code (generative_inpainting v2.0.0).
"""

import math

import jax
import jax.numpy as jnp

from jaxpaint.ops.masks import integers, options
from jaxpaint.ops.masks.spans import Spans, boxes, fill, keep, paint, unpack
from jaxpaint.types import InputError


def brush_shape(strokes: tuple[int, int], vertices: tuple[int, int]) -> tuple[int, int]:
    """The shape of the random bits that `brush` takes."""
    return 7 + 2 * vertices[1], max(strokes[1], 1)


def brush(
    bits: jax.Array,
    height: int,
    width: int,
    *,
    strokes: tuple[int, int],
    vertices: tuple[int, int],
    thickness: tuple[int, int],
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Random strokes that zigzag to the right, as segments for `spans.paint`.

    A stroke starts anywhere and turns by about 2 pi / 5 at each vertex, up at even and down at odd ones;
    its steps are normal with mean R = diagonal / 8 and deviation floor(R / 2), clipped to [0, 2 R], and
    end inside the picture. The released code flips some strokes and throws the result away: so all go right.

    Args:
      bits: uint32, random, of the shape that `brush_shape` gives.
      strokes: fewest and most strokes (both possible; 0 strokes give no present segment).
      vertices: fewest and most steps of a stroke (both possible).
      thickness: smallest, and one more than the largest, in pixels.

    Returns:
      start (n, 2), end (n, 2), thickness (n,), present (n,), with n = most strokes * most steps.
    """
    steps, most = vertices[1], bits.shape[1]
    shared, turning, stepping = bits[:7], bits[7 : 7 + steps], bits[7 + steps :]

    mean, spread = integers.turns(2 * math.pi / 5), integers.turns(2 * math.pi / 15)
    low = mean - integers.uniform(shared[0], 0, spread + 1)
    high = mean + integers.uniform(shared[1], 0, spread + 1)
    direction = integers.uniform(turning, low, high + 1)
    direction = jnp.where(jnp.arange(steps)[:, None] % 2 == 0, -direction, direction)
    average = math.hypot(height, width) / 8
    length = integers.normal(stepping, average, average // 2)

    limit = jnp.array([width, height], jnp.int32)
    begin = jnp.stack([integers.uniform(shared[2], 0, width), integers.uniform(shared[3], 0, height)], axis=-1)

    def walk(point, move):
        after = jnp.clip(point + move, 0, limit)
        return after, (point, after)

    moves = jnp.stack(integers.step(direction, length), axis=-1)
    start, end = jax.lax.scan(walk, begin, moves)[1]  # steps, most, (x, y)

    wide = integers.uniform(shared[4], thickness[0], thickness[1])
    number = integers.uniform(shared[5, 0], strokes[0], strokes[1] + 1)
    taken = integers.uniform(shared[6], vertices[0], vertices[1] + 1)
    present = (jnp.arange(most) < number) & (jnp.arange(steps)[:, None] < taken)
    wide = jnp.broadcast_to(wide, present.shape)
    return start.reshape(-1, 2), end.reshape(-1, 2), wide.reshape(-1), present.reshape(-1)


def freeform(
    key: jax.Array,
    height: int,
    width: int,
    *,
    strokes: tuple[int, int] = (1, 3),
    vertices: tuple[int, int] = (4, 11),
    thickness: tuple[float, float] = (12, 40),
    scale: float | None = None,
) -> jax.Array:
    """Brush strokes alone: float32 h w 1, 1 = hole.

    Args:
      strokes: fewest and most strokes.
      vertices: fewest and most steps of a stroke.
      thickness: from, and below, in pixels of a 256 picture (see `options.unit`).
      scale: overrides the rule of `options.unit`.
    """
    brushes = _brush_options(height, width, strokes, vertices, thickness, options.unit(height, width, scale))
    (chance,) = integers.bits(key, brush_shape(brushes["strokes"], brushes["vertices"]))
    bits = paint(*brush(chance, height, width, **brushes), height, width)
    return unpack(keep(bits, fill(_centre(height, width), width), width), width)


def deepfillv2(
    key: jax.Array,
    height: int,
    width: int,
    *,
    side: float = 128,
    shrink: float = 16,
    strokes: tuple[int, int] = (1, 3),
    vertices: tuple[int, int] = (4, 11),
    thickness: tuple[float, float] = (12, 40),
    scale: float | None = None,
) -> jax.Array:
    """DeepFillv2's training mask, the union of a box and brush strokes: float32 h w 1, 1 = hole.

    The box: a square of `side` anywhere inside, then made smaller by 0..`shrink` pixels at the top and
    the bottom alike, and by another such number at the left and the right.

    Args:
      side, shrink: pixels of a 256 picture (see `options.unit`).
      strokes, vertices, thickness, scale: as in `freeform`.
    """
    multiplier = options.unit(height, width, scale)
    brushes = _brush_options(height, width, strokes, vertices, thickness, multiplier)
    square, most = options.at_size(side, multiplier), options.at_size(shrink, multiplier, least=0)
    if square >= min(height, width) or 2 * most >= square:
        raise InputError(
            f"a box of {square} pixels, made smaller by up to {most} on each side, does not fit a mask of "
            f"{height}x{width}: lower the mask options side, shrink or scale"
        )
    drawn, chance = integers.bits(key, (4,), brush_shape(brushes["strokes"], brushes["vertices"]))
    inset_y, inset_x = integers.uniform(drawn[0], 0, most + 1), integers.uniform(drawn[1], 0, most + 1)
    box = boxes(
        (integers.uniform(drawn[2], 0, width - square) + inset_x)[None],
        (integers.uniform(drawn[3], 0, height - square) + inset_y)[None],
        (square - 2 * inset_x)[None],
        (square - 2 * inset_y)[None],
        jnp.ones((1,), bool),
        height,
        width,
    )
    box = fill(box, width)
    bits = box | paint(*brush(chance, height, width, **brushes), height, width)
    return unpack(keep(bits, box, width), width)


def _brush_options(height, width, strokes, vertices, thickness, multiplier: float) -> dict[str, tuple[int, int]]:
    """Checked, and the thickness at this picture's size: what `brush` takes."""
    options.check_size(height, width)
    return {
        "strokes": options.check_counts("strokes", strokes, 1, 64),
        "vertices": options.check_counts("vertices", vertices, 1, 64),
        "thickness": options.between(*options.check_range("thickness", thickness, 1, 1024), multiplier),
    }


def _centre(height: int, width: int) -> Spans:
    """The centred box of half the sides: what stands in for a mask that came out all hole."""
    where = [jnp.array([value], jnp.int32) for value in (width // 4, height // 4, width // 2, height // 2)]
    return boxes(*where, jnp.ones((1,), bool), height, width)
