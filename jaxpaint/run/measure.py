"""The measurement: a function that fills holes, pictures and masks to a dict of results.

It does not know what fills the holes, and is the same for ``evaluate.py`` and for validation during a run. Clips are
measured as pictures are: arrays with a time axis in front, and metrics that take such
(`jaxpaint.run.figures.clip_figures`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpaint.metrics import Metric
from jaxpaint.ops.masks.check import match
from jaxpaint.parallel import gather
from jaxpaint.run.figures import figures
from jaxpaint.run.subject import Inpaint
from jaxpaint.types import InputError

DIGITS = 8  # of a value in the JSON: far below what is quoted, far above what another machine's sums may move

PER_BUCKET = "it belongs to a set of different pictures, and over all mask buckets each would be in it several times"


class Seen(NamedTuple):
    """One picture or clip of an evaluation, for whoever wants to look at it. `values` by metric and region. Of a clip:
    the frames that `result` has."""

    position: int
    bucket: str
    image: np.ndarray
    mask: np.ndarray
    result: np.ndarray
    values: Mapping[str, Mapping[str, float | str]]


def evaluate(
    inpaint: Inpaint,
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray] | Mapping[str, Sequence[np.ndarray]],
    *,
    metrics: Mapping[str, Metric] | None = None,
    batch: int = 8,
    observe: Callable[[Seen], None] | None = None,
    noun: str = "picture",
) -> dict[str, Any]:
    """Measures a function that fills holes.

    Over several processes each measures its share of the pictures, and all have the whole report: every process makes
    this call, with the same pictures, masks and metrics.

    Args:
      inpaint: see `Inpaint`; over several processes it uses this process's devices
      images: ground truth, uint8 h w 3 of any sizes, or clips t h w 3; only indexed, so it may decode when asked
      masks: one for each picture, uint8 h w 1 (t h w 1), 1 = hole; or several such sequences by name of the bucket:
        every picture is then filled once a bucket, and there are figures for each bucket and for all together
      metrics: by the names that the report gives them, as `jaxpaint.run.figures.figures` makes them; by default the
        standard ones
      batch: pictures handed to `inpaint` at once
      observe: is shown every picture of this process's share, in order
      noun: "picture" or "clip": what messages call one of the images

    A result of a clip may lack its first frames (a released protocol that does not write them): then the frames that
    there are, are measured.

    Returns:
      ``{"n", "results": {metric: {region: result}}, "buckets": {bucket: results}}``, a result being
      ``{"value", "n"}`` and more: see `jaxpaint.metrics.metric.Mean.result`; "std" beside a value, "flag" where it is
      not to be quoted as it stands. No "buckets" for masks in one sequence.

    Raises:
      InputError: no pictures, a mask that does not fit or is empty or full, a bad result.
    """
    metrics = figures() if metrics is None else metrics
    buckets = masks if isinstance(masks, Mapping) else {"": masks}
    if len(images) == 0:
        raise InputError(f"there are no {noun}s to evaluate on (N = 0): give at least one")
    for bucket, group in buckets.items():
        if len(group) != len(images):
            where = f" in bucket {bucket}" if bucket else ""
            raise InputError(f"there are {len(group)} masks{where} for {len(images)} {noun}s: one each is expected")
    with gather.together():
        states = _measure(inpaint, images, buckets, metrics, batch, observe, noun)
    states = {bucket: _merged(group, metrics) for bucket, group in states.items()}
    report = {"n": len(images), "results": _overall(states, metrics)}
    if isinstance(masks, Mapping):
        report["buckets"] = {bucket: _results(group, metrics) for bucket, group in states.items()}
    return report


def _keepers(metrics: Mapping[str, Metric]) -> dict[str, str]:
    """Each metric's name -> the first one that keeps the same state: of the same measurements by the same update."""
    first: dict[tuple, str] = {}
    return {name: first.setdefault((metric.measure, metric.update), name) for name, metric in metrics.items()}


def _measure(
    inpaint: Inpaint,
    images: Sequence[np.ndarray],
    buckets: Mapping[str, Sequence[np.ndarray]],
    metrics: Mapping[str, Metric],
    batch: int,
    observe: Callable[[Seen], None] | None,
    noun: str,
) -> dict[str, dict[str, Any]]:
    """The states of the metrics that keep one over this process's pictures, by bucket and metric."""
    states = {bucket: {name: metrics[name].init() for name in _keepers(metrics).values()} for bucket in buckets}
    looks = dict.fromkeys(metric.measure for metric in metrics.values())  # through one network, once for all
    mine = gather.share(len(images))
    for start in range(mine.start, mine.stop, batch):
        positions = list(range(start, min(start + batch, mine.stop)))
        truths = [images[position] for position in positions]
        for bucket, group in buckets.items():
            holes = [_checked(group[p], image, f"{noun} {p}") for p, image in zip(positions, truths, strict=True)]
            results = list(inpaint(truths, holes, positions))
            _check_results(results, truths, noun)
            shown, where = _written(truths, results), _written(holes, results)
            seen = {look: look(results, shown, where) for look in looks}
            measured = {name: seen[metric.measure] for name, metric in metrics.items()}
            for name, state in states[bucket].items():
                states[bucket][name] = metrics[name].update(state, measured[name])
            if observe is not None:
                for row, position in enumerate(positions):
                    values = {name: _row(measured[name], metric.regions, row) for name, metric in metrics.items()}
                    observe(Seen(position, bucket, shown[row], where[row], results[row], values))
    return states


