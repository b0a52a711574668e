"""Validation during a run: a few figures on frozen masks, by the same code as ``evaluate.py``."""

import warnings

import jax
import numpy as np

from jaxpaint.parallel.mesh import gathered
from jaxpaint.run.clips import Clips, FrozenClipMasks
from jaxpaint.run.config import Experiment
from jaxpaint.run.figures import clip_figures, figures
from jaxpaint.run.fill import Filler, paste
from jaxpaint.run.measure import evaluate, flat
from jaxpaint.run.prepare import Job
from jaxpaint.run.protocol import Pictures, frozen_masks
from jaxpaint.run.step import filling
from jaxpaint.train import State, System

NAMES = ("l1", "psnr")
METRICS = figures(NAMES)
BATCH = 4
"""Pictures at once on a device."""


class Validator:
    """Measures a state on the pictures and masks of ``experiment.validation``, at the size of the training data.

    The pictures are spread over all processes and their devices.
    """

    def __init__(self, experiment: Experiment, system: System):
        settings = experiment.validation
        self.pictures = Pictures(settings.data, experiment.data.size, settings.resize, settings.count)
        self.masks = frozen_masks(settings.mask_set or "deepfillv2", self.pictures, seed=0)
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
        _warn(broken, "pictures")
        return values


class ClipValidator:
    """`Validator` of clips: their first frames, as many as a training example has, under masks that move; figures are
    means over frames, then over clips. The clips are spread over all processes, one at a time on one device of each."""

    def __init__(self, experiment: Experiment, system: System):
        settings, data = experiment.validation, experiment.data
        self.clips = Clips(settings.data, data.size, settings.resize, settings.count, data.frames)
        self.masks = FrozenClipMasks(settings.mask_set or "moving-freeform", self.clips, seed=0)
        self.metrics = clip_figures(NAMES)
        self.fill = jax.jit(filling(system))
        self.rng = jax.random.key(experiment.train.seed)

    def __call__(self, state: State) -> dict[str, float]:
        """As `Validator`."""
        weights, broken = gathered(state.weights), []

        def inpaint(clips, masks, positions):
            batch = {"image": np.stack(clips), "mask": np.stack(masks), "position": np.array(positions, np.uint32)}
            filled, finite = jax.device_get(self.fill(weights, batch, self.rng))
            broken.extend(np.array(positions)[~finite].tolist())
            return list(filled)

        values = flat(evaluate(inpaint, self.clips, self.masks, metrics=self.metrics, batch=1, noun="clip"))
        _warn(broken, "clips")
        return values


def _warn(broken: list[int], kind: str) -> None:
    if broken:
        warnings.warn(
            f"validation: the results for {len(broken)} {kind} (the first is number {min(broken)}) are not "
            "finite and count as black: the weights are broken, or precision is too low",
            stacklevel=3,
        )
