"""Which figures a report has: from the names on the command line to metrics that are ready to measure.

Metrics that look through a network need its weights: published files from the folder of weights
(`jaxpaint.io.pretrained`), each read once. ``features="random"`` takes weights that were never trained, for trying
things out where the files are not at hand; nothing does so unless told to, and every name then says
``[random features]``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxpaint.convert.features import LPIPS_WIDTHS, load, load_linear
from jaxpaint.io.pretrained import FILES
from jaxpaint.metrics import METRICS, STANDARD, Metric
from jaxpaint.metrics.networks import NETWORK_METRICS, NETWORKS, build
from jaxpaint.models.features import random_variables
from jaxpaint.types import InputError, did_you_mean

FEATURES = ("published", "random")

RANDOM = "[random features]"
"""What the name of every figure ends with that was measured through a network that was never trained."""

_SEED = 0
_ALWAYS = "outside_max_abs_diff"


def groups() -> dict[str, tuple[str, ...]]:
    """The names that stand for several metrics."""
    perceptual = tuple(name for name in NETWORK_METRICS if name.startswith("lpips."))
    return {
        "standard": STANDARD,
        "all": tuple(METRICS),
        "perceptual": perceptual,
        "distribution": tuple(name for name in NETWORK_METRICS if name not in perceptual),
    }


def chosen(text: str) -> tuple[str, ...]:
    """``standard,lpips.alex`` to the ids of metrics; `outside_max_abs_diff` is always among them."""
    known = groups()
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"--metrics {text!r} names no metric: give ids, or {', '.join(known)}")
    ids = [name for part in names for name in known.get(part, (part,))]
    _check(ids, {**known, **METRICS, **NETWORK_METRICS})
    return tuple(dict.fromkeys([_ALWAYS, *ids]))


def figures(names: Iterable[str] = STANDARD, features: str = "published") -> dict[str, Metric]:
    """Metrics by id, ready to measure.

    Args:
      names: ids of `METRICS` and `NETWORK_METRICS`
      features: of networks: "published", or "random", whose ids end with `RANDOM`

    Raises:
      InputError: there is no such metric; a file of weights is missing or is not the published one.
    """
    names = tuple(dict.fromkeys(names))
    _check(names, {**METRICS, **NETWORK_METRICS})
    if features not in FEATURES:
        raise InputError(f"features {features!r}: expected {' or '.join(FEATURES)}")
    through = [name for name in names if name in NETWORK_METRICS]
    needs = dict.fromkeys(need for name in through for need in NETWORK_METRICS[name].look.needs)
    read = _random if features == "random" else _published
    built = build(through, {need: read(need) for need in needs})
    metrics = {}
    for name in names:
        if name in METRICS:
            metrics[name] = METRICS[name]
        else:
            origin = _origin(NETWORK_METRICS[name].look.needs, features)
            about = f"{built[name].about}; {origin}"
            shown = name + RANDOM if features == "random" else name
            metrics[shown] = built[name]._replace(about=about)
    return metrics


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
        return random_variables(NETWORKS[name], _SEED)
    return tuple(np.full(width, 1 / width, np.float32) for width in LPIPS_WIDTHS[name])


def _origin(needs: Iterable[str], features: str) -> str:
    """Whose weights, for the protocol card."""
    if features == "random":
        return f"weights: random, seed {_SEED}, NO published figure"
    return "weights: " + ", ".join(FILES[need].file for need in needs)
