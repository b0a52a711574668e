"""All mask families by name, and `sample`, which draws one mask for each example of a batch."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax

from jaxpaint.ops.masks import boxes, lama, mat, repaint, share, strokes
from jaxpaint.types import InputError, did_you_mean

FAMILIES: dict[str, Callable] = {
    "deepfillv2": strokes.deepfillv2,
    "freeform": strokes.freeform,
    "box": boxes.box,
    "centre": boxes.centre,
    "lama_thin": lama.lama_thin,
    "lama_medium": lama.lama_medium,
    "lama_thick": lama.lama_thick,
    "mat": mat.mat,
    "irregular": share.irregular,
    "outpaint": boxes.outpaint,
    "half": repaint.half,
    "expand": repaint.expand,
    "every_second_line": repaint.every_second_line,
    "super_resolution": repaint.super_resolution,
    "repaint_thin": repaint.repaint_thin,
    "repaint_thick": repaint.repaint_thick,
}
"""Each: ``(key, height, width, **options) -> float32 h w 1``, exactly 0 or 1, 1 = hole, never empty, never full."""


@dataclasses.dataclass
class Masks:
    """Which masks to draw.

    family: a name of `FAMILIES`.
    options: keyword arguments of that family.
    """

    family: str = "deepfillv2"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def family(masks: Masks) -> Callable:
    """The function ``(key, height, width) -> mask`` that a configuration names.

    Raises:
      InputError: no such family, or no such option of it; the message proposes the nearest name.
    """
    if masks.family not in FAMILIES:
        raise InputError(f"there is no mask family {masks.family!r}{_nearest(masks.family, FAMILIES)}")
    draw = FAMILIES[masks.family]
    known = [name for name, p in inspect.signature(draw).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in masks.options:
        if name not in known:
            raise InputError(f"mask family {masks.family!r} has no option {name!r}{_nearest(name, known)}")

    def configured(key: jax.Array, height: int, width: int) -> jax.Array:
        return draw(key, height, width, **masks.options)

    return configured


def _nearest(name: str, known) -> str:
    known = list(known)
    if not known:
        return ": it has none"
    return f": {did_you_mean(name, known, 'did you mean {!r}? ', cutoff=0.5)}there are {', '.join(known)}"


def sample(key: jax.Array, positions: jax.Array, height: int, width: int, masks: Masks) -> jax.Array:
    """One mask for each example.

    The mask of the example at position p is a function of ``fold_in(key, p)`` alone: the same in any
    batch, on any number of devices, before and after a restart.

    Args:
      key: a key of the run, the same for all its steps.
      positions: uint32 b, the examples' numbers in the global stream.
      height, width: pixels, static.
      masks: what to draw.

    Returns:
      float32 b h w 1, 1 = hole.
    """
    draw = family(masks)

    def one(position: jax.Array) -> jax.Array:
        return draw(jax.random.fold_in(key, position), height, width)

    return jax.vmap(one)(positions)
