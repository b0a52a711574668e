"""Losses of learning from one clip, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.losses.internal import ambiguity_pair, anti_ambiguity, known_l1, pasted_object, stabilisation
from jaxpaint.types import InputError

RNG = np.random.default_rng(11)


def pictures(count=1, shape=(2, 5, 6, 3)):
    return [RNG.uniform(-1, 1, shape).astype(np.float32) for _ in range(count)]


def test_known_l1_divides_by_all_pixels():
    prediction, frame = pictures(2)
    own = np.zeros((2, 5, 6, 1), np.float32)
    own[0, 1:3, 2:5], own[0, 3, 2] = 1, 0.25
    expected = np.sum(np.abs(frame.astype(np.float64) - prediction) * (1 - own)) / frame.size
    np.testing.assert_allclose(known_l1(prediction, frame, own), expected, rtol=1e-6)
    slope = jax.grad(known_l1)(jnp.asarray(prediction), frame, own)
    assert np.all(slope[0, 1:3, 2:5] == 0) and np.all(slope[1] != 0)


def test_stabilisation_is_zero_where_outputs_move_as_frames_do():
    prediction, frame, moved = pictures(3)
    own, own_moved = np.zeros((2, 2, 5, 6, 1), np.float32)
    own[:, 1, 1], own_moved[:, 2, 2] = 0.5, 1
    follows = prediction + (moved - frame)
    assert stabilisation(prediction, follows, frame, moved, own, own_moved) < 1e-7
    follows[:, 1, 1] += 7  # unknown before
    follows[:, 2, 2] += 7  # unknown after
    assert stabilisation(prediction, follows, frame, moved, own, own_moved) < 1e-7
    follows[:, 3, 3] += 7
    np.testing.assert_allclose(stabilisation(prediction, follows, frame, moved, own, own_moved), 7 / 30, rtol=1e-5)


def test_ambiguity_pair_is_the_batch_reversed():
    prediction, frame = pictures(2, (3, 2, 2, 3))
    own = np.zeros((3, 2, 2, 1), np.float32)
    own[0, 0, 1] = 1
    mine, theirs = ambiguity_pair(prediction, frame, own)
    expected, other = prediction.copy(), frame[::-1].copy()
    expected[2, 0, 1] = other[2, 0, 1] = 0
    np.testing.assert_array_equal(mine, expected)
    np.testing.assert_array_equal(theirs, other)


def by_loops(x, y, bandwidth=0.5, epsilon=1e-5):
    """The contextual loss with one centre for the batch."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    mean = y.mean((0, 1, 2))
    losses = []
    for one, other in zip(x - mean, y - mean, strict=True):
        theirs = other.reshape(-1, other.shape[-1])
        best = np.zeros(len(theirs))
        for a in one.reshape(-1, one.shape[-1]):
            distance = np.array([1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for b in theirs])
            similar = np.exp((1 - distance / (distance.min() + epsilon)) / bandwidth)
            best = np.maximum(best, similar / similar.sum())
        losses.append(-np.log(best.mean()))
    return np.mean(losses)


def test_anti_ambiguity_against_loops():
    x, y = pictures(1, (2, 3, 4, 5))[0], pictures(1, (2, 4, 2, 5))[0]
    value, gradient = jax.jit(jax.value_and_grad(anti_ambiguity))(x, y)
    np.testing.assert_allclose(value, by_loops(x, y), rtol=1e-5)
    for index in [(0, 0, 0, 0), (1, 2, 3, 4), (0, 1, 2, 3)]:
        step = np.zeros(x.shape)
        step[index] = 1e-6
        slope = (by_loops(x + step, y) - by_loops(x - step, y)) / 2e-6
        # Cosines in float32 are off by 1e-7; over the smallest distance (0.1) and the bandwidth that is 1e-5.
        np.testing.assert_allclose(gradient[index], slope, rtol=0, atol=5e-5 * np.abs(gradient).max())


def test_anti_ambiguity_of_features_that_are_all_the_mean():
    """No direction there: the released code gives NaN."""
    same = jnp.ones((2, 3, 3, 4))
    value, gradient = jax.value_and_grad(anti_ambiguity)(same, same)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_anti_ambiguity_wants_as_many_pictures():
    with pytest.raises(InputError, match="must be as many"):
        anti_ambiguity(jnp.ones((2, 3, 3, 4)), jnp.ones((1, 3, 3, 4)))


def test_pasted_object_leaves_the_original_out():
    logits = RNG.normal(0, 3, (2, 4, 4, 1)).astype(np.float32)
    pasted = (RNG.uniform(size=(2, 4, 4, 1)) < 0.5).astype(np.float32)
    original = np.zeros((4, 4, 1), np.float32)
    original[1, 2] = 1
    chance = 1 / (1 + np.exp(-logits.astype(np.float64)))
    cost = -np.where(pasted == 1, np.log(chance), np.log(1 - chance)) * (1 - original)
    np.testing.assert_allclose(pasted_object(logits, pasted, original), cost.mean(), rtol=1e-6)
    assert np.isfinite(pasted_object(jnp.full((1, 1, 1, 1), 300.0), jnp.zeros((1, 1, 1, 1)), jnp.zeros((1, 1, 1))))
