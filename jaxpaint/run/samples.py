"""Sample sheets during a run."""

import jax
import numpy as np

from jaxpaint.data import stream
from jaxpaint.parallel.mesh import gathered
from jaxpaint.run.config import Experiment
from jaxpaint.run.sheet import sample_sheet
from jaxpaint.run.step import filling, ready
from jaxpaint.train import State, System

ROWS = 4


class Samples:
    """Sample sheets of the same few training examples, with the masks of their positions.

    Every process makes the same sheet by itself, on one device.
    """

    def __init__(self, experiment: Experiment, system: System, source):
        settings, fill = experiment.train, filling(system)
        # The batch that step 0 has: a pure function of the seed, so the sheets of a resumed run show the same.
        batches = stream(experiment.data, batch=ROWS, seed=settings.seed, source=source)
        self.batch = next(batches)
        batches.close()

        def show(weights, batch, rng):
            masks = ready(batch, experiment.masks, rng)["mask"].astype(np.uint8)
            given = {"image": batch["image"], "mask": masks, "position": batch["position"]}
            return masks, fill(weights, given, rng)[0]

        self._show = jax.jit(show)

    def sheet(self, state: State) -> np.ndarray:
        """uint8 h w 3: masked picture, result, truth. A result that is not finite, as a broken run may have it, is
        drawn black. Every process has to call it."""
        masks, filled = self._show(gathered(state.weights), self.batch, gathered(state.rng))
        return sample_sheet(self.batch["image"], np.asarray(masks), np.asarray(filled))
