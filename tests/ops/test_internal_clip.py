"""Learning from one clip: draws against counting, resizing against a matrix, projective transforms against shifts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.ops.internal import (
    borrowed_indices,
    draw_shifts,
    drawn,
    frame_indices,
    hide,
    paste,
    resize_without_antialiasing,
)
from jaxpaint.ops.projective import draw_jitter, jitter_transform, project
from jaxpaint.types import InputError

KEY = jax.random.key(3)
RNG = np.random.default_rng(5)


@pytest.mark.parametrize("size", [(7, 12), (5, 8), (20, 31), (13, 9)])
def test_resize(size):
    """Output pixel i lies at (i + 1/2) old / new - 1/2, at 0 where that is below, and sees its two neighbours alone:
    torch's bilinear interpolation with align_corners=False and without antialiasing."""
    x = RNG.uniform(0, 255, (2, 13, 20, 3)).astype(np.float32)

    def weights(old: int, new: int) -> np.ndarray:
        matrix = np.zeros((new, old))
        for i in range(new):
            place = max((i + 0.5) * old / new - 0.5, 0.0)
            first = int(place)
            matrix[i, first] += 1 - (place - first)
            matrix[i, min(first + 1, old - 1)] += place - first
        return matrix

    expected = np.einsum("ih,jw,bhwc->bijc", weights(13, size[0]), weights(20, size[1]), x)
    # Two lerps of values up to 255 in float32, and shares that are rounded at positions up to 20: 255 * 20 * 2^-24.
    np.testing.assert_allclose(resize_without_antialiasing(jnp.asarray(x), *size), expected, rtol=0, atol=6e-4)


def test_frames_go_round_the_clip():
    numbers = np.concatenate([frame_indices(step, 5, 7) for step in range(7)])
    np.testing.assert_array_equal(numbers, np.arange(35) % 7)


def test_every_mask_is_borrowed_once_a_round():
    draw = jax.jit(borrowed_indices, static_argnums=(2, 3))
    orders = np.concatenate([draw(KEY, step, 3, 7) for step in range(7)]).reshape(3, 7)
    for order in orders:
        assert sorted(order) == list(range(7))
    assert len({tuple(order) for order in orders}) == 3
    again = draw(KEY, 4, 3, 7)
    np.testing.assert_array_equal(again, orders.ravel()[12:15])


def test_shifts_reach_everywhere():
    shifts = np.array(jax.vmap(lambda step: draw_shifts(KEY, step, 4, 6, 2))(jnp.arange(200))).reshape(400, 2)
    assert set(shifts[:, 0]) == set(range(4)) and set(shifts[:, 1]) == set(range(6))
    # Of 24 equally likely pairs each is expected 16.7 times, with a deviation of 4.
    counts = np.bincount(shifts[:, 0] * 6 + shifts[:, 1], minlength=24)
    assert counts.min() > 1 and counts.max() < 40


def test_hide_counts_soft_edges_and_wraps_around():
    own, other = np.zeros((2, 4, 5, 1), np.float32), np.zeros((2, 4, 5, 1), np.float32)
    own[0, 1, 1], other[:, 3, 4], other[1, 0, 0] = 0.1, 0.3, 1.0
    hidden = np.asarray(hide(own, other, jnp.array([[1, 2]])))[..., 0]
    expected = np.zeros((2, 4, 5))
    expected[0, 1, 1] = expected[:, 0, 1] = expected[1, 1, 2] = 1
    np.testing.assert_array_equal(hidden, expected)
    each = np.asarray(hide(own, other, jnp.array([[1, 2], [0, 0]])))[..., 0]
    np.testing.assert_array_equal(each, [expected[0], other[1, ..., 0] != 0])
    with pytest.raises(InputError, match="expected the same shape"):
        hide(own, other[:1], jnp.array([[1, 2]]))


