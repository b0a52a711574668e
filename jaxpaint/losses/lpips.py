"""LPIPS, version 0.1 (Zhang et al., arXiv 1801.03924, equation 1): a distance of deep features, learned from people.

The features of a network are brought to unit length over the channels at every position, their squared differences are
weighted channel by channel, and the means over positions are added up:

    d(x, y) = sum_l mean_hw sum_c w_lc (f_lc(x) / |f_l(x)| - f_lc(y) / |f_l(y)|)^2                                  (1)

Networks and weights are passed in: features at the `LPIPS_TAPS` of `jaxpaint.models.vgg` (VGG-16), ``alexnet`` or
``squeezenet``, each with ``normalise=lpips_scaling``, and the linear weights that belong to them
(`jaxpaint.convert.features.load_linear`). The three backbones give different numbers: name the backbone with every
figure. Pictures are compared whole and at full resolution.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxpaint.types import InputError

EPSILON = 1e-10
"""Added to a norm, outside the root, as in the released code."""


def lpips(first: Sequence[jax.Array], second: Sequence[jax.Array], linear: Sequence[jax.Array]) -> jax.Array:
    """The distance of each pair of pictures.

    Args:
      first, second: for every tap b h w c, the features of either picture
      linear: for every tap c weights, none of them negative

    Returns:
      b, float32: 0 for equal pictures; no upper bound
    """
    return jnp.sum(lpips_terms(first, second, linear), axis=1)


def lpips_terms(first: Sequence[jax.Array], second: Sequence[jax.Array], linear: Sequence[jax.Array]) -> jax.Array:
    """The terms of equation 1, one a tap: b taps, float32; arguments as for `lpips`."""
    return jnp.stack([jnp.mean(difference, axis=(1, 2)) for difference in _maps(first, second, linear)], axis=1)


def lpips_map(
    first: Sequence[jax.Array], second: Sequence[jax.Array], linear: Sequence[jax.Array], height: int, width: int
) -> jax.Array:
    """Where pictures differ: the terms before their means, each enlarged bilinearly (half-pixel centres), added up.

    Args:
      first, second, linear: as for `lpips`
      height, width: of the pictures

    Returns:
      b height width 1, float32
    """
    enlarged = [
        jax.image.resize(difference, (len(difference), height, width), "linear", antialias=False)
        for difference in _maps(first, second, linear)
    ]
    return jnp.sum(jnp.stack(enlarged), axis=0)[..., None]


def _maps(first, second, linear) -> list[jax.Array]:
    """For every tap b h w, weighted over channels, float32."""
    _check(first, second, linear)
    weights = [jnp.asarray(weight, jnp.float32) for weight in linear]
    # Products and sums, not a matrix product: on TPU that would round to bfloat16.
    return [
        jnp.sum(jnp.square(_unit(one) - _unit(two)) * weight, axis=-1)
        for one, two, weight in zip(first, second, weights, strict=True)
    ]


def _unit(features: jax.Array) -> jax.Array:
    """b h w c of length 1 over c; zero where all of them are zero, and with a gradient there."""
    features = features.astype(jnp.float32)
    squares = jnp.sum(jnp.square(features), axis=-1, keepdims=True)
    return features / (jnp.sqrt(jnp.maximum(squares, EPSILON**2)) + EPSILON)


def _check(first, second, linear) -> None:
    if not len(first) == len(second) == len(linear):
        raise InputError(
            f"LPIPS: {len(first)} and {len(second)} features and {len(linear)} linear weights: "
            "expected as many of each, one for every tap of the backbone"
        )
    for tap, (one, two, weight) in enumerate(zip(first, second, linear, strict=True)):
        if one.ndim != 4 or one.shape != two.shape or tuple(weight.shape) != one.shape[-1:]:
            raise InputError(
                f"LPIPS: at tap {tap} the features are {one.shape} and {two.shape}, the linear weights {weight.shape}: "
                "expected b h w c twice and c; features and weights of one backbone, pictures of one size"
            )
