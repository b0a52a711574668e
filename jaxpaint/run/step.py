"""What one training step does around a system's update: pixels to floats, masks drawn on the accelerator.

Pictures or clips: an example of three axes is a picture, one of four (with time in front) a clip.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxpaint.data import specification
from jaxpaint.ops.masks import Masks, paste, sample, sample_clips
from jaxpaint.ops.pixels import from_uint8, to_uint8, without_hole
from jaxpaint.parallel.compile import Program, compile_step
from jaxpaint.run.config import Experiment
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import System
from jaxpaint.types import Batch, InputError

MASKS = 2**32 - 1
"""Where masks branch off the run's key: at a step that no run reaches (steps branch off at their number)."""


def ready(batch: Batch, masks: Masks, key: jax.Array) -> Batch:
    """A host batch as a system takes it: uint8 pictures to floats, and masks where there are none.

    Clips get masks that move: drawn ones of `jaxpaint.ops.masks.MOVING`, or ``objects`` that are set in motion. The
    mask of an example depends on the key and its position alone (and its objects), not on the batch it is in.
    """
    image, key, positions = from_uint8(batch["image"]), jax.random.fold_in(key, MASKS), batch["position"]
    if "mask" in batch:
        mask = batch["mask"].astype(jnp.float32)
    elif "objects" in batch:
        mask = jax.vmap(lambda position, objects: paste(jax.random.fold_in(key, position), objects))(
            positions, batch["objects"]
        )
    elif image.ndim == 5:
        mask = sample_clips(key, positions, *image.shape[1:4], masks)
    else:
        mask = sample(key, positions, *image.shape[1:3], masks)
    return {**{name: x for name, x in batch.items() if name != "objects"}, "image": image, "mask": mask}


def training_step(system: System, masks: Masks) -> tuple[Callable, Callable]:
    """``(init, step)`` on host batches (uint8 ``image``, ``position``, perhaps ``mask``), both to be jitted."""

    def init(rng, batch):
        return system.init(rng, ready(batch, masks, rng))

    def step(state, batch, *, axis=None):
        return system.update(state, ready(batch, masks, state.rng), axis=axis)

    return init, step


def filling(system: System) -> Callable:
    """``(weights, batch, rng) -> (filled, finite)`` on host batches with masks (uint8), to be jitted: uint8 pictures or
    clips whose known pixels are those of the batch, and which of them are finite; what is not is black."""

    def fill(weights, batch, rng):
        image, mask = from_uint8(batch["image"]), batch["mask"].astype(jnp.float32)
        result = system.inpaint(weights, {**batch, "image": without_hole(image, mask), "mask": mask}, rng)
        finite = jnp.isfinite(result).all(axis=tuple(range(1, result.ndim)))
        return jnp.where(mask > 0, to_uint8(jnp.nan_to_num(result, nan=-1.0)), batch["image"]), finite

    return fill


def check_kind(experiment: Experiment) -> None:
    """Refuses clips for a system of pictures, and pictures for one of clips.

    Raises:
      InputError: says what to set.
    """
    video, frames = SYSTEMS[experiment.system].video, experiment.data.frames
    if video and not frames:
        raise InputError(
            f"{experiment.system} learns from clips, and data.frames is 0, which means pictures: set it to the frames "
            "of an example"
        )
    if frames and not video:
        raise InputError(
            f"{experiment.system} learns from pictures, and data.frames is {frames}, which means clips: set it to 0"
        )


def compile_training(experiment: Experiment, system: System, source: Any, mesh: Mesh, *, batch: int = 0) -> Program:
    """An experiment's training step, compiled for a mesh.

    Args:
      experiment: see `jaxpaint.run.config`
      system: built from it
      source: of its pictures, see `jaxpaint.data.open_source`; None where there is none to read
      mesh: see `jaxpaint.parallel.mesh.make_mesh`
      batch: examples over the whole mesh, by default ``train.batch``
    """
    shapes = specification(experiment.data, source, batch or experiment.train.batch)
    abstract = {name: jax.ShapeDtypeStruct(*spec) for name, spec in shapes.items()}
    init, step = training_step(system, experiment.masks)
    layout = experiment.mesh
    return compile_step(init, step, abstract, mesh, layout.mode, rules=layout.rules, steps=experiment.train.dispatch)
