"""What one training step does around a system's update: pixels to floats, masks drawn on the accelerator."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxpaint.data import specification
from jaxpaint.ops.masks import Masks, sample
from jaxpaint.ops.pixels import from_uint8
from jaxpaint.parallel.compile import Program, compile_step
from jaxpaint.run.config import Experiment
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
