"""KID: the squared distance of two sets of features under a polynomial kernel (Binkowski et al., arXiv 1801.01401).

With k(a, b) = (a . b / d + 1)^3 for features of d numbers, the unbiased estimate of the squared maximum mean
discrepancy is the mean of k over the pairs of different rows of x, plus the same of y, minus twice the mean of k over
all pairs of a row of x and a row of y. It can be negative. Papers print it plain, times 100 or times 1000; here it is
plain.

Its expectation does not depend on the number of pictures, as long as the two sets are independent. An inpainted
picture and its target are not: N of the N^2 pairs between the sets are alike whatever the method, which moves the
estimate down by 2 / N of how much greater k is for a picture and its own target than for a picture and another's
target: by 1e-3 for N = 1000 and a k that is greater by 0.5, as much as good methods score. So is the published KID of
inpainting, subsets or not (a subset of m from N has m^2 / N such pairs among its m^2). Leaving these pairs out
(``paired``) leaves no bias: pictures of different numbers are independent.
"""

from collections.abc import Callable

import numpy as np

from jaxpaint.metrics.metric import Metric
from jaxpaint.metrics.rows import check_rows, metric_of_rows
from jaxpaint.types import InputError

SEED = 2020
"""Of the subsets, as torch-fidelity draws them."""

ENOUGH = 10_000
"""Pictures below which KID of subsets is flagged: the bias by pairs is 1e-4 there in the example above."""

CHUNK = 1024  # rows of the kernel matrix that are held at once


def kernel_distance(x: np.ndarray, y: np.ndarray, *, paired: bool = False) -> float:
    """The unbiased estimate over all pairs, in float64.

    Args:
      x, y: features n d and m d; n, m at least 2
      paired: rows of equal number belong to one picture (n = m): such pairs are left out of the mean between the sets
    """
    x = check_rows(x, "the first features").astype(np.float64)
    y = check_rows(y, "the second features", like=x).astype(np.float64)
    if min(len(x), len(y)) < 2:
        raise InputError(f"{len(x)} and {len(y)} rows of features: two of each at least are expected")
    if paired and len(x) != len(y):
        raise InputError(f"{len(x)} and {len(y)} rows of features: as many of each are expected of pairs")
    between = _mean_of_others(x, y) if paired else _total(x, y) / (len(x) * len(y))
    return float(_mean_of_others(x, x) + _mean_of_others(y, y) - 2 * between)


def kernel_distances(
    x: np.ndarray, y: np.ndarray, *, subsets: int = 100, subset_size: int = 1000, seed: int = SEED
) -> np.ndarray:
    """`kernel_distance` of random subsets; their mean is the KID that torch-fidelity and TorchMetrics print.

    Args:
      x, y: features n d and m d
      subsets: how many
      subset_size: rows of each set, drawn without replacement within a subset
      seed: of ``numpy.random.RandomState``, which draws x's rows, then y's, subset after subset

    Returns:
      one number a subset, float64
    """
    if subset_size > min(len(x), len(y)):
        raise InputError(
            f"subsets of {subset_size} from {len(x)} and {len(y)} rows of features: use smaller ones, "
            "or the estimate over all (kernel_distance)"
        )
    draw = np.random.RandomState(seed)
    rows = [
        [draw.choice(len(z), subset_size, replace=False) for z in (x, y)]  # x's first
        for _ in range(subsets)
    ]
    return np.array([kernel_distance(x[in_x], y[in_y]) for in_x, in_y in rows])


def kid(measure: Callable, about: str, *, subsets: int = 100, subset_size: int | None = 1000) -> Metric:
    """KID of predictions against targets.

    With subsets it is the published figure, with a "std" over the subsets beside the value, and a flag where the bias
    by pairs (see the module's docstring) may matter. Without, it is the one estimate over all pairs of pictures, each
    picture's own left out, which has no bias at any N.

    Args:
      measure: gives "prediction" and "target", features n d (`jaxpaint.metrics.inception.extractor`)
      subsets: see `kernel_distances`
      subset_size: None for the estimate without subsets
    """
    smallest = subset_size or 2

    def result(prediction, target):
        n = len(target)
        if n < smallest:
            instead = "the estimate without subsets, which needs 2" if subset_size else "more pictures"
            return {"value": None, "reason": f"N = {n} pictures: {smallest} at least are expected; use {instead}"}
        if subset_size is None:
            return {"value": kernel_distance(prediction, target, paired=True)}
        values = kernel_distances(prediction, target, subsets=subsets, subset_size=subset_size)
        shown = {"value": float(values.mean()), "std": float(values.std())}
        if n < ENOUGH:
            shown["flag"] = (
                f"N = {n} is below {ENOUGH:,} pictures: KID of predictions and their own targets is biased downwards "
                "there, by 1/N; the estimate without subsets is not"
            )
        return shown

    return metric_of_rows(measure, ("prediction", "target"), result, about, better="lower")


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _total(x: np.ndarray, y: np.ndarray) -> float:
    return sum(_kernel(x[start : start + CHUNK], y).sum() for start in range(0, len(x), CHUNK))


def _mean_of_others(x: np.ndarray, y: np.ndarray) -> float:
    """Mean of the kernel over the pairs of rows of different number."""
    own = np.sum((np.sum(x * y, axis=1) / x.shape[1] + 1) ** 3)
    return (_total(x, y) - own) / (len(x) * (len(x) - 1))
