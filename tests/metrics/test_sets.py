"""Metrics of a whole set: exact merging, what is refused and flagged, and features of pictures of several sizes."""

import functools
import re

import jax
import numpy as np
import pytest
from flax import linen as nn

from jaxpaint.metrics import inception
from jaxpaint.metrics.frechet import fid, frechet_distance_of
from jaxpaint.metrics.inception_score import inception_score, inception_score_of
from jaxpaint.metrics.kernel import kernel_distance, kid
from jaxpaint.metrics.separability import p_ids, u_ids
from jaxpaint.models.inception import resize_half_pixel, resize_tf1
from jaxpaint.ops.pixels import from_uint8
from jaxpaint.parallel import gather
from jaxpaint.types import InputError


def no_pictures(predictions, targets, masks):
    raise AssertionError("these tests measure nothing")


METRICS = {
    "fid": fid(no_pictures, "FID"),
    "fid.biased": fid(no_pictures, "FID, N", ddof=0),
    "kid": kid(no_pictures, "KID", subsets=3, subset_size=50),
    "kid.all": kid(no_pictures, "KID", subset_size=None),
    "is": inception_score(no_pictures, "IS", splits=4),
    "p_ids": p_ids(no_pictures, "P-IDS"),
    "u_ids": u_ids(no_pictures, "U-IDS"),
}


def measurements(n: int, d: int = 16) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    target = np.maximum(rng.standard_normal((n, d)), 0).astype(np.float32)
    prediction = np.maximum(target + rng.standard_normal((n, d)) * 0.5, 0).astype(np.float32)
    logits = rng.standard_normal((n, 9)).astype(np.float32)
    return {"prediction": prediction, "target": target, "logits": 2 * logits, "logits_unbiased": logits}


def rows(measured: dict[str, np.ndarray], which) -> dict[str, np.ndarray]:
    return {name: array[which] for name, array in measured.items()}


def result(metric, batches) -> dict:
    (shown,) = metric.compute(functools.reduce(metric.update, batches, metric.init())).values()
    return shown


@pytest.mark.parametrize("name", METRICS)
def test_merging_is_exact(name):
    metric, measured = METRICS[name], measurements(130)
    whole = result(metric, [measured])
    assert whole["n"] == 130 and np.isfinite(whole["value"])

    # One by one and backwards; a permutation in batches of 8.
    assert result(metric, [rows(measured, [i]) for i in reversed(range(130))]) == whole
    order = np.random.default_rng(1).permutation(130)
    assert result(metric, [rows(measured, order[i : i + 8]) for i in range(0, 130, 8)]) == whole

    # Three parts, one of them without pictures, through what goes between processes, in any grouping.
    parts = [measured, rows(measured, slice(0, 61)), rows(measured, slice(61, 130)), rows(measured, slice(0))]
    parts = [metric.update(metric.init(), part) for part in parts]
    form = jax.tree.structure(metric.init())
    assert all(jax.tree.structure(part) == form for part in parts)
    _, a, b, c = (form.unflatten(gather.gather(jax.tree.leaves(part))[0]) for part in parts)
    merge = metric.merge
    for merged in (merge(merge(a, b), c), merge(c, merge(b, a)), merge(b, merge(metric.init(), merge(c, a)))):
        assert metric.compute(merged) == {"whole": whole}


def test_states_are_not_changed():
    metric, measured = METRICS["fid"], measurements(130)
    state = metric.update(metric.init(), measured)
    before = metric.compute(state)
    metric.merge(state, state)
    metric.update(state, rows(measured, slice(0, 5)))
    assert metric.compute(state) == before
    assert metric.compute(metric.init())["whole"]["n"] == 0


def test_values_are_those_of_the_arrays():
    measured = measurements(130)
    prediction, target = measured["prediction"], measured["target"]
    assert result(METRICS["fid"], [measured])["value"] == pytest.approx(frechet_distance_of(prediction, target))
    biased = result(METRICS["fid.biased"], [measured])["value"]
    assert biased == pytest.approx(frechet_distance_of(prediction, target, ddof=0))
    without_own = kernel_distance(prediction, target, paired=True)
    assert result(METRICS["kid.all"], [measured])["value"] == pytest.approx(without_own)
    subsets = result(METRICS["kid"], [measured])
    assert subsets["std"] > 0 and abs(subsets["value"] - kernel_distance(prediction, target)) < 4 * subsets["std"]
    for name in ("logits", "logits_unbiased"):  # in one part, whose order changes nothing
        metric = inception_score(no_pictures, "IS", splits=1, logits=name)
        assert result(metric, [measured])["value"] == pytest.approx(inception_score_of(measured[name], 1)[0])


