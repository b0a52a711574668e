"""P-IDS and U-IDS: how well a linear machine tells inpainted pictures from real ones (Zhao et al., arXiv 2103.10428).

A linear support vector machine is trained on the features of the real pictures (+1) and of the inpainted ones (-1),
and scored on the same. U-IDS is the share of them on the wrong side of its plane; P-IDS the share of pairs in which
the inpainted picture lies further on the real side than the very picture it was made from. Both in percent: higher is
better, 50 is chance. (Pictures equal to their targets have a U-IDS of 50 and a P-IDS of 0: no picture is further on
the real side than itself.)

The machine is the one that CoModGAN's and MAT's code uses, scikit-learn's ``LinearSVC(dual=False)``: with z = (x, 1),

    minimise  |w|^2 / 2 + C sum_i max(0, 1 - y_i w . z_i)^2,  C = 1

so that the intercept, the last number of w, is regularised with the rest. Here it is solved to the end, not to a
tolerance of 1e-4.

With 2N points in d dimensions: a plane can divide up to d + 1 points in general position in every way, and a random
half of the ways of 2 (d + 1) points (Cover, 1965). So with N <= d the machine can often tell apart what does not
differ, both figures come out too low, and are flagged.
"""

from collections.abc import Callable

import numpy as np

from jaxpaint.metrics.metric import Metric
from jaxpaint.metrics.rows import check_rows, metric_of_rows
from jaxpaint.types import InputError

STEPS = 1000  # of Newton's method; ten or so are needed, and a hundred where a plane all but divides large features


def separability(real: np.ndarray, fake: np.ndarray) -> tuple[float, float]:
    """(P-IDS, U-IDS) in percent.

    Args:
      real, fake: features n d; rows of equal number belong to one picture

    Raises:
      np.linalg.LinAlgError: see `linear_machine`.
    """
    real = check_rows(real, "the real features").astype(np.float64)
    fake = check_rows(fake, "the inpainted features", like=real).astype(np.float64)
    if len(real) != len(fake) or not len(real):
        raise InputError(f"features of {len(real)} real and {len(fake)} inpainted pictures: pairs are expected")
    weights, intercept = linear_machine(np.concatenate([real, fake]), np.repeat([1.0, -1.0], len(real)))
    # The difference of equal rows is exactly 0: a picture does not beat itself by rounding.
    paired = np.mean((fake - real) @ weights > 0)
    wrong = np.mean(real @ weights + intercept <= 0) + np.mean(fake @ weights + intercept > 0)
    return float(100 * paired), float(100 * wrong / 2)


def linear_machine(x: np.ndarray, labels: np.ndarray, *, cost: float = 1.0) -> tuple[np.ndarray, float]:
    """The linear support vector machine of the module's docstring, in float64.

    Newton's method: the loss is quadratic between the points where a row's margin passes 1, and strictly convex, so it
    ends after finitely many steps (Keerthi and DeCoste, JMLR 6, 2005). It stops where the gradient is below 1e-12 of
    the sum of its terms' norms; the distance to the minimum is at most the gradient's norm, for no curvature is
    below 1.

    Args:
      x: n d
      labels: n, +1 or -1
      cost: C

    Returns:
      (weights, d; intercept)

    Raises:
      np.linalg.LinAlgError: the steps did not get there.
    """
    z = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    z *= labels[:, None]
    if len(z) >= z.shape[1]:
        w = _minimise(z, cost)
    else:  # the weights lie among the rows: solve for their coordinates there
        basis, triangle = np.linalg.qr(z.T)
        w = basis @ _minimise(triangle.T, cost)
    return w[:-1], float(w[-1])


def p_ids(measure: Callable, about: str) -> Metric:
    """P-IDS of predictions against targets, in percent.

    Args:
      measure: gives "prediction" and "target", features n d (`jaxpaint.metrics.inception.extractor`)
    """
    return _metric(measure, 0, "P-IDS", about)


def u_ids(measure: Callable, about: str) -> Metric:
    """U-IDS of predictions against targets, in percent.

    Args:
      measure: gives "prediction" and "target", features n d (`jaxpaint.metrics.inception.extractor`)
    """
    return _metric(measure, 1, "U-IDS", about)


def _metric(measure: Callable, which: int, name: str, about: str) -> Metric:
    def result(prediction, target):
        try:
            shown = {"value": separability(target, prediction)[which]}
        except np.linalg.LinAlgError as error:  # one figure that cannot be had does not cost the others
            return {"value": None, "reason": str(error)}
        n, features = target.shape
        if n <= features:
            shown["flag"] = (
                f"N = {n} is not above the number of features, {features}: a plane tells so few points apart even "
                f"where the sets do not differ, so that {name} comes out too low; use more pictures, or KID"
            )
        return shown

    return metric_of_rows(measure, ("prediction", "target"), result, about, better="higher", unit="%")


def _minimise(z: np.ndarray, cost: float) -> np.ndarray:
    """w that minimises |w|^2 / 2 + cost * sum max(0, 1 - z w)^2; z: n d, rows times labels."""
    w, margins = np.zeros(z.shape[1]), np.zeros(len(z))
    accurate = 1e-12 * 2 * cost * np.sqrt(np.sum(z * z, axis=1)).sum()
    for _ in range(STEPS):
        short = np.maximum(1 - margins, 0)
        gradient = w - 2 * cost * (short @ z)
        if np.linalg.norm(gradient) <= accurate:
            return w
        active = z[short > 0]
        step = -np.linalg.solve(np.eye(len(w)) + 2 * cost * (active.T @ active), gradient)
        along = z @ step
        length = _length(w, step, margins, along, cost)
        w, margins = w + length * step, margins + length * along
    raise np.linalg.LinAlgError(f"the support vector machine did not converge in {STEPS} steps on these features")


def _length(w: np.ndarray, step: np.ndarray, margins: np.ndarray, along: np.ndarray, cost: float) -> float:
    """How far along the step the loss is smallest: where its slope, which only rises, is 0."""

    def slope(length: float) -> float:
        short = np.maximum(1 - margins - length * along, 0)
        return w @ step + length * (step @ step) - 2 * cost * (short @ along)

    limit = 1e-3 * abs(slope(0.0))
    if abs(slope(1.0)) <= limit:
        return 1.0  # the whole step, so that the last one is exact
    low, high = 0.0, 1.0
    while slope(high) < 0:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return high
