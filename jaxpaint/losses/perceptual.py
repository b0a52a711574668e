"""Losses over features that a network made: perceptual, style, feature matching. Networks are the caller's.

Features come as ``{name: b h w c}``, as networks give their intermediates; `weights` says which count, and how much:
``{"relu1_1": 1.0, …}``. Each term is a mean over its elements, float32, so weights do not hang on sizes. Gradients flow
into both arguments: where the target's should not, ``jax.lax.stop_gradient`` it (`feature_matching` does).
"""

from collections.abc import Callable, Mapping

import einops
import jax
import jax.numpy as jnp

from jaxpaint.types import InputError, did_you_mean

Features = Mapping[str, jax.Array]


def perceptual(
    prediction: Features,
    target: Features,
    weights: Mapping[str, float],
    difference: Callable[[jax.Array], jax.Array] = jnp.abs,
) -> jax.Array:
    """``Σ_k w_k mean f(φ_k(prediction) - φ_k(target))`` (Johnson et al., arXiv 1603.08155, eq. 2, there with squares).

    Absolute differences, the default, are those of Partial Convolutions (VGG-16 pool1 to pool3) and of EdgeConnect
    (VGG-19 relu1_1 to relu5_1).

    Args:
      prediction: {name: b h w c}
      target: the same shapes
      weights: {name: weight}
      difference: ``jnp.abs`` or ``jnp.square``

    Raises:
      InputError: a feature is missing, or the two have different shapes.
    """
    terms = []
    for name, weight in weights.items():
        mine, theirs = _pair(prediction, target, name)
        if mine.shape != theirs.shape:
            raise InputError(
                f"perceptual loss: {name} is {mine.shape} of the prediction and {theirs.shape} of the target: "
                "both must come from pictures of one size"
            )
        terms.append(weight * jnp.mean(difference(mine - theirs)))
    return sum(terms, jnp.float32(0))


def gram(features: jax.Array) -> jax.Array:
    """``F Fᵀ / (h w c)``, b h w c -> b c c, float32 (Gatys et al. 2016, as Johnson et al. normalise it, eq. 3)."""
    _, height, width, channels = features.shape
    rows = einops.rearrange(features.astype(jnp.float32), "b h w c -> b (h w) c")
    # "highest": with a TPU's default of bfloat16 products the difference of two near matrices would be noise.
    products = jnp.einsum("b n c, b n d -> b c d", rows, rows, precision="highest")
    return products / (height * width * channels)


def style(
    prediction: Features,
    target: Features,
    weights: Mapping[str, float],
    difference: Callable[[jax.Array], jax.Array] = jnp.abs,
) -> jax.Array:
    """``Σ_k w_k mean f(gram(φ_k(prediction)) - gram(φ_k(target)))``, the mean over c x c.

    Absolute differences are those of Partial Convolutions (whose 1/C² is the mean; weight 120) and EdgeConnect (250);
    Gatys et al. square. The two sizes may differ.

    Args and errors as `perceptual`; only the numbers of pictures and channels must be the same.
    """
    terms = []
    for name, weight in weights.items():
        mine, theirs = _pair(prediction, target, name)
        if (mine.shape[0], mine.shape[-1]) != (theirs.shape[0], theirs.shape[-1]):
            raise InputError(
                f"style loss: {name} is {mine.shape} of the prediction and {theirs.shape} of the target: pictures "
                "(first) and channels (last) must be as many"
            )
        terms.append(weight * jnp.mean(difference(gram(mine) - gram(theirs))))
    return sum(terms, jnp.float32(0))


def feature_matching(
    fake: Features,
    real: Features,
    weights: Mapping[str, float],
    difference: Callable[[jax.Array], jax.Array] = jnp.abs,
) -> jax.Array:
    """`perceptual` over a discriminator's own features, those of the real picture being constants.

    ``Σ_k w_k mean |D_k(fake) - D_k(real)|`` (Wang et al., arXiv 1711.11585, eq. 4). EdgeConnect sums conv1 to conv5 of
    `jaxpaint.models.discriminators.PatchGAN`, logits included, with weight 10 in all.
    """
    constant = {name: jax.lax.stop_gradient(real[name]) for name in weights if name in real}
    return perceptual(fake, constant, weights, difference)


def _pair(prediction: Features, target: Features, name: str) -> tuple[jax.Array, jax.Array]:
    """The two features of a name, float32."""
    for side, features in (("prediction", prediction), ("target", target)):
        if name not in features:
            raise InputError(
                f"the {side} has no feature {name!r}{did_you_mean(name, features)} (there are: "
                f"{', '.join(features) or 'none'})"
            )
    return prediction[name].astype(jnp.float32), target[name].astype(jnp.float32)