def _merged(states: dict[str, Any], metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """One bucket's states of all processes together.

    A state has the structure of the metric's first one: numbers, and arrays whose lengths may differ.
    """
    if jax.process_count() == 1:
        return states
    merged = {name: metrics[name].init() for name in states}
    form = jax.tree.structure(states)
    for leaves in gather.gather(jax.tree.leaves(states)):
        for name, state in form.unflatten(leaves).items():
            merged[name] = metrics[name].merge(merged[name], state)
    return merged


def flat(report: Mapping[str, Any]) -> dict[str, float]:
    """The overall figures by short name (``psnr``, ``psnr_hole``, ``outside_max_abs_diff``), without undefined ones."""
    values = {}
    for name, regions in report["results"].items():
        for region, result in regions.items():
            if result["value"] is not None:
                values[f"{name}_{region}" if region == "hole" else name] = result["value"]
    return values


def _checked(mask: np.ndarray, image: np.ndarray, name: str) -> np.ndarray:
    """The mask as uint8, if it can be measured with. Of a clip, a frame may lack a hole, or be nothing but hole."""
    mask = np.asarray(mask)
    if image.ndim == 3:
        match(mask, image.shape, name=f"{name}: mask")
    if mask.shape != (*image.shape[:-1], 1):
        expected = "height x width x 1" if image.ndim == 3 else f"a mask a frame, {(*image.shape[:-1], 1)}"
        raise InputError(f"{name}: the mask has the shape {mask.shape}: expected {expected}")
    if not np.isin(mask, (0, 1)).all():
        raise InputError(f"{name}: the mask has values other than 0 and 1 (1 = hole): make it binary")
    if not mask.any() or mask.all():
        state = "full" if mask.any() else "empty"
        raise InputError(f"{name}: the mask is {state}: there is nothing to measure; give another mask")
    return mask.astype(np.uint8)


def _check_results(results: list, truths: list, noun: str) -> None:
    if len(results) != len(truths):
        raise InputError(f"inpaint gave {len(results)} results for {len(truths)} {noun}s: one each is expected")
    for result, truth in zip(results, truths, strict=True):
        if result.dtype != np.uint8:
            raise InputError(f"inpaint gave {result.dtype} {noun}s: uint8 in 0..255 is expected")
        if truth.ndim == 4 and not 1 <= len(result) <= len(truth):
            raise InputError(f"inpaint gave {len(result)} frames for a clip of {len(truth)}")


def _written(arrays: list, results: list) -> list:
    """Of clips the last frames, as many as the results have; pictures as they are."""
    pairs = zip(arrays, results, strict=True)
    return [array[len(array) - len(result) :] if array.ndim == 4 else array for array, result in pairs]


def _overall(states: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """The results over all buckets together."""
    meant = {name: metric for name, metric in metrics.items() if len(states) == 1 or not metric.of_set}
    whole = {name: metrics[name].init() for name in _keepers(meant).values()}
    for group in states.values():
        whole = {name: metrics[name].merge(state, group[name]) for name, state in whole.items()}
    results = _results(whole, meant)
    for name, metric in metrics.items():
        if name not in meant:
            results[name] = {region: {"value": None, "n": 0, "reason": PER_BUCKET} for region in metric.regions}
    return {name: results[name] for name in metrics}


def _results(states: Mapping[str, Any], metrics: Mapping[str, Metric]) -> dict[str, Any]:
    results = {name: metrics[name].compute(states[keeper]) for name, keeper in _keepers(metrics).items()}
    for regions in results.values():
        for result in regions.values():
            for part in ("value", "std"):
                if result.get(part) is not None:
                    result[part] = round(result[part], DIGITS)
    return results


def _row(measured: Mapping[str, Sequence], regions: Sequence[str], row: int) -> dict[str, float | str]:
    """One picture's values; none of a metric that only a whole set has (its measurements are not by region)."""
    return {region: measured[region][row] for region in regions if region in measured}
