"""The warping error on clips whose motion is known. Numbers of the released code are in the golden test."""

import numpy as np
import pytest

from jaxpaint.metrics.warping import pair_errors, video_error
from jaxpaint.types import InputError

HEIGHT, WIDTH = 12, 20


def sliding(frames=3, step=2):
    """A picture that moves to the left by `step` a frame, and the flows that say so."""
    wide = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH + step * frames, 3), np.uint8)
    clip = np.stack([wide[:, step * t : step * t + WIDTH] for t in range(frames)])
    forward = np.zeros((frames - 1, HEIGHT, WIDTH, 2), np.float32)
    forward[..., 0] = -step
    return clip, forward, -forward


def test_motion_that_the_flow_knows_is_no_error():
    clip, forward, backward = sliding()
    # At the left the border is repeated where the picture came from outside: as published, it counts.
    left = [np.square((clip[t + 1, :, :1] - np.float64(clip[t, :, :2])) / 255).sum() for t in range(2)]
    expected = np.array(left) / (HEIGHT * WIDTH * 3)
    errors = pair_errors(clip, forward, backward)
    np.testing.assert_allclose(errors["whole"], expected, rtol=1e-12)
    assert np.isnan(errors["hole"]).all()
    assert video_error(errors)["whole"] == pytest.approx(expected.mean(), rel=1e-12)
    assert np.isnan(video_error(errors)["hole"])


def test_flicker_in_the_hole():
    """A patch of the second frame is brighter by 51 of 255: 0.2² over the share of the patch, or over the hole."""
    still = np.full((3, HEIGHT, WIDTH, 3), 100, np.uint8)
    flows = np.zeros((2, HEIGHT, WIDTH, 2), np.float32)
    masks = np.zeros((3, HEIGHT, WIDTH, 1), np.uint8)
    masks[:2, 2:8, 2:8] = 1
    still[1, 2:5, 2:8] += 51
    errors = pair_errors(still, flows, flows, masks)
    np.testing.assert_allclose(errors["whole"], 2 * [0.04 * 18 / (HEIGHT * WIDTH)], rtol=1e-12)
    np.testing.assert_allclose(errors["hole"], 2 * [0.04 / 2], rtol=1e-12)
    masks[0] = 0
    errors = pair_errors(still, flows, flows, masks)
    np.testing.assert_array_equal(np.isnan(errors["hole"]), [True, False])  # the hole is that of the first of a pair
    assert video_error(errors)["hole"] == pytest.approx(0.02, rel=1e-12)


def test_what_is_occluded_does_not_count():
    still = np.full((2, HEIGHT, WIDTH, 3), 100, np.uint8)
    still[1, 4:8, 10:14] = 200
    forward, backward = (np.zeros((1, HEIGHT, WIDTH, 2), np.float32) for _ in range(2))
    assert pair_errors(still, forward, backward)["whole"] > 0
    backward[0, 4:8, 10:14] = 5  # there the flows contradict each other
    assert pair_errors(still, forward, backward)["whole"] == 0
    assert pair_errors(still, forward, backward + 5)["whole"] == 0  # nothing is left: 0, as in the released code


def test_bad_input():
    clip, forward, backward = sliding()
    for frames, flow, message in (
        (clip[:1], forward[:0], "the clip has one frame"),
        (clip, forward[:1], r"forward flow is \(1, 12, 20, 2\).*expected \(2, 12, 20, 2\)"),
        (clip / 255, forward, "expected uint8"),
    ):
        with pytest.raises(InputError, match=message):
            pair_errors(frames, flow, backward)
    with pytest.raises(InputError, match=r"a mask a frame, \(3, 12, 20, 1\)"):
        pair_errors(clip, forward, backward, np.zeros((1, HEIGHT, WIDTH, 1), np.uint8))
