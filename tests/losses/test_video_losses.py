"""Losses of clips against NumPy in float64 and torch's convolution."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jaxpaint.losses.video import confidence, consistency, flow_terms, ssim

RNG = np.random.default_rng(3)
QUICK = {"xla_backend_optimization_level": 0}


def pictures(count=1, shape=(2, 14, 17, 3)):
    drawn = [RNG.uniform(-1, 1, shape).astype(np.float32) for _ in range(count)]
    return drawn if count > 1 else drawn[0]


def shifted(x, across):
    """What a flow of (across, 0) everywhere reads, the border repeated."""
    places = np.clip(np.arange(x.shape[2]) + across, 0, x.shape[2] - 1)
    return x[:, :, places]


def constant_flow(across, shape=(2, 14, 17)):
    return np.broadcast_to(np.float32([across, 0]), (*shape, 2))


def by_scipy(x, y):
    """SSIM with every window written out by SciPy: 11 taps of a Gaussian, zeros outside."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.multiply.outer(taps, taps) / taps.sum() ** 2

    def blur(image):
        return ndimage.convolve(image, window[None, :, :, None], mode="constant")

    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = blur(x), blur(y)
    luminance = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    structure = (2 * (blur(x * y) - a * b) + 9e-4) / (blur(x * x) - a**2 + blur(y * y) - b**2 + 9e-4)
    return np.mean(luminance * structure)


def test_ssim_is_pytorch_ssims():
    x, noise = pictures(2)
    for y in (0.8 * x + 0.2 * noise, noise, -x):
        # Variances are differences of float32 sums of up to 1, held against 9e-4.
        np.testing.assert_allclose(jax.jit(ssim)(x, y), by_scipy(x, y), atol=2e-5)
    np.testing.assert_allclose(ssim(x, x), 1, atol=1e-5)
    slope = jax.jit(jax.grad(ssim))(jnp.asarray(noise), x)
    assert np.all(np.isfinite(slope)) and np.abs(slope).max() > 0


def test_flat_pictures_have_a_finite_slope():
    flat = jnp.zeros((1, 12, 12, 3))
    assert np.all(np.isfinite(jax.grad(ssim)(flat, flat)))


def test_confidence_is_of_the_sum_not_of_the_squares():
    truth = np.zeros((1, 1, 3, 3), np.float32)
    warped = np.float32([[[[0, 0, 0], [0.1, 0.1, -0.2], [0.1, 0.1, 0.1]]]])
    np.testing.assert_allclose(confidence(truth, warped)[0, 0, :, 0], [1, 1, np.exp(-50 * 0.09)], rtol=1e-5)


def test_consistency_counts_where_the_truth_follows_the_flow():
    before, prediction, painted = pictures(3)
    truth = shifted(before, 2)
    truth[:, 5:8, 4:9] += 0.5  # something else has come: the sum is off by 1.5, and exp(-112) is nothing
    follows = np.ones((2, 14, 17, 1))
    follows[:, 5:8, 4:9] = 0
    expected = np.mean(np.abs(prediction - shifted(before, 2)) * follows)
    np.testing.assert_allclose(consistency(prediction, truth, before, constant_flow(2)), expected, rtol=1e-5)
    expected = np.mean(np.abs(prediction - shifted(painted, 2)) * follows)
    got = consistency(prediction, truth, before, constant_flow(2), painted)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_flow_terms_by_hand():
    before, prediction, painted = pictures(3)
    truth = shifted(before, 1)
    truth[:, 2:6, 3:7] += 0.2  # squares sum to 0.12: not confident
    confident = np.ones((2, 14, 17, 1))
    confident[:, 2:6, 3:7] = 0
    got = flow_terms(constant_flow(3), constant_flow(1), prediction, painted, truth, before)
    expected = {
        "flow": np.mean(np.broadcast_to([2.0, 0.0], (2, 14, 17, 2)) * confident),
        "flow_colour": np.mean(np.abs(shifted(before, 3) - truth) * confident),
        "flow_output": np.mean(np.abs(prediction - shifted(painted, 3)) * confident),
    }
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5, err_msg=name)
    # A predicted flow that is the wanted one explains the truth wherever that counts.
    exact = flow_terms(constant_flow(1), constant_flow(1), truth, before, truth, before)
    np.testing.assert_allclose([exact[name] for name in expected], 0, atol=1e-7)


def test_gradients_go_where_they_should():
    """The flow is moved by the truth alone, what was painted before by nothing."""
    before, prediction, painted = pictures(3)
    truth = shifted(before, 1)

    def terms(flow, prediction, painted):
        return flow_terms(flow, constant_flow(1), prediction, painted, truth, before)

    slopes = jax.jit(jax.jacrev(terms, (0, 1, 2)), compiler_options=QUICK)(constant_flow(0.6), prediction, painted)
    moved = {name: [bool(np.any(slope != 0)) for slope in each] for name, each in slopes.items()}
    assert moved == {
        "flow": [True, False, False],
        "flow_colour": [True, False, False],
        "flow_output": [False, True, False],
    }
    slope = jax.grad(lambda x: consistency(prediction, truth, before, constant_flow(1), x))(jnp.asarray(painted))
    assert not np.any(slope)


def test_types():
    x, y = (jnp.asarray(image, jnp.bfloat16) for image in pictures(2))
    assert ssim(x, y).dtype == jnp.float32
    assert consistency(x, y, y, jnp.zeros((2, 14, 17, 2))).dtype == jnp.float32
