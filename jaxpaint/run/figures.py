"""Which figures a report has: from the names on the command line to metrics that are ready to measure.

Metrics that look through a network need its weights: published files from the folder of weights
(`jaxpaint.io.pretrained`), each read once. ``features="random"`` takes weights that were never trained, for trying
things out where the files are not at hand; nothing does so unless told to, and every name then says
``[random features]``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxpaint.convert.features import LPIPS_WIDTHS, NAMES, load, load_linear
from jaxpaint.io.pretrained import FILES
from jaxpaint.metrics import METRICS, STANDARD, Metric
from jaxpaint.metrics.clips import per_frame
from jaxpaint.metrics.networks import NETWORK_METRICS, NETWORKS, Recipe, build
from jaxpaint.metrics.video import VIDEO_METRICS
from jaxpaint.models.features import random_variables
from jaxpaint.types import InputError, did_you_mean

FEATURES = ("published", "random")

RANDOM = "[random features]"
"""What the name of every figure ends with that was measured through a network that was never trained."""

WARPING = "ewarp"

_SEED = 0
_ALWAYS = "outside_max_abs_diff"


FLOWS = ("raft", "tvl1")
"""Whose flow the warping error is measured with; the name says it, unless it is RAFT's."""


def groups(clips: bool = False) -> dict[str, tuple[str, ...]]:
    """The names that stand for several metrics, of pictures or of clips."""
    perceptual = tuple(name for name in NETWORK_METRICS if name.startswith("lpips."))
    several = {"standard": STANDARD, "all": tuple(METRICS), "perceptual": perceptual}
    if clips:
        several["temporal"] = (WARPING,)
        of_sets = tuple(name for name in VIDEO_METRICS if not name.startswith(WARPING))
    else:
        of_sets = tuple(name for name in NETWORK_METRICS if name not in perceptual)
    return {**several, "distribution": of_sets}


def chosen(text: str, clips: bool = False) -> tuple[str, ...]:
    """``standard,lpips.alex`` to the ids of metrics; `outside_max_abs_diff` is always among them."""
    known = groups(clips)
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"--metrics {text!r} names no metric: give ids, or {', '.join(known)}")
    ids = [name for part in names for name in known.get(part, (part,))]
    _check(ids, {**known, **METRICS, **(_of_clips() if clips else NETWORK_METRICS)})
    return tuple(dict.fromkeys([_ALWAYS, *ids]))


def figures(names: Iterable[str] = STANDARD, features: str = "published") -> dict[str, Metric]:
    """Metrics by id, ready to measure.

    Args:
      names: ids of `METRICS` and `NETWORK_METRICS`
      features: of networks: "published", or "random", whose ids end with `RANDOM`

    Raises:
      InputError: there is no such metric; a file of weights is missing or is not the published one.
    """
    return _figures(names, features, NETWORK_METRICS)


def clip_figures(
    names: Iterable[str] = STANDARD, features: str = "published", *, average: str = "clips", flow: str = "raft"
) -> dict[str, Metric]:
    """Metrics of clips by id, ready to measure: those of pictures frame by frame, and those of `VIDEO_METRICS`.

    Args:
      names, features: as of `figures`; of `NETWORK_METRICS` LPIPS alone
      average: of frames, of `jaxpaint.metrics.clips.AVERAGES`
      flow: of `FLOWS`, for "ewarp"

    Raises:
      InputError: as `figures`; a flow by a network that was never trained.
    """
    if flow not in FLOWS:
        raise InputError(f"--flow {flow}: expected {' or '.join(FLOWS)}")
    if WARPING in names and flow == "raft" and features == "random":
        raise InputError(
            "the warping error by a RAFT that was never trained says nothing: give --flow tvl1, which needs no "
            "weights, or --features published"
        )
    by_flow = {WARPING: WARPING if flow == "raft" else f"{WARPING}[{flow}]"}
    metrics = _figures([by_flow.get(name, name) for name in names], features, _of_clips())
    return {
        name: metric if name.removesuffix(RANDOM) in VIDEO_METRICS else per_frame(metric, average)
        for name, metric in metrics.items()
    }


def _figures(names: Iterable[str], features: str, recipes: Mapping[str, Recipe]) -> dict[str, Metric]:
    names = tuple(dict.fromkeys(names))
    _check(names, {**METRICS, **recipes})
    if features not in FEATURES:
        raise InputError(f"features {features!r}: expected {' or '.join(FEATURES)}")
    through = [name for name in names if name in recipes]
    needs = dict.fromkeys(need for name in through for need in recipes[name].look.needs)
    read = _random if features == "random" else _published
    built = build(through, {need: read(need) for need in needs}, recipes)
    metrics = {}
    for name in names:
        if name in METRICS:
            metrics[name] = METRICS[name]
        elif not recipes[name].look.needs:  # no weights, whose they could be
            metrics[name] = built[name]
        else:
            origin = _origin(recipes[name].look.needs, features)
            about = f"{built[name].about}; {origin}"
            shown = name + RANDOM if features == "random" else name
            metrics[shown] = built[name]._replace(about=about)
    return metrics


def _of_clips() -> dict[str, Recipe]:
    """What clips are measured with through networks."""
    return {**{name: NETWORK_METRICS[name] for name in groups()["perceptual"]}, **VIDEO_METRICS}


def notes(metrics: Mapping[str, Metric]) -> list[str]:
    """What a reader of these figures has to know."""
    marked = [name for name in metrics if name.endswith(RANDOM)]
    if not marked:
        return []
    return [
        f"Figures marked {RANDOM} were measured through networks with random weights, which were never trained: "
        "they are no published figures and compare with none."
    ]


def _check(names: Iterable[str], known: Mapping[str, Any]) -> None:
    for name in names:
        if name not in known:
            proposal = did_you_mean(name, known, ", did you mean {}?")
            raise InputError(f"there is no metric {name!r}{proposal}; there are {', '.join(known)}")


def _published(name: str) -> Any:
    return load(name, NETWORKS[name]) if name in NETWORKS else load_linear(name)


def _random(name: str) -> Any:
    """Linear weights that are equal: LPIPS is then a plain mean over channels."""
    if name in NETWORKS:
        return random_variables(NETWORKS[name], _SEED, NAMES[name].inputs)
    return tuple(np.full(width, 1 / width, np.float32) for width in LPIPS_WIDTHS[name])


def _origin(needs: Iterable[str], features: str) -> str:
    """Whose weights, for the protocol card."""
    if features == "random":
        return f"weights: random, seed {_SEED}, NO published figure"
    return "weights: " + ", ".join(FILES[need].file for need in needs)
