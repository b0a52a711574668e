"""Losses of clips: structural similarity, and what holds a painted frame to the one before.

The terms of VINet's reference training file (Kim et al., CVPR 2019, arXiv 1905.01639), a pair of frames at a time; how
they are added up over a clip is the system page's (`jaxpaint.systems.vinet`). Flows are in pixels, (right, down), from
the frame that a term is about to the earlier one, and warps repeat the border. All terms are means over everything,
float32 scalars.

As published, the reference frame of `consistency` is warped truth, not what was painted before: a frame that is right
by itself is not held to one that is wrong. Whoever wants the other gives it as `source`.
"""

import math

import jax
import jax.numpy as jnp

from jaxpaint.losses.reconstruction import l1
from jaxpaint.ops.warp import warp

CONFIDENT = 0.02
"""Pixels whose squared colour error after the warp, summed over channels, is below this count in `flow_terms`."""


def ssim(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean structural similarity, at most 1, as pytorch_ssim has it and as training files of the field use it.

    A Gaussian window of 11x11, sigma 1.5, zeros around the picture, the mean over every pixel and channel. Its
    constants (0.01² and 0.03²) are for values of a range of 1; VINet feeds it [-1, 1], and so do we: the luminance term
    then compares signed means. For measuring there is `jaxpaint.metrics.ssim`.

    Args:
      prediction: b h w c
      target: b h w c
    """
    x, y = prediction.astype(jnp.float32), target.astype(jnp.float32)
    moments = _blurred(jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1))
    mean_x, mean_y, xx, yy, xy = jnp.split(moments, 5, axis=-1)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    return jnp.mean(luminance * structure)


def confidence(truth: jax.Array, warped: jax.Array) -> jax.Array:
    """How far a warped pixel is the same thing: ``exp(-50 (sum of differences)²)``, b h w c twice -> b h w 1.

    The square of the sum over channels, as released, not the sum of squares: what becomes redder and bluer alike,
    and greener by twice that, counts as the same.
    """
    return jnp.exp(-50.0 * jnp.square(jnp.sum(truth - warped, axis=-1, keepdims=True)))


def consistency(
    prediction: jax.Array,
    truth: jax.Array,
    truth_before: jax.Array,
    flow: jax.Array,
    source: jax.Array | None = None,
) -> jax.Array:
    """``mean |prediction - W(source)| confidence``: the short-term warping loss, and with an older frame the long-term.

    Args:
      prediction: b h w 3, what was painted
      truth: b h w 3, the frame as it is
      truth_before: b h w 3, the earlier frame as it is; where it, warped, is not the frame, nothing counts
      flow: b h w 2, from the frame to the earlier one
      source: b h w 3, what is warped and compared with; by default `truth_before`, as published
    """
    warped_truth = warp(truth_before, flow, outside="border")
    target = warped_truth if source is None else warp(jax.lax.stop_gradient(source), flow, outside="border")
    weight = confidence(truth, warped_truth)
    return l1(prediction * weight, target * weight)


def flow_terms(
    flow: jax.Array,
    wanted: jax.Array,
    prediction: jax.Array,
    before: jax.Array,
    truth: jax.Array,
    truth_before: jax.Array,
) -> dict[str, jax.Array]:
    """What a predicted flow to the frame before is held to, where the wanted flow explains the truth (`CONFIDENT`).

    Args:
      flow: b h w 2, predicted
      wanted: b h w 2, of a network or an estimator that nobody trains
      prediction: b h w 3, what was painted
      before: b h w 3, what was painted before
      truth, truth_before: b h w 3, the frames as they are

    Returns:
      ``flow``: to the wanted one; ``flow_colour``: of the truth warped by it to the truth; ``flow_output``: of what was
      painted to what was painted before, warped by it (which is not moved: neither flow nor frame gets a gradient).
    """
    error = jnp.sum(jnp.square(truth - warp(truth_before, wanted, outside="border")), axis=-1, keepdims=True)
    confident = (error < CONFIDENT).astype(jnp.float32)
    output = jax.lax.stop_gradient(warp(before, flow, outside="border"))
    return {
        "flow": l1(flow * confident, wanted * confident),
        "flow_colour": l1(warp(truth_before, flow, outside="border") * confident, truth * confident),
        "flow_output": l1(prediction * confident, output * confident),
    }


def _blurred(x: jax.Array) -> jax.Array:
    """Gaussian window averages of b h w c, zeros outside: a product with a banded matrix for each axis, whose gradient
    is one, too."""
    total = sum(math.exp(-0.5 * (tap / 1.5) ** 2) for tap in range(-5, 6))
    for axis, pattern in ((1, "b h w c, h i -> b i w c"), (2, "b h w c, w j -> b h j c")):
        place = jnp.arange(x.shape[axis])
        apart = (place[:, None] - place).astype(jnp.float32)
        matrix = jnp.where(jnp.abs(apart) <= 5, jnp.exp(-0.5 * (apart / 1.5) ** 2), 0.0) / total
        x = jnp.einsum(pattern, x, matrix, precision=jax.lax.Precision.HIGHEST)
    return x
