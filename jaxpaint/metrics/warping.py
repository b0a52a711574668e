"""E_warp, the temporal warping error: what flickers, or does not move with the scene.

Lai et al., Learning Blind Video Temporal Consistency (ECCV 2018, arXiv 1808.00449), as in their code. For
frames O_t and O_t+1 of a result and the flows between the frames of the *original* clip, F from t to t+1 and B back:

    W = O_t+1 read where F points to, bilinear, the border repeated                  (1)
    M = 0 where F and B contradict each other or F changes abruptly, otherwise 1     (2)
    error of the pair = sum of (M (W - O_t))² / (3 sum of M), frames in [0, 1]       (3)

(2) is `jaxpaint.ops.warp.occluded`. A pair in which M is 0 everywhere has error 0, as in the code. The error of a video
is the mean over its pairs, that of a set the mean over videos. Papers print it times 100 (E2FGVI) or times 1000
(ProPainter); here it is as it is. The flow decides the figure with the frames: Lai's is FlowNet2's, ours is passed in,
and two figures compare only if theirs is the same.

Regions: the whole is (3); the hole, our own definition, is (3) over pixels in the hole of frame t alone. Where it has
none that M leaves, there is no value (NaN), and the mean is over the other pairs.

float64 throughout, as all metrics here: see `jaxpaint.metrics.metric`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.metrics.metric import EMPTY, Metric, mean_of_pictures
from jaxpaint.metrics.networks import NETWORKS, Look, Recipe
from jaxpaint.models import raft
from jaxpaint.ops import flow as tvl1
from jaxpaint.ops.pixels import from_uint8
from jaxpaint.ops.warp import occluded, warp
from jaxpaint.types import InputError, PyTree

FlowBothWays = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""``(first, second) -> (forward, backward)``: b h w 3 in [-1, 1] to b h w 2, (right, down) in pixels. Pure JAX."""


def pair_error(
    frame: jax.Array, following: jax.Array, flow: jax.Array, back: jax.Array, hole: jax.Array
) -> dict[str, jax.Array]:
    """The error of one pair, (3), in both regions. Pure JAX.

    Args:
      frame, following: h w 3, floats in [0, 1], of the result
      flow: h w 2, from the first frame to the second, (right, down) in pixels, of the original clip
      back: h w 2, from the second frame to the first
      hole: h w 1, 1 = hole of the first frame

    Returns:
      {"whole": scalar, "hole": scalar or NaN}
    """
    flow, back = flow[None], back[None]
    warped = warp(following[None], flow, outside="border")[0]
    seen = ~occluded(flow, back)[0]
    squares = jnp.square(warped - frame)
    in_hole = _mean(squares, seen & (hole > 0))
    return {"whole": jnp.where(seen.any(), _mean(squares, seen), 0.0), "hole": in_hole}


