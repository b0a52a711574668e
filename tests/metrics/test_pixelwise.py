"""L1, L2, PSNR, ratios and the outside check against brute-force NumPy."""

import math

import numpy as np
import pytest

from jaxpaint.metrics import METRICS, STANDARD
from jaxpaint.types import InputError


def pair(height=37, width=53, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    prediction = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = (rng.random((height, width, 1)) < 0.3).astype(np.uint8)
    return prediction, target, mask


def measure(name, prediction, target, mask):
    return {k: v[0] for k, v in METRICS[name].measure([prediction], [target], [mask]).items()}


def by_loops(name, prediction, target, pixels):
    a, b = prediction[pixels].astype(int), target[pixels].astype(int)
    grey = np.array([0.2125, 0.7154, 0.0721])
    if name.endswith(".grey"):
        a, b = a @ grey, b @ grey
    if name == "l1":
        return np.abs(a - b).mean() / 255
    if name == "l2":
        return ((a - b) ** 2).mean() / 255**2
    if name.startswith("psnr"):
        return 10 * math.log10(255**2 / ((a - b) ** 2).mean())
    return np.abs(a - b).sum() / (a + b).sum()


@pytest.mark.parametrize("name", ["l1", "l2", "psnr", "psnr.grey", "absolute_ratio", "absolute_ratio.grey"])
def test_both_regions_against_numpy(name):
    prediction, target, mask = pair()
    got = measure(name, prediction, target, mask)
    everywhere = np.ones(mask.shape[:2], bool)
    assert got["whole"] == pytest.approx(by_loops(name, prediction, target, everywhere), rel=1e-12)
    assert got["hole"] == pytest.approx(by_loops(name, prediction, target, mask[..., 0] == 1), rel=1e-12)


def test_outside_max_abs_diff_sees_one_known_pixel_and_no_hole_pixel():
    prediction, target, mask = pair()
    prediction = np.where(mask == 1, prediction, target)
    assert measure("outside_max_abs_diff", prediction, target, mask) == {"outside": 0}
    y, x = np.argwhere(mask[..., 0] == 0)[7]
    prediction[y, x, 1] ^= 4
    assert measure("outside_max_abs_diff", prediction, target, mask) == {"outside": 4}


def test_halves_merge_to_the_whole_bit_for_bit():
    pairs = [pair(40, 40, seed) for seed in range(7)]
    pairs[3] = (pairs[3][1], *pairs[3][1:])  # one identical: infinite PSNR
    for name in ("outside_max_abs_diff", "l1", "psnr", "ssim.uniform7", "ssim.uniform65"):
        metric = METRICS[name]

        def state(part, metric=metric):
            return metric.update(metric.init(), metric.measure(*zip(*part, strict=True)))

        whole = state(pairs)
        for cut in (1, 4):
            a, b = state(pairs[:cut]), state(pairs[cut:])
            assert metric.merge(a, b) == metric.merge(b, a) == whole


def test_infinite_psnr_is_counted_and_never_averaged():
    a, b = pair(seed=1), pair(seed=2)
    metric = METRICS["psnr"]
    same = (b[1], b[1], b[2])
    finite = measure("psnr", *a)
    result = metric.compute(metric.update(metric.init(), metric.measure(*zip(a, same, strict=True))))
    assert result["whole"] == {"value": pytest.approx(finite["whole"], abs=1e-11), "n": 1, "infinite": 1}

    result = metric.compute(metric.update(metric.init(), metric.measure(*zip(same, strict=True))))
    assert result["whole"]["value"] is None and "identical" in result["whole"]["reason"]


def test_one_small_picture_makes_the_figure_null_with_the_reason():
    metric = METRICS["ssim.uniform65"]
    parts = [pair(64, 100), pair(70, 70)]
    result = metric.compute(metric.update(metric.init(), metric.measure(*zip(*parts, strict=True))))
    assert result["whole"] == {"value": None, "n": 0, "reason": "1 of 2 pictures are below 65 px on a side"}


def test_identical_pictures_are_perfect_for_every_standard_metric():
    _, target, mask = pair(192, 192)
    for name in STANDARD:
        metric = METRICS[name]
        got = metric.compute(metric.update(metric.init(), metric.measure([target], [target], [mask])))
        for region in metric.regions:
            want = None if name == "psnr" else {"lower": 0.0, "higher": 1.0}[metric.better]
            assert got[region]["value"] == (want if want is None else pytest.approx(want, abs=1e-12)), name


@pytest.mark.parametrize("name", ["l1", "outside_max_abs_diff"])
def test_bad_input_is_named(name):
    prediction, target, mask = pair()
    with pytest.raises(InputError, match="37x50x3 but the ground truth is 37x53x3"):
        measure(name, prediction[:, :50], target, mask)
    with pytest.raises(InputError, match=r"mask has the shape \(30, 53, 1\)"):
        measure(name, prediction, target, mask[:30])
    with pytest.raises(InputError, match="expected \\(height, width, 3\\)"):
        measure(name, prediction[..., 0], target[..., 0], mask)
    with pytest.raises(InputError, match="NaN"):
        measure(name, np.where(mask, np.nan, prediction), target, mask)
