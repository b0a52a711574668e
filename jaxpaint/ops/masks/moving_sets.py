"""Frozen sets of masks for clips: what `sets.py` is for pictures.

A set is a name and a seed; clip number i of an evaluation takes mask i of the set, at the clip's size. It does not
depend on how many frames are taken: the masks of a longer clip begin with those of a shorter one.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.ops.masks.families import Masks
from jaxpaint.ops.masks.moving import sample_clips
from jaxpaint.ops.masks.sets import MaskSet, pinned
from jaxpaint.types import InputError, did_you_mean

STEP = 32
"""Frames are drawn in multiples of this, so that clips of many lengths compile few programs."""

MOVING_SETS: dict[str, MaskSet] = {
    "still-box": MaskSet("fixed", "one box of 1/4 to 1/2 of the sides, in all frames the same", {"still": "box"}),
    "still-freeform": MaskSet("fixed", "brush strokes, in all frames the same", {"still": "freeform"}),
    "moving-box": MaskSet("box", "a box of 1/4 to 1/2 of the sides that moves at constant speed"),
    "moving-freeform": MaskSet("freeform", "brush strokes that drift and deform"),
}
"""Families are those of `jaxpaint.ops.masks.moving.MOVING`."""


def frozen_clip(name: str, number: int, frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """The masks of one clip of a set: uint8 t h w 1, 1 = hole; no frame is without a hole or all hole.

    Drawn on the CPU in whole numbers: every machine gets the same pixels.

    Args:
      name: of `MOVING_SETS`.
      number: of the clip, from 0 up.
      frames, height, width: t, and pixels.
      seed: from 0 up.

    Raises:
      InputError: no such set, no such size, or JAX was started without its CPU backend.
    """
    if name not in MOVING_SETS:
        proposal = did_you_mean(name, MOVING_SETS, "did you mean {!r}? ", cutoff=0.5)
        raise InputError(f"there is no set of moving masks {name!r}: {proposal}there are {', '.join(MOVING_SETS)}")
    if frames < 1:
        raise InputError(f"masks for {frames} frames were asked for: ask for at least 1")
    with pinned(name, seed) as key:
        drawn = 1 if MOVING_SETS[name].family == "fixed" else -(-frames // STEP) * STEP
        masks = np.asarray(_draw(key, np.uint32(number), name, drawn, height, width))
    return np.broadcast_to(masks, (frames, *masks.shape[1:])) if drawn == 1 else masks[:frames]


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _draw(key: jax.Array, number: jax.Array, name: str, frames: int, height: int, width: int) -> jax.Array:
    masks = Masks(MOVING_SETS[name].family, dict(MOVING_SETS[name].options))
    return sample_clips(key, number[None], frames, height, width, masks)[0].astype(jnp.uint8)