def pair_errors(
    frames: np.ndarray, forward: np.ndarray, backward: np.ndarray, masks: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The error of every pair of a video.

    Args:
      frames: t h w 3, uint8, of the result; t is 2 at least
      forward: t-1 h w 2, flow from frame t to t+1 of the original clip, (right, down) in pixels
      backward: t-1 h w 2, flow from frame t+1 to t
      masks: t h w 1, 1 = hole; None: no hole

    Returns:
      {"whole": t-1, "hole": t-1}, float64; NaN in "hole" where nothing of it can be measured
    """
    _check(frames, forward, backward, masks)
    if masks is None:
        masks = np.zeros((*frames.shape[:3], 1), np.uint8)
    with jax.enable_x64(True):
        pending = [
            _compiled(frames[i], frames[i + 1], forward[i], backward[i], masks[i]) for i in range(len(frames) - 1)
        ]
        measured = jax.device_get(pending)
    return {region: np.array([pair[region] for pair in measured]) for region in ("whole", "hole")}


def video_error(errors: dict[str, np.ndarray]) -> dict[str, float]:
    """The error of a video from those of its pairs: their mean; NaN for a region that no pair has a value for."""
    means = {}
    for region, values in errors.items():
        there = values[~np.isnan(values)]
        means[region] = float(there.mean()) if there.size else float("nan")
    return means


def looking(flow: FlowBothWays) -> Callable:
    """The `measure` of a `Metric` of clips: E_warp of every clip, ``{"whole": [...], "hole": [...]}``.

    The flow is that of the targets, pair by pair: two frames are on the device.
    """

    @jax.jit
    def both(first, second):
        forward, backward = flow(from_uint8(first)[None], from_uint8(second)[None])
        return forward.astype(jnp.float32), backward.astype(jnp.float32)

    def of_clip(result: np.ndarray, target: np.ndarray, masks: np.ndarray) -> dict[str, float]:
        _check_count(result)
        pairs = []
        for i in range(len(result) - 1):
            with jax.default_matmul_precision("highest"):  # accelerators round the factors of products otherwise
                forward, backward = jax.device_get(both(target[i], target[i + 1]))
            if not (np.isfinite(forward).all() and np.isfinite(backward).all()):
                raise InputError(
                    f"warping error: the flow between frames {i} and {i + 1} is not finite: its network's weights are "
                    "broken, or precision is too low"
                )
            pairs.append(pair_errors(result[i : i + 2], forward, backward, masks[i : i + 2]))
        return video_error({region: np.concatenate([pair[region] for pair in pairs]) for region in ("whole", "hole")})

    def measure(predictions, targets, masks):
        rows = [of_clip(*clip) for clip in zip(predictions, targets, masks, strict=True)]
        return {
            region: [EMPTY if np.isnan(row[region]) else row[region] for row in rows] for region in ("whole", "hole")
        }

    return measure


def warping_metric(measure: Callable, about: str) -> Metric:
    """The mean over clips of what `looking` measures."""
    return mean_of_pictures(measure, about=about, better="lower")


def _look_by_raft(variables: PyTree) -> Callable:
    network, variables = NETWORKS["raft_things"], jax.device_put(variables)
    return looking(lambda first, second: raft.flow_both_ways(network, variables, first, second))


def _recipe(flow: str, look: Look) -> Recipe:
    about = (
        "mean squared difference in [0, 1] between a frame and the next one, warped to it, where not occluded (Lai et "
        f"al.), not multiplied by 100 or 1000; flow of the original frames by {flow}; mean over the pairs of a clip, "
        "then over clips; hole (our own definition): hole pixels of the first of a pair alone"
    )
    return Recipe(about, look, warping_metric)


WARPING_METRICS: dict[str, Recipe] = {
    "ewarp": _recipe("RAFT, 20 iterations", Look(("raft_things",), _look_by_raft)),
    "ewarp[tvl1]": _recipe(
        "TV-L1, which needs no weights (jaxpaint.ops.flow)", Look((), lambda: looking(tvl1.flow_both_ways))
    ),
}
"""By the flow: figures compare only where it is the same."""


@jax.jit
def _compiled(frame, following, flow, back, hole):
    frame, following = (jnp.asarray(x, jnp.float64) / 255 for x in (frame, following))
    return pair_error(frame, following, jnp.asarray(flow, jnp.float64), jnp.asarray(back, jnp.float64), hole)


def _mean(values: jax.Array, where: jax.Array) -> jax.Array:
    """The mean of h w c over the pixels where h w 1 holds, NaN where none does."""
    return jnp.sum(jnp.where(where, values, 0.0)) / (where.sum() * values.shape[-1])


def _check_count(frames: np.ndarray) -> None:
    if len(frames) < 2:
        raise InputError("warping error: the clip has one frame, and the error is of pairs: give two frames at least")


def _check(frames: np.ndarray, forward: np.ndarray, backward: np.ndarray, masks: np.ndarray | None) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise InputError(f"warping error: frames {frames.dtype} {frames.shape}: expected uint8, t h w 3")
    _check_count(frames)
    flows = (len(frames) - 1, *frames.shape[1:3], 2)
    for name, flow in (("forward", forward), ("backward", backward)):
        if flow.shape != flows:
            raise InputError(
                f"warping error: the {name} flow is {flow.shape}, frames are {frames.shape}: expected {flows}, one "
                "for each pair of neighbours, at the size of the frames"
            )
    if masks is not None and masks.shape != (*frames.shape[:3], 1):
        raise InputError(
            f"warping error: masks {masks.shape}, frames {frames.shape}: expected a mask a frame, "
            f"{(*frames.shape[:3], 1)}"
        )
