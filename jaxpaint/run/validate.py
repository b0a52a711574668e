"""Validation during a run: a few figures on frozen masks, by the same code as ``evaluate.py``."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.ops.pixels import from_uint8, to_uint8
from jaxpaint.run.config import Experiment
from jaxpaint.run.evaluate import evaluate, flat
from jaxpaint.run.protocol import Pictures, frozen_masks
from jaxpaint.train import State, System

METRICS = ("l1", "psnr")
BATCH = 8


class Validator:
    """Measures a state on the pictures and masks of ``experiment.validation``, at the size of the training data."""

    def __init__(self, experiment: Experiment, system: System):
        settings = experiment.validation
        self.pictures = Pictures(settings.data, experiment.data.size, settings.resize, settings.count)
        self.masks = frozen_masks(settings.mask_set, self.pictures, seed=0)

        def run(weights, image, mask, rng):
            batch = {"image": from_uint8(image), "mask": mask.astype(jnp.float32)}
            return to_uint8(system.inpaint(weights, batch, rng))

        self.run = jax.jit(run)
        self.rng = jax.random.key(experiment.train.seed)

    def __call__(self, state: State) -> dict[str, float]:
        """Figures by name: ``psnr``, ``psnr_hole``, ``l1``, ``l1_hole``."""

        def inpaint(images, masks, positions):
            # The last batch is filled up, so that one shape is compiled.
            missing = BATCH - len(images)
            image, mask = (np.stack([*x, *[x[-1]] * missing]) for x in (images, masks))
            rng = jax.random.fold_in(self.rng, positions[0])
            return list(np.asarray(self.run(state.weights, image, mask, rng))[: len(images)])

        return flat(evaluate(inpaint, self.pictures, self.masks, metrics=METRICS, batch=BATCH))
