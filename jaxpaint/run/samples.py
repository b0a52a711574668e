"""Sample sheets during a run."""

import jax
import numpy as np

from jaxpaint.data import stream
from jaxpaint.parallel.mesh import gathered
from jaxpaint.run.config import Experiment
from jaxpaint.run.fill import Filler, paste
from jaxpaint.run.prepare import Job
from jaxpaint.run.sheet import sample_sheet
from jaxpaint.run.step import ready
from jaxpaint.train import State, System

ROWS = 4


class Samples:
    """Sample sheets of the same few training examples, with the masks of their positions.

    Every process makes the same sheet by itself.
    """

    def __init__(self, experiment: Experiment, system: System, source):
        settings = experiment.train
        # The batch that step 0 has: a pure function of the seed, so the sheets of a resumed run show the same.
        batches = stream(experiment.data, batch=ROWS, seed=settings.seed, source=source)
        self.batch = next(batches)
        batches.close()
        self.masks = jax.jit(lambda batch, rng: ready(batch, experiment.masks, rng)["mask"])
        self.filler = Filler(system.inpaint, name=experiment.system, devices=1)

    def sheet(self, state: State) -> np.ndarray:
        """uint8 h w 3: masked picture, result, truth. A result that is not finite, as a broken run may have it, is
        drawn black. Every process has to call it."""
        weights, rng = gathered((state.weights, state.rng))
        masks = np.asarray(self.masks(self.batch, rng)).astype(np.uint8)
        examples = zip(self.batch["image"], masks, self.batch["position"], strict=True)
        jobs = [Job(np.asarray(image), mask, int(position)) for image, mask, position in examples]
        filled = paste(jobs, self.filler.fill(self.filler.place(weights), jobs, rng, batch_size=ROWS, full=True))
        return sample_sheet(self.batch["image"], masks, np.stack(filled))
