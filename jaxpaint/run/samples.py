"""Sample sheets during a run."""

import jax
import numpy as np

from jaxpaint.data import stream
from jaxpaint.run.config import Experiment
from jaxpaint.run.sheet import sample_sheet
from jaxpaint.run.step import ready
from jaxpaint.train import State, System

ROWS = 4


class Samples:
    """Sample sheets of the same few training examples, with the masks of their positions."""

    def __init__(self, experiment: Experiment, system: System, source):
        settings = experiment.train
        # The batch that step 0 has: a pure function of the seed, so the sheets of a resumed run show the same.
        batches = stream(experiment.data, batch=ROWS, seed=settings.seed, source=source)
        self.batch = next(batches)
        batches.close()

        def run(weights, batch, rng):
            batch = ready(batch, experiment.masks, rng)
            return batch["mask"], system.inpaint(weights, batch, rng)

        self.run = jax.jit(run)

    def sheet(self, state: State) -> np.ndarray:
        """uint8 h w 3: masked picture, result, truth."""
        mask, filled = self.run(state.weights, self.batch, state.rng)
        return sample_sheet(self.batch["image"], np.asarray(mask), np.asarray(filled))
