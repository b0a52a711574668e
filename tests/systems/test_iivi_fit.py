"""Fitting a network to a clip: it learns, it can be made again, and it does not look into holes."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxpaint.systems._iivi import FitConfig, fill, fit
from jaxpaint.types import InputError

KEY = jax.random.key(4)
# Programs of one config are compiled once, which is nearly all of the time here.
CONFIG = FitConfig(width=4, gain=2.5, batch=2, coarse_steps=20, steps=5, lr=5e-3, warmup=3)


@pytest.fixture(autouse=True, scope="module")
def quick_compiles():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def clip():
    """Three frames that a picture moves through, and a hole that does not."""
    rng = np.random.default_rng(0)
    picture = np.kron(rng.uniform(-1, 1, (4, 8, 3)), np.ones((4, 4, 1))).astype(np.float32)
    frames = np.stack([picture[:, 2 * shift : 2 * shift + 16] for shift in range(3)])
    masks = np.zeros((3, 16, 16, 1), np.float32)
    masks[:, 5:9, 6:10] = 1
    masks[:, 5:9, 10] = 0.25  # a soft edge
    return frames, masks


@functools.cache
def fitted():
    return fit(*clip(), CONFIG, KEY)


def test_learns_and_leaves_known_pixels_alone():
    frames, masks = clip()
    params, history = fitted()
    assert history.shape == (25, 2)
    np.testing.assert_array_equal(history[:20, 0], history[:20, 1])  # nothing refined yet
    assert np.all(history[20:, 0] != history[20:, 1])
    assert history[-5:, 0].mean() < 0.92 * history[:3, 0].mean()
    filled = np.asarray(fill(frames, masks, params, CONFIG))
    known = np.broadcast_to(masks == 0, frames.shape)
    np.testing.assert_array_equal(filled[known], frames[known])
    assert np.all(filled[~known] != frames[~known])


def test_what_is_in_a_hole_is_not_looked_at():
    frames, masks = clip()
    watched = []
    hidden = np.where(masks == 1, np.nan, frames)
    params, history = fit(hidden, masks, CONFIG, KEY, watch=lambda number, _: watched.append(number))
    assert watched == list(range(1, 26))
    np.testing.assert_array_equal(history, fitted()[1])
    assert np.all(np.isfinite(fill(hidden, masks, params, CONFIG)))


def test_starts_from_another_fit():
    params, history = fitted()
    _, warm = fit(*clip(), CONFIG, KEY, start=params)
    assert warm[0, 0] < 0.92 * history[0, 0]
    assert jax.tree.all(jax.tree.map(lambda leaf: not leaf.is_deleted(), params))


def test_clips_that_cannot_be_learnt_from():
    frames, masks = clip()
    with pytest.raises(InputError, match="expected t h w 3"):
        fit(frames, masks[:2], CONFIG, KEY)
    with pytest.raises(InputError, match="nothing is known"):
        fit(frames, np.ones_like(masks), CONFIG, KEY)
    with pytest.raises(InputError, match="no steps"):
        fit(frames, masks, dataclasses.replace(CONFIG, coarse_steps=0, steps=0), KEY)


def test_the_coarse_stage_alone():
    """No refinement is made, and the schedule is as long as the coarse stage's."""
    frames, masks = clip()
    config = dataclasses.replace(CONFIG, coarse_steps=2, steps=0, schedule="cosine", warmup=1)
    params, history = fit(frames, masks, config, KEY)
    assert set(params) == {"coarse_net"} and history.shape == (2, 2)
    assert np.isfinite(np.asarray(fill(frames, masks, params, config))).all()
