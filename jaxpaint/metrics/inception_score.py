"""The inception score (Salimans et al., arXiv 1606.03498): how clear the classes of pictures are, and how many.

    exp(mean over pictures of KL(p(class | picture) || p(class)))

from 1 to the number of classes; p(class) is the mean over the pictures of a part of the set, and the score is the mean
over the parts. It looks at the predictions alone, never at the targets, so it says little about inpainting, where a
perfect result scores what the targets do; papers print it nevertheless.
"""

import itertools
from collections.abc import Callable

import numpy as np

from jaxpaint.metrics.metric import Metric
from jaxpaint.metrics.rows import check_rows, metric_of_rows
from jaxpaint.types import InputError

SEED = 2020
"""Of the order in which pictures are dealt to the parts, as torch-fidelity does it."""

ENOUGH = 5000
"""Pictures below which the score is flagged: as many as one part has in its authors'
protocol, of 50,000 in ten parts."""

A_PART = 10
"""Pictures a part below which the score is refused: m pictures cannot score above m, however different they are."""


def inception_score_of(logits: np.ndarray, splits: int = 10, *, seed: int = SEED) -> tuple[float, float]:
    """The score of scores of classes, in float64.

    Args:
      logits: n classes, before the softmax
      splits: parts, of equal size but for one picture
      seed: of ``numpy.random.RandomState``, which permutes the rows before they are divided

    Returns:
      (mean, standard deviation over the parts, divided by their number)
    """
    logits = check_rows(logits, "the logits")
    if splits < 1 or len(logits) < splits:
        raise InputError(f"{len(logits)} rows of logits in {splits} parts: one each at least is expected")
    order = np.random.RandomState(seed).permutation(len(logits))
    bounds = [part * len(logits) // splits for part in range(splits + 1)]
    scores = [_score(logits[order[a:b]]) for a, b in itertools.pairwise(bounds)]
    return float(np.mean(scores)), float(np.std(scores))


def inception_score(measure: Callable, about: str, *, splits: int = 10, logits: str = "logits_unbiased") -> Metric:
    """The inception score of the predictions, with a "std" over the parts beside the value.

    Args:
      measure: gives scores of classes (`jaxpaint.metrics.inception.extractor`)
      splits: see `inception_score_of`
      logits: which ones: "logits_unbiased", without the classifier's biases, as the score's authors, torch-fidelity
        and TorchMetrics have it; or "logits"
    """

    def result(rows):
        n = len(rows)
        if n < A_PART * splits:
            reason = (
                f"N = {n} pictures in {splits} parts: {A_PART * splits} at least are expected, since a part of m "
                "pictures cannot score above m; use fewer parts, or more pictures"
            )
            return {"value": None, "reason": reason}
        value, deviation = inception_score_of(rows, splits)
        shown = {"value": value, "std": deviation}
        if n < ENOUGH:
            shown["flag"] = (
                f"N = {n} is below {ENOUGH:,} pictures: the score grows with the pictures in a part, and compares with "
                f"scores of the same N in {splits} parts alone"
            )
        return shown

    return metric_of_rows(measure, (logits,), result, about, better="higher")


def _score(logits: np.ndarray) -> float:
    logits = logits.astype(np.float64)
    logs = logits - logits.max(axis=1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    each = np.exp(logs)
    # A class that no picture has any probability of adds nothing: its terms are 0 times a logarithm, not NaN.
    together = np.log(np.maximum(each.mean(axis=0), np.finfo(np.float64).tiny))
    return float(np.exp(np.sum(each * (logs - together), axis=1).mean()))
