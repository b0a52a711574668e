"""VFID: the Frechet distance between clips as I3D sees them, one row of 1024 features a clip.

Two variants, whose figures have nothing to do with each other:

| id | the network's normalisations | it sees | published |
|---|---|---|---|
| `vfid` | stored statistics | [-1, 1], as it was trained | by nobody: what the figure should have been |
| `vfid.released` | the measured clip's own statistics | [0, 1] | STTN, FuseFormer, E2FGVI, ProPainter |

The published scripts never switch the network to evaluation: every clip is normalised by itself, which hides any
difference of brightness or contrast between result and original. Both variants take all frames of a clip at its own
size, and covariances divided by N - 1, and the distance of `jaxpaint.metrics.frechet`. The published scripts take the
square root of the covariances' product by scipy's ``sqrtm``, which is singular for fewer clips than 1024: for features
made up for 50 clips, a distance of 0.3748058 came out as 0.3748038. Their 1e-6 on the diagonals is for a root that is
not finite, which cannot be here.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.metrics.frechet import frechet_distance_of
from jaxpaint.metrics.metric import Metric
from jaxpaint.metrics.networks import Look, Recipe
from jaxpaint.metrics.rows import metric_of_rows
from jaxpaint.models.i3d import FEATURES, InceptionI3d
from jaxpaint.ops.pixels import from_uint8
from jaxpaint.types import InputError, PyTree

SMALLEST = 50
"""Clips below which VFID is refused: the smallest set that papers print it for is DAVIS with 50."""

ENOUGH = 10_000
"""Clips below which VFID is flagged, as FID is."""


def extractor(variables: PyTree, *, released: bool) -> Callable[[Sequence, Sequence, Sequence], dict[str, np.ndarray]]:
    """A function that measures clips for VFID.

    Args:
      variables: of `jaxpaint.models.i3d.InceptionI3d`
      released: as the published scripts do, see above

    Returns:
      ``measure(predictions, targets, masks)`` of uint8 clips t h w 3 and masks t h w 1, to "prediction" and "target",
      n 1024, float32. A clip is on the device whole, and compiled for once for every shape.
    """
    network = InceptionI3d(statistics="clip" if released else "stored")
    variables = jax.device_put(variables)

    @jax.jit
    def run(variables, clip):
        seen = clip.astype(jnp.float32) / 255 if released else from_uint8(clip)
        return network.apply(variables, seen[None])[0][0]

    def features(clip: np.ndarray) -> np.ndarray:
        # Accelerators round the factors of products to fewer bits by default: published figures are float32.
        with jax.default_matmul_precision("highest"):
            return np.asarray(run(variables, clip))

    last: dict[tuple, np.ndarray] = {}  # the targets of the last call, for they come again with another mask

    def measure(predictions, targets, masks):
        for clip in zip(predictions, targets, masks, strict=True):
            check_clips(*clip)
        if not len(predictions):
            return dict.fromkeys(("prediction", "target"), np.zeros((0, FEATURES), np.float32))
        keys = [(target.shape, hashlib.sha256(np.ascontiguousarray(target)).digest()) for target in targets]
        known = {}
        for key, target in zip(keys, targets, strict=True):
            if key not in known:
                known[key] = last[key] if key in last else features(target)
        last.clear()
        last.update(known)
        made = [features(prediction) for prediction in predictions]
        return {"prediction": np.stack(made), "target": np.stack([known[key] for key in keys])}

    return measure


def check_clips(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray) -> None:
    """InputError where a pair of clips and its masks do not belong together."""
    for name, clip in (("prediction", prediction), ("ground truth", target)):
        if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8:
            raise InputError(f"the {name} is {clip.dtype} {clip.shape}: expected a clip, uint8, t h w 3")
    if prediction.shape != target.shape:
        raise InputError(
            f"the prediction is a clip {prediction.shape} but the ground truth is {target.shape}: give the same "
            "frames at the same size"
        )
    if mask.shape != (*target.shape[:3], 1):
        raise InputError(f"masks {mask.shape} of a clip {target.shape}: expected {(*target.shape[:3], 1)}")


def vfid(measure: Callable, about: str) -> Metric:
    """VFID of predictions against targets; `measure` is an `extractor`'s."""

    def result(prediction, target):
        n = len(target)
        if n < SMALLEST:
            reason = (
                f"N = {n} clips: VFID is given for {SMALLEST} at least, and compares between papers at equal N alone"
            )
            return {"value": None, "reason": reason}
        shown = {"value": frechet_distance_of(prediction, target)}
        if n < ENOUGH:
            shown["flag"] = (
                f"N = {n} is below {ENOUGH:,} clips: VFID is biased upwards there, and compares with VFID of the same "
                "clips at the same size alone"
            )
        return shown

    return metric_of_rows(measure, ("prediction", "target"), result, about, better="lower")


def _recipe(released: bool, seen: str) -> Recipe:
    about = (
        "Frechet distance between clips, covariances divided by N - 1, mean of I3D's last block (1024 numbers a clip), "
        f"all frames at their own size, {seen}"
    )
    return Recipe(about, Look(("i3d_rgb_imagenet",), functools.partial(extractor, released=released)), vfid)


VFID_METRICS: dict[str, Recipe] = {
    "vfid": _recipe(False, "in [-1, 1], stored statistics: as I3D was trained; compares with no published figure"),
    "vfid.released": _recipe(
        True,
        "in [0, 1], normalised by the statistics of each clip itself: as the published scripts do (STTN, FuseFormer, "
        "E2FGVI, ProPainter)",
    ),
}