@pytest.mark.parametrize("mixed", [False, True])
def test_what_is_hidden_is_a_frames_own_hole_and_one_that_is_rolled(mixed):
    masks = np.zeros((4, 6, 8, 1), np.float32)
    masks[np.arange(4), np.arange(4), 0] = 1.0  # one pixel a frame, another row in each
    draw = jax.jit(lambda step: drawn(KEY, step, 4, 6, 8, 2, mixed=mixed))
    frames, columns = [], []
    for step in range(6):
        index, borrowed, shifts = draw(step)
        own = masks[index]
        added = np.asarray(hide(own, masks[borrowed], shifts)) - own
        assert set(np.unique(added)) <= {0, 1}
        frames += list(index)
        columns.append([np.argwhere(picture[..., 0])[0][1] if picture.any() else 0 for picture in added])
    assert (frames == list(np.arange(12) % 4)) is not mixed
    for start in (0, 4, 8):
        assert sorted(frames[start : start + 4]) == list(range(4))
    # One shift for the batch, or one for each.
    assert all(one == other for one, other in columns) is not mixed


def test_paste():
    image = RNG.uniform(-1, 1, (5, 6, 3)).astype(np.float32)
    mask = np.zeros((5, 6, 1), np.float32)
    mask[4, 1] = 1
    pasted, where = paste(image, mask, np.array([[2, 3], [0, 0]]))
    expected = image.copy()
    expected[1, 4] = image[4, 1]
    np.testing.assert_array_equal(pasted, np.stack([expected, image]))
    np.testing.assert_array_equal(np.argwhere(where[0, ..., 0]), [[1, 4]])


def test_jitter_without_swap_keeps_the_middle():
    draws = np.array(draw_jitter(KEY, 64))
    assert np.all(np.abs(draws[:, :2]) <= 2) and np.all(np.abs(draws[:, 3] - 1) <= 0.03)
    assert np.all(np.abs(draws[:, [2, 4, 5]]) <= np.pi / 180)
    assert np.all(draws.std(axis=0) > np.array([1, 1, 0.008, 0.014, 0.008, 0.008]))
    draws[:, :2] = 0
    m = np.asarray(jitter_transform(draws, 24, 32, swapped=False), np.float64)
    x, y = 16.0, 12.0
    np.testing.assert_allclose(m[:, 0] * x + m[:, 1] * y + m[:, 2], x, atol=1e-5)
    np.testing.assert_allclose(m[:, 3] * x + m[:, 4] * y + m[:, 5], y, atol=1e-5)
    still = jitter_transform(np.array([[0.0, 0, 0, 1, 0, 0]]), 24, 32)
    np.testing.assert_allclose(still, [[1, 0, 0, 0, 1, 0, 0, 0]], atol=1e-6)


def test_project():
    x = RNG.uniform(-1, 1, (1, 5, 7, 2)).astype(np.float32)
    moved = project(x, np.array([[1, 0, 2, 0, 1, -1, 0, 0]], np.float32))
    expected = np.zeros_like(x)
    expected[:, 1:, :5] = x[:, :4, 2:]
    np.testing.assert_array_equal(moved, expected)
    half = np.array([[1, 0, -0.5, 0, 1, 0, 0, 0]], np.float32)
    # At the left edge one half of what is read is outside; the nearest pixel of -0.5 is -1, as in C.
    np.testing.assert_allclose(project(x, half)[:, :, 0], x[:, :, 0] / 2, atol=1e-6)
    np.testing.assert_allclose(project(x, half)[:, :, 3], (x[:, :, 2] + x[:, :, 3]) / 2, atol=1e-6)
    np.testing.assert_array_equal(project(x, half, nearest=True)[:, :, 0], np.zeros((1, 5, 2)))
    np.testing.assert_array_equal(project(x, half, nearest=True)[:, :, 1:], x[:, :, 1:])
    with pytest.raises(InputError, match="expected"):
        project(x, half[:, :6])
