"""FID's InceptionV3 and the two resizes, weights through the converter; the distances of features."""

import dataclasses
import functools

import harness
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe

from jaxpaint.convert.features import to_variables
from jaxpaint.metrics.frechet import frechet_distance_of, mean_and_covariance
from jaxpaint.metrics.kernel import kernel_distance
from jaxpaint.metrics.separability import linear_machine, separability
from jaxpaint.models.inception import InceptionV3, resize_half_pixel, resize_tf1
from jaxpaint.ops.pixels import from_uint8

CASES = harness.cases("inception_fid")


@functools.cache
def features():
    """picture -> (pool3, taps), compiled, with the weights of the golden."""
    network = InceptionV3()
    variables = to_variables("inception_fid", CASES[0].weights(), network)
    return functools.partial(jax.jit(network.apply), variables)


def picture(name: str, height: int, width: int) -> np.ndarray:
    """A picture that the golden does not store, 1 h w 3, as uint8."""
    return np.round(recipe.image(f"inception_fid/{name}", height, width)[None] * 255).astype(np.uint8)


def first(x: jax.Array, rows: slice, channels: int) -> jax.Array:
    """The part that is stored, channels first."""
    return x[:, rows, rows, :channels].transpose(0, 3, 1, 2)


def check_pool3(case):
    stored = np.concatenate([picture("1", 299, 299), picture("2", 299, 299)])
    pool3, out = features()(from_uint8(stored))
    pool3 = np.asarray(pool3, np.float64)
    case.compare(
        {
            "pool3": pool3,
            "block0": first(out["block0"], slice(30, 42), 8),
            "block1": first(out["block1"], slice(10, 22), 8),
            "block2": first(out["block2"], slice(8), 16),
            "input_corner": first(stored / np.float32(255), slice(4), 3),
        }
    )
    kernel, bias = (case.weights()[f"fc.{leaf}"].astype(np.float64) for leaf in ("weight", "bias"))
    expected, magnitudes = pool3 @ kernel.T, np.abs(pool3) @ np.abs(kernel.T)
    # A float32 sum of n products is off by n * 2**-24 of the sum of their magnitudes at most.
    assert np.all(np.abs(out["logits_unbiased"] - expected) <= 2048 * 2**-24 * magnitudes)
    np.testing.assert_allclose(out["logits"] - out["logits_unbiased"], np.tile(bias, (2, 1)), atol=1e-5)


def check_resize(case):
    image = from_uint8(case.inputs["x_u8"].transpose(0, 2, 3, 1))
    ours, theirs = resize_half_pixel(image), resize_tf1(image)
    run = features()
    large = run(jnp.tile(resize_half_pixel(from_uint8(picture("large", 400, 352))), (2, 1, 1, 1)))[0]
    case.compare(
        {
            "resized_corner": first((ours + 1) / 2, slice(8), 3),
            "resized_end": first((ours + 1) / 2, slice(-8, None), 3),
            "tf1_resized_corner": first(theirs, slice(8), 3),
            "tf1_resized_end": first(theirs, slice(-8, None), 3),
            "pool3_pytorch_fid": run(ours)[0],
            "pool3_torch_fidelity": run(theirs)[0],
            "pool3_large": large[:1],
        }
    )


def check_distances(case):
    real, fake = case.inputs["real"], case.inputs["fake"]
    mean, covariance = mean_and_covariance(real)
    weights, intercept = linear_machine(np.concatenate([real, fake]), np.repeat([1.0, -1.0], len(real)))
    p_ids, u_ids = separability(real, fake)
    # The manifest states none for these: sums of 60 in float64, and what follows from the weights' own tolerance.
    more = {"mu_real_f64": 1e-12, "sigma_real_f64": 1e-12, "svm_intercept_f64": 1e-3, "svm_decision_fake_f64": 1e-3}
    case = dataclasses.replace(case, entry=case.entry | {"tolerance": case.entry["tolerance"] | more})
    case.compare(
        {
            "fid_f64": frechet_distance_of(real, fake),
            "fid_biased_cov_f64": frechet_distance_of(real, fake, ddof=0),
            "fid_lowrank_f64": frechet_distance_of(case.inputs["real_lowrank"], case.inputs["fake_lowrank"]),
            "kid_f64": kernel_distance(real, fake),
            "u_ids_f64": u_ids / 100,  # ours are percent
            "p_ids_f64": p_ids / 100,
            "mu_real_f64": mean,
            "sigma_real_f64": covariance,
            "svm_coef_f64": weights,
            "svm_intercept_f64": [intercept],
            "svm_decision_real_f64": real @ weights + intercept,
            "svm_decision_fake_f64": fake @ weights + intercept,
        }
    )


@pytest.mark.parametrize("case", CASES, ids=harness.case_id)
def test_inception_fid_golden(case):
    with jax.default_matmul_precision("highest"):
        harness.run(case, {"pool3_299": check_pool3, "resize": check_resize, "distances": check_distances})
