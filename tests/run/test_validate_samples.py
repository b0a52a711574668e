"""What a run shows of itself: validation figures as ``evaluate.py`` has them, and sheets of training examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.data import Data, open_source, stream
from jaxpaint.ops.masks import Masks
from jaxpaint.ops.pixels import composite
from jaxpaint.run.config import Experiment, Validation
from jaxpaint.run.measure import evaluate, flat
from jaxpaint.run.samples import ROWS, Samples
from jaxpaint.run.sheet import sample_sheet
from jaxpaint.run.step import ready
from jaxpaint.run.validate import METRICS, Validator
from jaxpaint.train import State, System


def shifted(weights, batch, rng):
    """The picture itself, brighter by a weight and by noise of the position."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(rng, batch["position"])
    noise = jax.vmap(jax.random.uniform)(keys)[:, None, None, None]
    shift = weights.params["net"]["shift"] + 0.2 * noise
    return composite(0 * batch["image"] + shift, batch["image"], batch["mask"])


SYSTEM = System(None, None, shifted, {})


@pytest.fixture
def experiment(tmp_path):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (11, 10, 10, 3), np.uint8)
    path = tmp_path / "pictures.npz"
    np.savez(path, images=coarse.repeat(8, 1).repeat(8, 2))
    data = Data(source="arrays", path=str(path), size=(64, 64))
    masks = Masks("box")  # compiles sooner than strokes
    validation = Validation(1, str(path), mask_set="box", count=10)
    return Experiment("shift", None, data=data, masks=masks, validation=validation)


def state(shift):
    return State(jnp.int32(0), {"net": {"shift": jnp.float32(shift)}}, {}, {}, {}, jax.random.key(7))


def test_validation_is_an_evaluation(experiment):
    validator = Validator(experiment, SYSTEM)
    rng = jax.random.key(experiment.train.seed)

    def inpaint(images, masks, positions):
        """The same without padding, batches and devices."""
        results = []
        for image, mask, position in zip(images, masks, positions, strict=True):
            noise = jax.random.uniform(jax.random.fold_in(rng, position))
            level = np.float32(0.3) + np.float32(0.2) * np.float32(noise)
            pixel = np.uint8(np.rint((level + 1) * np.float32(127.5)))
            results.append(np.where(mask > 0, pixel, image))
        return results

    want = flat(evaluate(inpaint, validator.pictures, validator.masks, metrics=METRICS))
    assert validator(state(0.3)) == want
    assert validator(state(-0.3)) != want
    assert len(validator.filler.programs) == 1  # ten pictures on eight devices, twice: one shape
    with pytest.warns(UserWarning, match=r"the results for 10 pictures \(the first is number 0\) are not finite"):
        black = validator(state(np.nan))
    assert black == validator(state(-2.0))  # far below black


def test_the_sheet_shows_training_examples_with_their_masks(experiment):
    source = open_source(experiment.data)
    got = Samples(experiment, SYSTEM, source).sheet(state(0.3))
    batches = stream(experiment.data, batch=ROWS, seed=experiment.train.seed, source=source)
    first = next(batches)
    batches.close()
    batch = jax.jit(lambda batch, rng: ready(batch, experiment.masks, rng))(first, jax.random.key(7))
    filled = shifted(state(0.3).weights, batch, jax.random.key(7))
    want = sample_sheet(first["image"], np.asarray(batch["mask"]), np.asarray(filled))
    np.testing.assert_array_equal(got, want)


def test_a_broken_run_has_a_sheet_all_the_same(experiment):
    samples = Samples(experiment, SYSTEM, open_source(experiment.data))
    assert (samples.sheet(state(np.nan)) == samples.sheet(state(-2.0))).all()
