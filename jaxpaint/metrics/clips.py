"""Metrics of pictures on clips: every frame is measured, and a clip's value is the mean over its frames.

There are two averages over a set of clips, which differ where clips have different lengths:

- "clips": the mean of the clips' means, each clip weighs the same;
- "frames": the mean over all frames of all clips, each frame weighs the same, as the scripts of STTN, FuseFormer,
  E2FGVI and ProPainter have it.

What a frame without a value is (PSNR of identical frames is infinite, a frame may have no hole) is as for pictures: it
is counted and left out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxpaint.metrics.metric import EMPTY, TOO_SMALL, Mean, Metric
from jaxpaint.types import InputError

AVERAGES = {
    "clips": "mean over the frames of a clip, then over clips; each clip weighs the same",
    "frames": "mean over all frames of all clips; each frame weighs the same (STTN, FuseFormer, E2FGVI, ProPainter)",
}


def per_frame(metric: Metric, average: str = "clips") -> Metric:
    """A metric of pictures as one of clips: its `measure` takes clips, t h w 3 and t h w 1, one value each.

    Args:
      metric: a mean over pictures, or the maximum over them (of the region "outside")
      average: of `AVERAGES`

    Results have "n", the clips with a value, and "frames", the frames with one.
    """
    if average not in AVERAGES:
        raise InputError(f"average {average!r}: expected {' or '.join(AVERAGES)}")
    if metric.of_set:
        raise InputError("a metric of a whole set of pictures is none of clips")
    if metric.regions == ("outside",):
        return metric._replace(measure=_worst(metric))

    def measure(predictions, targets, masks):
        frames = [metric.measure(*map(list, clip)) for clip in zip(predictions, targets, masks, strict=True)]
        means = {region: [mean_of_frames(clip[region]) for clip in frames] for region in metric.regions}
        return means | {"frames": frames}

    def init():
        return {region: Mean() for region in metric.regions}, metric.init()

    def update(state, measured):
        clips, frames = state
        clips = {region: _added(mean, measured[region]) for region, mean in clips.items()}
        for clip in measured["frames"]:
            frames = metric.update(frames, clip)
        return clips, frames

    def merge(a, b):
        return {region: a[0][region].merge(b[0][region]) for region in a[0]}, metric.merge(a[1], b[1])

    def compute(state):
        clips, shown = state[0], metric.compute(state[1])
        return {region: _result(clips[region], dict(shown[region]), average) for region in metric.regions}

    return metric._replace(measure=measure, init=init, update=update, merge=merge, compute=compute)


def mean_of_frames(values: Sequence[float | str]) -> float | str:
    """A clip's value from those of its frames: the mean of the finite ones.

    `TOO_SMALL` where a frame is; without a finite value, infinity where a frame has that, else `EMPTY`.
    """
    if TOO_SMALL in values:
        return TOO_SMALL
    there = [value for value in values if value != EMPTY]
    finite = [value for value in there if math.isfinite(value)]
    if finite:
        return math.fsum(finite) / len(finite)
    return math.inf if there else EMPTY


def _added(mean: Mean, values: Sequence[float | str]) -> Mean:
    for value in values:
        mean = mean.add(value)
    return mean


def _result(clips: Mean, shown: dict[str, Any], average: str) -> Mapping[str, Any]:
    """The result over frames as one of clips."""
    shown["frames"] = shown["n"]
    shown["n"] = clips.count if shown["value"] is not None else 0
    if average == "clips" and shown["value"] is not None:
        shown["value"] = clips.result(0)["value"]
    return shown


def _worst(metric: Metric):
    """The largest value of a clip's frames."""

    def measure(predictions, targets, masks):
        clips = zip(predictions, targets, masks, strict=True)
        return {"outside": [max(metric.measure(*map(list, clip))["outside"]) for clip in clips]}

    return measure
