"""FID, KID, inception score, P-IDS and U-IDS of arrays, each against a second way of writing it."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.special
import scipy.stats

from jaxpaint.metrics import frechet, kernel
from jaxpaint.metrics.frechet import frechet_distance, frechet_distance_of, mean_and_covariance
from jaxpaint.metrics.inception_score import inception_score_of
from jaxpaint.metrics.kernel import kernel_distance, kernel_distances
from jaxpaint.metrics.separability import linear_machine, separability, u_ids
from jaxpaint.types import InputError


def features(n: int, d: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """Rectified and correlated, as pool3 is; float32."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((d, d)) / np.sqrt(d)
    return np.maximum(rng.standard_normal((n, d)) @ mixing + 0.3 + shift, 0).astype(np.float32)


def rotation(d: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(3).standard_normal((d, d)))[0]


# FID


@pytest.mark.parametrize("ddof", [0, 1])
def test_fid_against_the_matrix_square_root(ddof):
    x, y = features(200, 24), features(150, 24, seed=1, shift=0.2)
    s, t = (np.cov(z.astype(np.float64), rowvar=False, ddof=ddof) for z in (x, y))
    apart = x.mean(0, dtype=np.float64) - y.mean(0, dtype=np.float64)
    expected = apart @ apart + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real)
    # Both in float64, of covariances whose smallest eigenvalue is 1e-4 of the largest: 1e-16 * sqrt(1e4) is far below.
    assert frechet_distance_of(x, y, ddof=ddof) == pytest.approx(expected, rel=1e-10)
    moments = *mean_and_covariance(x, ddof=ddof), *mean_and_covariance(y, ddof=ddof)
    assert frechet_distance(*moments) == pytest.approx(expected, rel=1e-10)


def test_fid_of_covariances_with_common_axes_is_that_of_their_deviations():
    """Where the axes are common, the distance is sum (a - b)^2 of the standard deviations: also where some are 0."""
    a, b = np.array([3, 2, 1, 0, 0, 0.5]), np.array([1, 2, 0, 4, 0, 0.25])
    turn = rotation(6)
    mean = np.array([1.0, -1, 0, 0, 2, 0])
    got = frechet_distance(mean, (turn * a**2) @ turn.T, 0 * mean, (turn * b**2) @ turn.T)
    # An eigenvalue of 0 comes out as 1e-16 of the largest: its root, 1e-8, would show; it is left out.
    assert got == pytest.approx(6 + np.sum((a - b) ** 2), abs=1e-12)


@pytest.mark.parametrize("n", [8, 40])
def test_fid_of_fewer_pictures_than_features_and_of_more(n):
    """Rotated into more dimensions, features are as far apart as before, though their covariances turn singular."""
    x, y = (features(n, 12, seed).astype(np.float64) for seed in (0, 1))
    basis = rotation(30)[:12]
    wide = frechet_distance_of(x @ basis, y @ basis)
    assert wide == pytest.approx(frechet_distance_of(x, y), abs=1e-11)
    stored = *mean_and_covariance(x @ basis), *mean_and_covariance(y @ basis)
    assert frechet_distance(*stored) == pytest.approx(wide, abs=1e-11)