@pytest.mark.parametrize(
    ("name", "n", "kind", "says"),
    [
        ("fid", 0, "reason", "no pictures"),
        ("fid", 99, "reason", "N = 99 pictures: FID is given for 100 at least.*KID"),
        ("fid", 100, "flag", "N = 100 is below 10,000.*biased"),
        ("fid", 10_000, None, ""),
        ("kid", 49, "reason", "N = 49 pictures: 50 at least"),
        ("kid", 50, "flag", "N = 50 is below 10,000.*downwards"),
        ("kid", 10_000, None, ""),
        ("kid.all", 1, "reason", "N = 1 pictures: 2 at least"),
        ("kid.all", 2, None, ""),
        ("is", 39, "reason", "N = 39 pictures in 4 parts: 40 at least"),
        ("is", 40, "flag", "N = 40 is below 5,000"),
        ("is", 5000, None, ""),
        ("p_ids", 0, "reason", "no pictures"),
        ("p_ids", 4, "flag", "N = 4 is not above the number of features, 4"),
        ("u_ids", 4, "flag", "U-IDS comes out too low"),
        ("u_ids", 5, None, ""),
    ],
)
def test_what_is_refused_and_flagged(name, n, kind, says):
    shown = result(METRICS[name], [measurements(n, d=4)])
    assert shown["n"] == n
    assert [key for key in ("reason", "flag") if key in shown] == ([kind] if kind else [])
    assert (shown["value"] is None) == (kind == "reason")
    if kind:
        assert re.search(says, shown[kind])


def test_rows_that_do_not_belong_together():
    metric, measured = METRICS["fid"], measurements(20)
    state = metric.update(metric.init(), measured)
    for other in (measurements(20, d=8), measurements(3, d=8)):
        with pytest.raises(InputError, match=r"16 numbers for a set that has 32"):
            metric.update(state, other)
    with pytest.raises(InputError, match="one row a picture"):
        metric.update(state, measured | {"target": measured["target"][:5]})
    with pytest.raises(InputError, match="prediction: NaN"):
        metric.update(state, measured | {"prediction": measured["prediction"] * np.float32(np.nan)})


class Small(nn.Module):
    """Stands in for the network, which takes long to compile: a convolution, a mean, a classifier."""

    @nn.compact
    def __call__(self, image):
        pool3 = nn.relu(nn.Conv(5, (16, 16), (16, 16))(image)).mean((1, 2))
        logits = nn.Dense(3, use_bias=False)(pool3)
        return pool3, {"logits": logits + 1, "logits_unbiased": logits}


@pytest.mark.parametrize(("name", "resize"), [("half_pixel", resize_half_pixel), ("tf1", resize_tf1)])
def test_features_of_pictures_of_several_sizes(monkeypatch, name, resize):
    monkeypatch.setattr(inception, "InceptionV3", Small)
    network = Small()
    variables = network.init(jax.random.key(0), np.zeros((1, 299, 299, 3), np.float32))
    rng = np.random.default_rng(0)
    sizes = [(20, 30), (33, 16), (20, 30), (20, 30), (20, 30)]
    predictions, targets = ([rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes] for _ in range(2))
    masks = [np.ones((*size, 1), np.uint8) for size in sizes]
    measure = inception.extractor(variables, name)
    got = measure(predictions, targets, masks)  # ten pictures: a batch of eight, and two with padding

    for key, pictures in (("prediction", predictions), ("target", targets)):
        resized = np.concatenate([resize(from_uint8(picture[None])) for picture in pictures])
        assert got[key].dtype == np.float32
        np.testing.assert_allclose(got[key], network.apply(variables, resized)[0], atol=1e-5)
    kernel = variables["params"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(got["logits_unbiased"], got["prediction"] @ kernel, atol=1e-5)
    np.testing.assert_allclose(got["logits"], got["logits_unbiased"] + 1, atol=1e-6)

    # In other company the numbers are the same to the last bit.
    for part in (slice(0, 1), slice(1, 5)):
        again = measure(predictions[part], targets[part], masks[part])
        assert all(np.array_equal(again[key], got[key][part]) for key in got)


def test_features_errors(monkeypatch):
    monkeypatch.setattr(inception, "InceptionV3", Small)
    with pytest.raises(InputError, match="half_pixel, tf1"):
        inception.extractor({}, "bicubic")
    measure = inception.extractor({}, "tf1")
    picture, mask = np.zeros((20, 20, 3), np.uint8), np.ones((20, 20, 1), np.uint8)
    with pytest.raises(InputError, match="pixel by pixel"):
        measure([picture[:19]], [picture], [mask])
    assert {key: array.shape[0] for key, array in measure([], [], []).items()} == dict.fromkeys(
        ("prediction", "target", "logits", "logits_unbiased"), 0
    )
