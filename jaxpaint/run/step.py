"""What one training step does around a system's update: pixels to floats, masks drawn on the accelerator."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxpaint.ops.masks import Masks, sample
from jaxpaint.ops.pixels import from_uint8
from jaxpaint.train import System
from jaxpaint.types import Batch

MASKS = 2**32 - 1
"""Where masks branch off the run's key: at a step that no run reaches (steps branch off at their number)."""


def ready(batch: Batch, masks: Masks, key: jax.Array) -> Batch:
    """A host batch as a system takes it: uint8 pictures to floats, and masks where there are none.

    The mask of an example depends on the key and its position alone, not on the batch it is in.
    """
    image = from_uint8(batch["image"])
    if "mask" in batch:
        mask = batch["mask"].astype(jnp.float32)
    else:
        height, width = image.shape[-3:-1]
        mask = sample(jax.random.fold_in(key, MASKS), batch["position"], height, width, masks)
    return {**batch, "image": image, "mask": mask}


def training_step(system: System, masks: Masks) -> tuple[Callable, Callable]:
    """``(init, step)`` on host batches (uint8 ``image``, ``position``, perhaps ``mask``), both to be jitted."""

    def init(rng, batch):
        return system.init(rng, ready(batch, masks, rng))

    def step(state, batch, *, axis=None):
        return system.update(state, ready(batch, masks, state.rng), axis=axis)

    return init, step
