"""Metrics of clips: means of frames, exact merging, the warping error by a flow that is passed in."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.metrics import METRICS
from jaxpaint.metrics.clips import per_frame
from jaxpaint.metrics.metric import mean_of_pictures
from jaxpaint.metrics.warping import WARPING_METRICS, looking, pair_errors
from jaxpaint.types import InputError

HEIGHT, WIDTH = 20, 24


def example(seed, frames):
    """A picture that slides by a pixel a frame, and the masks of a box that moves."""
    wide = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH + frames, 3), np.uint8)
    clip = np.stack([wide[:, t : t + WIDTH] for t in range(frames)])
    masks = np.zeros((frames, HEIGHT, WIDTH, 1), np.uint8)
    for t in range(frames):
        masks[t, 6:14, 3 + t : 11 + t] = 1
    return clip, masks


def filled(clip, masks):
    return np.where(masks > 0, np.uint8(100), clip)


def test_halves_merge_to_the_whole():
    clips = [example(number, frames) for number, frames in enumerate((3, 5, 2, 4))]
    metrics = [per_frame(METRICS[name]) for name in ("outside_max_abs_diff", "psnr", "ssim.uniform7")]
    warping = WARPING_METRICS["ewarp[tvl1]"]
    for metric in (*metrics, warping.finish(warping.look.make(), "")):
        parts = []
        for clip, masks in clips:
            parts.append(metric.measure([filled(clip, masks)], [clip], [masks]))
        whole = metric.init()
        for part in parts:
            whole = metric.update(whole, part)
        halves = [metric.update(metric.update(metric.init(), a), b) for a, b in (parts[:2], parts[2:])]
        assert metric.merge(halves[1], halves[0]) == whole
        assert metric.compute(whole) == metric.compute(metric.merge(*halves))


def test_frames_that_all_are_perfect_have_an_infinite_clip():
    metric = per_frame(mean_of_pictures(lambda p, t, m: {"whole": p}, about="", better="higher", regions=("whole",)))
    clips = [[np.inf, np.inf], [2.0, 4.0, np.inf], ["empty region", np.inf]]
    measured = metric.measure(clips, clips, clips)
    assert measured["whole"] == [np.inf, 3.0, np.inf]
    result = metric.compute(metric.update(metric.init(), measured))["whole"]
    assert result == {"value": 3.0, "n": 1, "frames": 2, "infinite": 4, "empty": 1}


def test_the_warping_error_is_that_of_the_originals_flow():
    """The flow that is passed in is exact: the clip slides by one pixel a frame."""
    clip, masks = example(0, 3)
    result = filled(clip, masks)
    seen = []

    def flow(first, second):
        seen.append((first, second))
        forward = jnp.zeros((*first.shape[:3], 2)).at[..., 0].set(-1.0)
        return forward, -forward

    forward = np.zeros((2, HEIGHT, WIDTH, 2), np.float32)
    forward[..., 0] = -1
    pairs = pair_errors(result, forward, -forward, masks)
    metric = WARPING_METRICS["ewarp"].finish(looking(flow), "")
    values = metric.measure([result], [clip], [masks])
    assert len(seen) == 1  # traced once
    assert values == {region: [pytest.approx(pairs[region].mean(), rel=1e-12)] for region in ("whole", "hole")}


def test_a_flow_that_is_not_finite_is_no_empty_region():
    clip, masks = example(0, 3)

    def flow(first, second):
        still = jnp.zeros((*first.shape[:3], 2))
        return still, still.at[0, 2, 3].set(jnp.nan)

    metric = WARPING_METRICS["ewarp"].finish(looking(flow), "")
    with pytest.raises(InputError, match="between frames 0 and 1 is not finite"):
        metric.measure([filled(clip, masks)], [clip], [masks])


def test_what_is_no_metric_of_clips_is_refused():
    with pytest.raises(InputError, match="average 'mean': expected clips or frames"):
        per_frame(METRICS["psnr"], "mean")
    with pytest.raises(InputError, match="of a whole set of pictures"):
        per_frame(METRICS["psnr"]._replace(of_set=True))
    with pytest.raises(InputError, match="the clip has one frame"):
        clip, masks = example(0, 1)
        looking(lambda first, second: None)([clip], [clip], [masks])
