"""Losses that compare a picture with the truth. Float32 scalars, whatever type comes in.

Values are in [-1, 1], twice the scale of the papers that use [0, 1]: their L1 is half of what it is here.
"""

from collections.abc import Callable, Sequence

import einops
import jax
import jax.numpy as jnp

from jaxpaint.types import InputError

Difference = Callable[[jax.Array], jax.Array]
"""What is done to ``prediction - target`` before the mean: ``jnp.abs`` for L1, ``jnp.square`` for L2."""


def l1(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean absolute difference over everything, float32: the scale is that of the values, [-1, 1] gives up to 2."""
    return jnp.mean(jnp.abs(_minus(prediction, target)))


def l2(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared difference over everything, float32."""
    return jnp.mean(jnp.square(_minus(prediction, target)))


def hole_and_known(
    prediction: jax.Array, target: jax.Array, mask: jax.Array, difference: Difference = jnp.abs
) -> tuple[jax.Array, jax.Array]:
    """Two terms, each divided by the size of the whole picture, ``Σ_R f(p - t) / N`` (N = b h w c).

    So a large hole counts more. Partial Convolutions (Liu et al., arXiv 1804.07723, section 3.3; weights 6 and 1) and
    RFR; GLCIC-PyTorch with squares and the hole alone.

    Args:
      prediction: b h w c
      target: b h w c
      mask: b h w 1, 1 = hole
      difference: ``jnp.abs`` or ``jnp.square``

    Returns:
      (in the hole, outside)
    """
    each, mask = difference(_minus(prediction, target)), mask.astype(jnp.float32)
    return jnp.mean(each * mask), jnp.mean(each * (1 - mask))


def hole_and_known_by_area(
    prediction: jax.Array, target: jax.Array, mask: jax.Array, difference: Difference = jnp.abs
) -> tuple[jax.Array, jax.Array]:
    """Two terms, each divided by the size of its own region, ``Σ_R f(p - t) / (c |R|)``.

    So every hole counts the same. STTN (arXiv 2007.10247) and the video papers after it, with
    weights 1 and 1. |R| is counted over the whole batch, as there; a region that is empty in all of it gives 0.

    Args and returns as `hole_and_known`.
    """
    hole, known = hole_and_known(prediction, target, mask, difference)
    share_of_hole, share_of_known = jnp.mean(mask == 1), jnp.mean(mask == 0)
    one_pixel = 1 / mask.size  # the smallest share that is not zero; below it, the term itself is zero
    return hole / jnp.maximum(share_of_hole, one_pixel), known / jnp.maximum(share_of_known, one_pixel)


def border_distance(mask: jax.Array) -> jax.Array:
    """How far a pixel of the hole is from the nearest known one; 0 for known pixels.

    Counted in steps to one of the four neighbours, so a hole's outermost pixels have 1. In a rectangle this is the
    Euclidean distance too: the nearest known pixel is straight across an edge. Outside the picture nothing is known;
    without any known pixel the distance is h + w.

    Args:
      mask: b h w 1, 1 = hole

    Returns:
      b h w 1, float32
    """
    height, width = mask.shape[1:3]
    distance = jnp.where(mask > 0.5, float(height + width), 0.0)
    for axis in (1, 2):
        # min over x' of d(x') + |x - x'|, from both sides: |x - x'| is a difference that leaves the minimum.
        place = jnp.arange(mask.shape[axis], dtype=jnp.float32)
        place = jnp.expand_dims(place, [other for other in range(4) if other != axis])
        before = jax.lax.cummin(distance - place, axis) + place
        after = jax.lax.cummin(distance + place, axis, reverse=True) - place
        distance = jnp.minimum(before, after)
    return distance


def discounted_l1(prediction: jax.Array, target: jax.Array, mask: jax.Array, gamma: float = 0.99) -> jax.Array:
    """L1 in the hole, ``Σ γ^l |p - t| / (c |hole|)``, l the distance to the nearest known pixel.

    Spatially discounted reconstruction (Yu et al., arXiv 1801.07892, section 3): deep in the hole many fillings are
    as good as the true one. `border_distance` says how l is counted; the released code, for one rectangle, counts from
    0 at its upper and left edges. Divided as `hole_and_known_by_area`, over the batch.

    Args:
      prediction: b h w c
      target: b h w c
      mask: b h w 1, 1 = hole
      gamma: 0.99 in the paper
    """
    weight = gamma ** border_distance(mask)

    def discounted(difference):
        return weight * jnp.abs(difference)

    hole, _ = hole_and_known_by_area(prediction, target, mask, discounted)
    return hole


def multi_scale(
    loss: Callable[[jax.Array, jax.Array], jax.Array], predictions: Sequence[jax.Array], target: jax.Array
) -> jax.Array:
    """``Σ_s loss(prediction_s, target at its size)``, for networks that make a picture at several scales.

    The target is averaged over blocks, which for a halving is bilinear resizing too. PEN-Net's pyramid L1
    (arXiv 1904.07475), PIC.

    Args:
      loss: (b h' w' c, b h' w' c) -> scalar, such as `l1`
      predictions: each b h/s w/s c, s a whole number
      target: b h w c

    Raises:
      InputError: a prediction's size does not divide the target's.
    """
    total = jnp.float32(0)
    for prediction in predictions:
        height, width = prediction.shape[1:3]
        scale = target.shape[1] // height
        if (height * scale, width * scale) != target.shape[1:3]:
            raise InputError(
                f"multi-scale loss: a prediction is {height}x{width}, the target {target.shape[1]}x{target.shape[2]}: "
                "both sides must be the same whole number of times larger"
            )
        blocks = target.astype(jnp.float32)
        blocks = einops.reduce(blocks, "b (h p) (w q) c -> b h w c", "mean", p=scale, q=scale)
        total += loss(prediction, blocks)
    return total


def _minus(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return prediction.astype(jnp.float32) - target.astype(jnp.float32)
