"""SSIM variants against scikit-image, padding that must not count, and the hole region by brute force."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from jaxpaint.metrics import METRICS

GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5}
VARIANTS = {
    "ssim.gauss11": (11, GAUSSIAN | {"use_sample_covariance": False}),
    "ssim.gauss11_sample": (11, GAUSSIAN | {"use_sample_covariance": True}),
    "ssim.uniform7": (7, {"win_size": 7}),
    "ssim.uniform11": (11, {"win_size": 11}),
    "ssim.uniform65": (65, {"win_size": 65}),
}


def pair(height, width, seed=0):
    """A smooth random picture, a noisy copy, and a mask with a hole inside and one at the border."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(y / (5 + c)) + np.cos(x / (7 - c)) for c in range(3)], -1)
    target = np.clip(127 + 50 * waves + rng.normal(0, 8, waves.shape), 0, 255).astype(np.uint8)
    prediction = np.clip(target + rng.normal(0, 25, waves.shape), 0, 255).astype(np.uint8)
    mask = np.zeros((height, width, 1), np.uint8)
    mask[height // 2 : height // 2 + 9, width // 3 : width // 3 + 14] = 1
    mask[:3, -4:] = 1
    return prediction, target, mask


def measure(name, prediction, target, mask):
    measured = METRICS[name].measure([prediction], [target], [mask])
    return {region: values[0] for region, values in measured.items()}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size", [(128, 128), (75, 70)])  # the first is not padded, the second is
def test_ssim_equals_scikit_image_over_both_regions(name, size):
    window, arguments = VARIANTS[name]
    prediction, target, mask = pair(*size)
    whole, full = structural_similarity(target, prediction, channel_axis=-1, data_range=255, full=True, **arguments)
    got = measure(name, prediction, target, mask)
    assert got["whole"] == pytest.approx(whole, abs=1e-10)

    border = (window - 1) // 2
    inner = (slice(border, size[0] - border), slice(border, size[1] - border))
    hole = mask[..., 0][inner] > 0
    assert got["hole"] == pytest.approx(full[inner][hole].mean(), abs=1e-10)


def test_a_hole_without_a_window_centre_is_empty():
    prediction, target, mask = pair(75, 70)
    mask[...] = 0
    mask[:32, :30] = 1  # the first centre of a 65x65 window is at 32, 32
    assert measure("ssim.uniform65", prediction, target, mask)["hole"] == "empty region"
    mask[32, 32] = 1
    assert isinstance(measure("ssim.uniform65", prediction, target, mask)["hole"], float)


def test_uniform65_needs_65_pixels_and_takes_65():
    assert isinstance(measure("ssim.uniform65", *pair(65, 65))["whole"], float)
    assert measure("ssim.uniform65", *pair(64, 90))["whole"] == "too small"


def test_grey51_is_the_uniform_window_on_grey():
    prediction, target, mask = pair(80, 77)
    weights = np.array([0.2125, 0.7154, 0.0721])
    want = structural_similarity(target @ weights, prediction @ weights, data_range=255, win_size=51)
    assert measure("ssim.grey51", prediction, target, mask)["whole"] == pytest.approx(want, abs=1e-9)


def halve(image):
    """2x2 means; a zero before an odd side, as a padding of 1 with a last incomplete window dropped comes to."""
    image = np.pad(image, [(n % 2, 0) for n in image.shape])
    return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean((1, 3))


def reference_ms_ssim(x, y):
    """The definition with loops over scales and SciPy filters, one channel at a time."""
    from scipy.ndimage import correlate1d

    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def average(image):
        return correlate1d(correlate1d(image, taps, axis=0), taps, axis=1)[5:-5, 5:-5]

    results = []
    for a, b in zip(np.moveaxis(x.astype(float), -1, 0), np.moveaxis(y.astype(float), -1, 0), strict=True):
        product = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            ma, mb = average(a), average(b)
            va, vb, cov = average(a * a) - ma**2, average(b * b) - mb**2, average(a * b) - ma * mb
            cs = (2 * cov + 58.5225) / (va + vb + 58.5225)
            full = (2 * ma * mb + 6.5025) / (ma**2 + mb**2 + 6.5025) * cs
            product *= max((full if scale == 4 else cs).mean(), 0) ** weight
            a, b = halve(a), halve(b)
        results.append(product)
    return np.mean(results)


@pytest.mark.parametrize("size", [(161, 183), (192, 192)])  # odd at several scales; padded and not
def test_ms_ssim_against_the_definition(size):
    prediction, target, mask = pair(*size)
    got = measure("ms_ssim", prediction, target, mask)
    assert set(got) == {"whole"}
    assert got["whole"] == pytest.approx(reference_ms_ssim(prediction, target), abs=1e-10)


def test_ms_ssim_is_undefined_below_161():
    assert measure("ms_ssim", *pair(160, 200))["whole"] == "too small"
