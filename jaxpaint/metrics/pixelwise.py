"""Metrics that compare pixel with pixel: L1, L2, PSNR, and the ratio that some papers print as L1.

Functions of one picture: ``prediction``, ``target`` h w 3, floats in 0..255; ``hole``, ``inside`` h w bool
(see `jaxpaint.metrics.metric.picture_metric`). The whole picture is every pixel inside; the hole is its hole
pixels alone, over all channels. Known pixels of a composited picture are equal, so the whole-picture L1 is
the hole L1 times the share of the hole: the two differ tenfold on small holes, and papers print either.
"""

import jax
import jax.numpy as jnp

GREY = (0.2125, 0.7154, 0.0721)  # the luma weights that scikit-image, and so EdgeConnect's script, use


def mean_over(values: jax.Array, where: jax.Array) -> jax.Array:
    """The mean of ``values`` (h w c) over the pixels where ``where`` (h w bool) holds; NaN where none does."""
    count = where.sum() * values.shape[2]
    total = jnp.where(where[..., None], values, 0.0).sum()
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def by_region(values: jax.Array, hole: jax.Array, inside: jax.Array) -> dict[str, jax.Array]:
    """`mean_over` the whole picture and over the hole."""
    return {"whole": mean_over(values, inside), "hole": mean_over(values, hole & inside)}


def grey(image: jax.Array) -> jax.Array:
    """h w 3 to h w 1."""
    return (image * jnp.asarray(GREY, image.dtype)).sum(-1, keepdims=True)


def l1(prediction, target, hole, inside):
    """Mean absolute error in the [0, 1] range."""
    return by_region(jnp.abs(prediction - target) / 255.0, hole, inside)


def l2(prediction, target, hole, inside):
    """Mean squared error in the [0, 1] range."""
    return by_region(jnp.square((prediction - target) / 255.0), hole, inside)


def psnr(prediction, target, hole, inside):
    """``10 log10(255^2 / mse)`` in dB, the mean squared error taken over all channels; inf where it is 0."""
    mse = by_region(jnp.square(prediction - target), hole, inside)
    return {region: 10.0 * (jnp.log10(255.0**2) - jnp.log10(value)) for region, value in mse.items()}


def psnr_grey(prediction, target, hole, inside):
    """`psnr` on grey pictures, as EdgeConnect's script reports it: higher than on colour."""
    return psnr(grey(prediction), grey(target), hole, inside)


def absolute_ratio(prediction, target, hole, inside):
    """``sum |a - b| / sum (a + b)``: what EdgeConnect's and AOT-GAN's scripts call MAE. Not a mean error.

    NaN where both pictures are black all over the region.
    """
    difference = by_region(jnp.abs(prediction - target), hole, inside)
    both = by_region(prediction + target, hole, inside)
    return {region: difference[region] / both[region] for region in difference}


def absolute_ratio_grey(prediction, target, hole, inside):
    """`absolute_ratio` on grey pictures (EdgeConnect); on colour it is AOT-GAN's."""
    return absolute_ratio(grey(prediction), grey(target), hole, inside)