@pytest.mark.parametrize("n", [20, 100])
def test_fid_of_a_set_with_itself_is_0(n):
    x = features(n, 48)
    assert frechet_distance_of(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_distance_of(x, x[::-1]) == pytest.approx(0, abs=1e-10)
    moments = mean_and_covariance(x)
    assert frechet_distance(*moments, *moments) == pytest.approx(0, abs=1e-10)
    assert frechet_distance_of(x, x + np.float32(0.5)) == pytest.approx(48 * 0.25, rel=1e-6)


def test_covariance_far_from_zero_does_not_cancel(monkeypatch):
    monkeypatch.setattr(frechet, "CHUNK", 7)
    x = features(40, 5).astype(np.float64) + 1e6
    np.testing.assert_allclose(mean_and_covariance(x)[1], np.cov(x - 1e6, rowvar=False), atol=1e-9)


def test_fid_errors():
    x = features(20, 4)
    mean, covariance = mean_and_covariance(x)
    with pytest.raises(InputError, match="4 in the other set"):
        frechet_distance_of(x, features(20, 5))
    with pytest.raises(InputError, match="NaN"):
        frechet_distance_of(x, np.where(x == x.max(), np.nan, x))
    with pytest.raises(InputError, match=r"\(20,\)"):
        frechet_distance_of(x[:, 0], x)
    with pytest.raises(InputError, match="2 at least"):
        frechet_distance_of(x[:1], x)
    with pytest.raises(InputError, match="not symmetric"):
        frechet_distance(mean, covariance + np.eye(4, k=1), mean, covariance)
    with pytest.raises(InputError, match="below 0"):
        frechet_distance(mean, covariance - np.eye(4), mean, covariance)
    with pytest.raises(InputError, match="one network only"):
        frechet_distance(mean[:3], covariance, mean, covariance)


# KID


def test_kid_against_a_sum_over_pairs(monkeypatch):
    monkeypatch.setattr(kernel, "CHUNK", 4)
    x, y = features(9, 6), features(7, 6, seed=1, shift=0.3)

    def k(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / 6 + 1) ** 3

    within = [np.mean([k(a, b) for a, b in itertools.permutations(z, 2)]) for z in (x, y)]
    between = np.mean([k(a, b) for a, b in itertools.product(x, y)])
    assert kernel_distance(x, y) == pytest.approx(sum(within) - 2 * between, rel=1e-12)
    within[0] = np.mean([k(a, b) for a, b in itertools.permutations(x[:7], 2)])
    between = np.mean([k(x[i], y[j]) for i, j in itertools.permutations(range(7), 2)])
    assert kernel_distance(x[:7], y, paired=True) == pytest.approx(sum(within) - 2 * between, rel=1e-12)


def test_kid_has_no_bias():
    """Small sets of one distribution: the mean is 0 within four standard errors."""

    def deviation(values):  # of the mean, in standard errors
        return np.mean(values) / np.std(values) * np.sqrt(len(values))

    draws = [[features(10, 6, seed + start) for start in (0, 1000, 2000)] for seed in range(300)]
    assert abs(deviation([kernel_distance(x, y) for x, y, _ in draws])) < 4
    # Pictures and their inpaintings share most of what they show: without pairs there is no bias, with them there is.
    shared = [(x + 0.2 * y, x + 0.2 * z) for x, y, z in draws]
    assert abs(deviation([kernel_distance(x, y, paired=True) for x, y in shared])) < 4
    assert deviation([kernel_distance(x, y) for x, y in shared]) < -10


def test_kid_of_subsets():
    x, y = features(30, 5), features(30, 5, seed=1)
    got = kernel_distances(x, y, subsets=3, subset_size=10)
    draw = np.random.RandomState(2020)
    for value in got:
        rows = draw.permutation(30)[:10], draw.permutation(30)[:10]
        assert value == kernel_distance(x[rows[0]], y[rows[1]])
    # A subset of all rows is the estimate over all, whatever the order.
    np.testing.assert_allclose(kernel_distances(x, y, subsets=2, subset_size=30), kernel_distance(x, y), rtol=1e-12)
    with pytest.raises(InputError, match="subsets of 31"):
        kernel_distances(x, y, subset_size=31)
    with pytest.raises(InputError, match="two of each"):
        kernel_distance(x[:1], y)
    with pytest.raises(InputError, match="30 and 29 rows"):
        kernel_distance(x, y[:29], paired=True)


# Inception score


def test_inception_score_against_scipy():
    logits = np.random.default_rng(0).standard_normal((53, 11)).astype(np.float32) * 3
    shuffled = logits[np.random.RandomState(2020).permutation(53)].astype(np.float64)
    scores = []
    for part in (shuffled[:17], shuffled[17:35], shuffled[35:]):  # 53 / 3 = 17.67, 35.33
        classes = scipy.special.softmax(part, axis=1)
        scores.append(np.exp(scipy.stats.entropy(classes, classes.mean(0)[None], axis=1).mean()))
    assert inception_score_of(logits, 3) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-12)


def test_inception_score_at_its_ends():
    certain = 1e4 * np.tile(np.eye(5), (4, 1))  # four of each class, no doubt
    certain = np.pad(certain, ((0, 0), (0, 1)), constant_values=-1e4)  # a class that none has any probability of
    assert inception_score_of(certain, 1) == pytest.approx((5, 0), rel=1e-12)
    assert inception_score_of(certain[:, [0, 0, 0]], 2) == pytest.approx((1, 0), rel=1e-12)
    with pytest.raises(InputError, match="21 parts"):
        inception_score_of(certain, 21)


# P-IDS and U-IDS


