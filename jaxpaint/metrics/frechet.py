"""FID: the Frechet distance between two sets of features, each taken as a normal distribution.

    FID = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr sqrt(S1 S2)        (Heusel et al., arXiv 1706.08500, section 2)

The product of two covariances is not symmetric, and its general square root fails or turns complex where a covariance
is singular, which it is for fewer pictures than features. It is not needed: with S = A A^T, the eigenvalues of
S1 S2 = A1 A1^T A2 A2^T are those of (A1^T A2)(A1^T A2)^T, so that

    tr sqrt(S1 S2) = the sum of the singular values of A1^T A2

for any such A1, A2. The singular values are off by the rounding of A1^T A2 itself. (The square root of an eigenvalue
of a product of covariances turns its rounding of 1e-16 into 1e-8, for each of the 2048 - N directions in which there
should be nothing.) A is the centred features themselves where there are fewer pictures than features, and comes from
the covariance's eigenvectors otherwise.
"""

from collections.abc import Callable

import numpy as np

from jaxpaint.metrics.metric import Metric
from jaxpaint.metrics.rows import check_rows, metric_of_rows
from jaxpaint.types import InputError

SMALLEST = 100
"""Pictures below which FID is refused: the smallest set that papers on inpainting print it for is Paris StreetView's
test set of 100."""

ENOUGH = 10_000
"""Pictures below which FID is flagged; as many as its authors recommend at least."""

CHUNK = 4096  # rows turned to float64 at once


def frechet_distance(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """FID of stored moments, in float64.

    Args:
      mean1, mean2: d
      cov1, cov2: d d, symmetric, no eigenvalue below 0

    Eigenvalues below ``d * 2**-52`` of the largest are those of rounding, and are left out. The Frechet distance is a
    metric on covariances that moves by at most sqrt(tr R) where R is taken away (R is independent noise of that
    variance), so what is left out changes sqrt(FID) by at most ``d * sqrt(2**-52 * largest)``, 3e-5 * sqrt(largest)
    at d = 2048 were every eigenvalue just below the limit.
    """
    return _distance(_vector(mean1), _factor(cov1), _vector(mean2), _factor(cov2))


def frechet_distance_of(x: np.ndarray, y: np.ndarray, *, ddof: int = 1) -> float:
    """FID of two sets of features, in float64.

    Args:
      x, y: n d and m d
      ddof: covariances are divided by n - ddof: 1 in pytorch-fid, torch-fidelity, LaMa and AOT-GAN; 0 in
        StyleGAN2-ADA, CoModGAN and MAT
    """
    x = check_rows(x, "the first features")
    y = check_rows(y, "the second features", like=x)
    return _distance(*_mean_and_factor(x, ddof), *_mean_and_factor(y, ddof))


def mean_and_covariance(x: np.ndarray, *, ddof: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d) and covariance (d d, divided by n - ddof) of features n d, in float64.

    The mean is taken off before products are summed, so that nothing cancels.
    """
    x = check_rows(x, "the features")
    _check_count(x, ddof)
    mean = x.mean(axis=0, dtype=np.float64)
    total = np.zeros((x.shape[1],) * 2)
    for start in range(0, len(x), CHUNK):
        centred = x[start : start + CHUNK] - mean
        total += centred.T @ centred
    return mean, total / (len(x) - ddof)


def fid(measure: Callable, about: str, *, ddof: int = 1) -> Metric:
    """FID of predictions against targets.

    Args:
      measure: gives "prediction" and "target", features n d (`jaxpaint.metrics.inception.extractor`)
      ddof: see `frechet_distance_of`
    """

    def result(prediction, target):
        n = len(target)
        if n < SMALLEST:
            reason = (
                f"N = {n} pictures: FID is given for {SMALLEST} at least, and compares between papers at equal N "
                "alone; use KID without subsets, which has no bias, or LPIPS"
            )
            return {"value": None, "reason": reason}
        shown = {"value": frechet_distance_of(prediction, target, ddof=ddof)}
        if n < ENOUGH:
            shown["flag"] = (
                f"N = {n} is below {ENOUGH:,} pictures: FID is biased upwards there, and compares with FID of the same "
                "N alone; KID without subsets has no bias"
            )
        return shown

    return metric_of_rows(measure, ("prediction", "target"), result, about, better="lower")


def _distance(mean1: np.ndarray, factor1: np.ndarray, mean2: np.ndarray, factor2: np.ndarray) -> float:
    if len(mean1) != len(factor1) or len(mean2) != len(factor2) or len(mean1) != len(mean2):
        sizes = f"{len(mean1)} and {len(mean2)} numbers, covariances {len(factor1)} and {len(factor2)} wide"
        raise InputError(f"means of {sizes}: compare features of one network only")
    overlap = np.linalg.svd(factor1.T @ factor2, compute_uv=False).sum()
    apart = np.sum((mean1 - mean2) ** 2) + np.sum(factor1**2) + np.sum(factor2**2)
    return max(0.0, float(apart - 2 * overlap))  # below 0 by rounding alone


def _mean_and_factor(x: np.ndarray, ddof: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of features n d, and A, d k, such that the covariance is A A^T."""
    if len(x) >= x.shape[1]:
        mean, covariance = mean_and_covariance(x, ddof=ddof)
        return mean, _factor(covariance)
    _check_count(x, ddof)
    mean = x.mean(axis=0, dtype=np.float64)
    return mean, (x - mean).T / np.sqrt(len(x) - ddof)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """A, d k, such that A A^T is the covariance."""
    covariance = np.asarray(covariance, np.float64)
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise InputError(f"a covariance of the shape {covariance.shape}: a square is expected")
    if not np.isfinite(covariance).all():
        raise InputError("a covariance has NaN or infinite numbers: look at the features that it was made of")
    scale = np.abs(covariance).max(initial=0)
    if np.abs(covariance - covariance.T).max(initial=0) > 1e-6 * scale:
        raise InputError("a covariance is not symmetric: give the covariance itself, not its square root or a product")
    values, vectors = np.linalg.eigh(covariance)
    if values[0] < -1e-6 * scale:
        raise InputError(f"a covariance has the eigenvalue {values[0]:g}, below 0: it is none")
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])


def _vector(mean: np.ndarray) -> np.ndarray:
    mean = np.asarray(mean, np.float64)
    if mean.ndim != 1:
        raise InputError(f"a mean of the shape {mean.shape}: one number a feature is expected")
    return mean


def _check_count(x: np.ndarray, ddof: int) -> None:
    if len(x) <= ddof:
        raise InputError(f"{len(x)} rows of features: a covariance divided by N - {ddof} needs {ddof + 1} at least")
