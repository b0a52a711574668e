"""Validation during a run: a few figures on frozen masks, by the same code as ``evaluate.py``."""

import warnings

import jax

from jaxpaint.parallel.mesh import gathered
from jaxpaint.run.config import Experiment
from jaxpaint.run.figures import figures
from jaxpaint.run.fill import Filler, paste
from jaxpaint.run.measure import evaluate, flat
from jaxpaint.run.prepare import Job
from jaxpaint.run.protocol import Pictures, frozen_masks
from jaxpaint.train import State, System

METRICS = figures(("l1", "psnr"))
BATCH = 4
"""Pictures at once on a device."""


class Validator:
    """Measures a state on the pictures and masks of ``experiment.validation``, at the size of the training data.

    The pictures are spread over all processes and their devices.
    """

    def __init__(self, experiment: Experiment, system: System):
        settings = experiment.validation
        self.pictures = Pictures(settings.data, experiment.data.size, settings.resize, settings.count)
        self.masks = frozen_masks(settings.mask_set, self.pictures, seed=0)
        self.filler = Filler(system.inpaint, name=experiment.system)
        self.rng = jax.random.key(experiment.train.seed)

    def __call__(self, state: State) -> dict[str, float]:
        """Figures by name: ``psnr``, ``psnr_hole``, ``l1``, ``l1_hole``. All processes call it, and all have them all.

        Warns:
          UserWarning: results are not finite; they are measured as if they were black.
        """
        weights = self.filler.place(gathered(state.weights))

        broken = []

        def inpaint(images, masks, positions):
            jobs = [Job(*example) for example in zip(images, masks, positions, strict=True)]
            filled = list(self.filler.fill(weights, jobs, self.rng, batch_size=BATCH, full=True))
            broken.extend(positions[number] for number, _, finite in filled if not finite)
            return paste(jobs, filled)

        batch = BATCH * self.filler.groups
        values = flat(evaluate(inpaint, self.pictures, self.masks, metrics=METRICS, batch=batch))
        if broken:
            warnings.warn(
                f"validation: the results for {len(broken)} pictures (the first is number {min(broken)}) are not "
                "finite and count as black: the weights are broken, or precision is too low",
                stacklevel=2,
            )
        return values