def pairs(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    real = features(n, d)
    noise = np.random.default_rng(7).standard_normal(real.shape) * 0.3
    return real, np.maximum(real + noise + 0.05, 0).astype(np.float32)


def both(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(pairs(n, d)).astype(np.float64), np.repeat([1.0, -1.0], n)


SIZES = [(60, 12), (10, 24), (6, 12)]  # more points than dimensions; fewer; as many


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_linear_machine_is_at_the_minimum(n, d):
    x, labels = both(n, d)
    z = np.concatenate([x, np.ones((2 * n, 1))], axis=1)

    def loss(w):
        short = np.maximum(1 - labels * (z @ w), 0)
        return w @ w / 2 + short @ short, w - 2 * z.T @ (labels * short)

    found = np.append(*linear_machine(x, labels))
    # No curvature is below 1, so the distance to the minimum is at most the gradient's norm.
    assert np.linalg.norm(loss(found)[1]) < 1e-9
    options = {"gtol": 1e-8, "ftol": 0, "maxiter": 10_000}
    other = scipy.optimize.minimize(loss, np.zeros(d + 1), jac=True, method="L-BFGS-B", options=options)
    np.testing.assert_allclose(found, other.x, atol=1e-6)


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_linear_machine_against_scikit_learn(n, d):
    svm = pytest.importorskip("sklearn.svm")
    x, labels = both(n, d)
    weights, intercept = linear_machine(x, labels)
    tight = svm.LinearSVC(dual=False, tol=1e-10, max_iter=100_000).fit(x, labels)
    np.testing.assert_allclose(weights, tight.coef_[0], atol=1e-6)
    np.testing.assert_allclose(intercept, tight.intercept_[0], atol=1e-6)

    real, fake = pairs(n, d)
    usual = svm.LinearSVC(dual=False).fit(x, labels)  # as the published code calls it
    decisions = usual.decision_function(real.astype(np.float64)), usual.decision_function(fake.astype(np.float64))
    p_ids, u_ids = separability(real, fake)
    assert p_ids == pytest.approx(100 * np.mean(decisions[1] > decisions[0]))
    assert u_ids == pytest.approx(100 * (1 - usual.score(x, labels)))


def test_linear_machine_where_whole_steps_go_in_circles():
    """Six points, found by trying, on which Newton's method without a line search never ends."""
    x = np.array([[0, 0.1], [1.34, 2.38], [0, -0.01], [-0.32, -0.3], [2.87, -1.87], [34.85, 0.89]])
    labels = np.array([-1.0, -1, 1, -1, 1, 1])
    weights, intercept = linear_machine(x, labels, cost=1e3)
    short = np.maximum(1 - labels * (x @ weights + intercept), 0)
    gradient = np.append(weights, intercept) - 2e3 * np.column_stack([x, np.ones(6)]).T @ (labels * short)
    assert np.linalg.norm(gradient) < 1e-7  # 1e-12 of what it is made of, 2e3 * 45


def test_linear_machine_where_many_steps_are_needed():
    """74 of them: rectified features of scale 10, which a plane all but divides."""
    rng = np.random.default_rng(5)
    real = np.maximum(rng.normal(size=(192, 253)), 0) * 10
    fake = real + rng.normal(size=real.shape) * 5.8
    x, labels = np.concatenate([real, fake]), np.repeat([1.0, -1.0], 192)
    w = np.append(*linear_machine(x, labels))
    z = np.column_stack([x, np.ones(384)]) * labels[:, None]
    size = np.linalg.norm(w - 2 * np.maximum(1 - z @ w, 0) @ z) / (2 * np.linalg.norm(z, axis=1).sum())
    assert size < 1e-12


def test_a_machine_that_is_not_found_is_a_figure_with_a_reason(monkeypatch):
    monkeypatch.setattr("jaxpaint.metrics.separability.STEPS", 1)
    real, fake = pairs(60, 12)
    metric = u_ids(lambda *_: {}, "")
    shown = metric.compute(metric.update(metric.init(), {"prediction": fake, "target": real}))["whole"]
    assert shown["value"] is None and "did not converge in 1 steps" in shown["reason"] and shown["n"] == 60


def test_separability_at_its_ends():
    real, fake = pairs(60, 12)
    assert separability(real, real) == (0, 50)
    assert separability(real, real + np.float32(5)) == (0, 0)
    p_ids, u_ids = separability(real, fake)
    assert 0 < p_ids < 50 and 0 < u_ids < 50
    # Pairs matter to P-IDS alone.
    other = separability(real, fake[::-1])
    assert other[0] != p_ids and other[1] == u_ids
    with pytest.raises(InputError, match="59 inpainted"):
        separability(real, fake[:59])
