"""LaMa's masks: thin, medium and thick.

Source: Suvorov et al., Resolution-robust Large Mask Inpainting with Fourier Convolutions
(arXiv 2109.07161), in the constants of the released evaluation configs
(`random_{thin,medium,thick}_{256,512}`). A mask is either a set of strokes or a set of boxes. A stroke
has 1 to 5 segments, each with its own length, thickness and one of four directions (0.01 + 0, 1, 2 or 3
rad, mirrored for every other stroke). Masks with more than half of the picture as hole are drawn again.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpaint.ops.masks import integers, options, share, spans

PIECES = 5


class Recipe(NamedTuple):
    """A published config. Numbers of strokes and boxes: (fewest, most), both possible, as the code draws
    them (it adds one to the most strokes of the config). Sizes in pixels."""

    strokes: tuple[int, int]
    longest: int  # lengths are 10 + [0, longest)
    broadest: int  # thicknesses are 5 + [0, broadest)
    box_share: float = 0.0  # of all masks
    boxes: tuple[int, int] = (0, 0)
    box_side: tuple[int, int] = (0, 0)  # both possible
    margin: int = 0  # of boxes, from the border


_BOXES = 0.3 / 1.3  # the configs weigh strokes 1 and boxes 0.3

THIN = {256: Recipe((4, 51), 40, 10), 512: Recipe((4, 71), 100, 20)}
MEDIUM = {
    256: Recipe((4, 6), 100, 50, _BOXES, (1, 5), (10, 50), 0),
    512: Recipe((4, 11), 200, 100, _BOXES, (1, 5), (30, 150), 0),
}
THICK = {
    256: Recipe((1, 6), 200, 100, _BOXES, (1, 3), (30, 150), 10),
    512: Recipe((1, 6), 450, 250, _BOXES, (1, 4), (30, 300), 10),
}


def lama_thin(key: jax.Array, height: int, width: int, *, most: float = 0.5, scale: float | None = None) -> jax.Array:
    """Many thin strokes ("narrow" in the paper): float32 h w 1, 1 = hole.

    From a shorter side of 512 the published constants for 512 are used, else those for 256 (made smaller
    below that: see `options.unit`).

    Args:
      most: masks with a larger share of hole are drawn again.
      scale: multiplies the constants instead of the rule.
    """
    return _draw(key, height, width, THIN, most, scale)


def lama_medium(key: jax.Array, height: int, width: int, *, most: float = 0.5, scale: float | None = None) -> jax.Array:
    """Strokes and boxes of medium size: float32 h w 1, 1 = hole. Options as in `lama_thin`."""
    return _draw(key, height, width, MEDIUM, most, scale)


def lama_thick(key: jax.Array, height: int, width: int, *, most: float = 0.5, scale: float | None = None) -> jax.Array:
    """Broad strokes and large boxes ("wide" in the paper): float32 h w 1, 1 = hole. Options as in `lama_thin`."""
    return _draw(key, height, width, THICK, most, scale)


def _draw(key, height, width, recipes, most, scale):
    options.check_size(height, width)
    recipe = recipes[512 if min(height, width) >= 512 else 256]
    multiplier = options.unit(height, width, scale)
    allowed = share.limits("most", (0.0, most), height, width, closed=True)

    def draw(key: jax.Array) -> jax.Array:
        shapes = (), (4 + 3 * PIECES, recipe.strokes[1]), (5, recipe.boxes[1])
        which, strokes, squares = integers.bits(key, *shapes)
        boxed = integers.chance(which, recipe.box_share)
        bits = _strokes(strokes, ~boxed, recipe, height, width, multiplier)
        if recipe.box_share:
            bits = bits | _boxes(squares, boxed, recipe, height, width, multiplier)
        return bits

    return spans.unpack(share.redraw(draw, key, allowed, height, width), width)


def _strokes(bits, wanted, recipe: Recipe, height, width, multiplier) -> jax.Array:
    most = recipe.strokes[1]
    first, later = bits[:4], bits[4:].reshape(3, PIECES, most)
    directions = jnp.array([integers.turns(0.01 + number) for number in range(4)], jnp.int32)
    direction = directions[integers.uniform(later[0], 0, 4)]
    direction = jnp.where(jnp.arange(most) % 2 == 0, -direction, direction)
    length = integers.uniform(later[1], *options.between(10, 10 + recipe.longest, multiplier))
    thickness = integers.uniform(later[2], *options.between(5, 5 + recipe.broadest, multiplier))

    begin = jnp.stack([integers.uniform(first[0], 0, width), integers.uniform(first[1], 0, height)], axis=-1)
    # The angle is measured from the vertical axis: x takes the sine.
    down, right = integers.step(direction, integers.pixels(length))
    limit = jnp.array([width, height], jnp.int32)

    def walk(point, move):
        after = jnp.clip(point + move, 0, limit)
        return after, (point, after)

    start, end = jax.lax.scan(walk, begin, jnp.stack([right, down], axis=-1))[1]
    number = integers.uniform(first[2, 0], recipe.strokes[0], most + 1)
    pieces = integers.uniform(first[3], 1, PIECES + 1)
    present = wanted & (jnp.arange(most) < number) & (jnp.arange(PIECES)[:, None] < pieces)
    return spans.paint(
        start.reshape(-1, 2), end.reshape(-1, 2), thickness.reshape(-1), present.reshape(-1), height, width
    )


def _boxes(drawn, wanted, recipe: Recipe, height, width, multiplier) -> jax.Array:
    most = recipe.boxes[1]
    margin = options.at_size(recipe.margin, multiplier, least=0)
    low, high = options.between(recipe.box_side[0], recipe.box_side[1] + 1, multiplier)
    high = min(high, height - 2 * margin, width - 2 * margin)
    wide, tall = integers.uniform(drawn[0], low, high), integers.uniform(drawn[1], low, high)
    left = integers.uniform(drawn[2], margin, width - margin - wide + 1)
    top = integers.uniform(drawn[3], margin, height - margin - tall + 1)
    number = integers.uniform(drawn[4, 0], recipe.boxes[0], most + 1)
    shapes = spans.boxes(left, top, wide, tall, wanted & (jnp.arange(most) < number), height, width)
    return spans.fill(shapes, width)
