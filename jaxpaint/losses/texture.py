"""Losses on texture: contextual loss and ID-MRF over features, total variation over pictures. All float32.

Contextual loss and ID-MRF ask of every feature of the target whether some place of the prediction is nearer to it than
to anything else: positions do not matter, variety does. With n places in the prediction and m in the target there are
n*m similarities a picture; they are made for a part of the prediction at a time, and again in the backward pass.
"""

import functools
from typing import Literal

import einops
import jax
import jax.numpy as jnp

from jaxpaint.types import InputError

SIMILARITIES = 2**22
"""At most so many similarities of one picture are in memory at a time (16 MiB each array)."""


def contextual_loss(
    prediction: jax.Array,
    target: jax.Array,
    bandwidth: float = 0.5,
    epsilon: float = 1e-5,
    centre: Literal["picture", "batch"] = "picture",
) -> jax.Array:
    """Contextual loss (Mechrez et al., arXiv 1803.02077, section 3), the mean over pictures.

    With x_i of the prediction, y_j of the target, both less the target's mean over its places::

        d_ij = 1 - cos(x_i, y_j)
        d~_ij = d_ij / (min_k d_ik + epsilon)
        CX_ij = exp((1 - d~_ij) / bandwidth) / Σ_k exp((1 - d~_ik) / bandwidth)
        loss = -log( mean_j max_i CX_ij )

    Args:
      prediction: b h w c
      target: b h' w' c
      bandwidth: h of the paper, 0.5 there; smaller is sharper
      epsilon: against a division by zero
      centre: the target's mean is that of each picture, or of the whole batch (IIVI's released code)

    Raises:
      InputError: other numbers of pictures or channels.
    """
    _check("contextual loss", prediction, target)
    if centre not in ("picture", "batch"):
        raise InputError(f"contextual loss: centre={centre!r}: expected 'picture' or 'batch'")
    return jnp.mean(_mismatch(prediction, target, bandwidth, epsilon, centre=centre))


def id_mrf(
    prediction: jax.Array, target: jax.Array, patch: int = 1, bandwidth: float = 0.5, epsilon: float = 1e-5
) -> jax.Array:
    """Implicit diversified Markov random field term of one layer (Wang et al., NeurIPS 2018, arXiv 1810.08771).

    The released code, which this follows, is a contextual loss over patches of one place, with
    ``d_ij = (1 - cos(x_i, y_j)) / 2``; its centre is the mean over the batch, here each picture has its own. In the
    paper similarities are divided by the largest one, ``exp(cos / (max cos + e) / h)``, and the nearest patch itself is
    left out of that maximum. In both a target patch counts as found only where it is what a place of the prediction is
    nearest to.

    GMCNN: VGG-19 conv4_2 once as content, conv3_2 and conv4_2 as style, together times 0.05. VCNet: conv3_2.

    Args:
      prediction: b h w c, features
      target: b h' w' c, features of the true picture
      patch: side of the square patches, which lie entirely in the maps; the mean is taken off before they are cut
      bandwidth: h of the paper
      epsilon: against a division by zero

    Raises:
      InputError: other numbers of pictures or channels; a map smaller than a patch.
    """
    _check("ID-MRF", prediction, target)
    if min(*prediction.shape[1:3], *target.shape[1:3]) < patch:
        raise InputError(
            f"ID-MRF: maps of {prediction.shape[1:3]} and {target.shape[1:3]} hold no patch of {patch}x{patch}: take a "
            "layer with larger maps, or smaller patches"
        )
    # (1 - cos) / 2 over its minimum + e is 1 - cos over its minimum + 2 e.
    return jnp.mean(_mismatch(prediction, target, bandwidth, 2 * epsilon, patch))


def total_variation(image: jax.Array) -> jax.Array:
    """``mean |x[i+1, j] - x[i, j]| + mean |x[i, j+1] - x[i, j]|`` over the whole picture, b h w c."""
    down, across = _differences(image)
    return jnp.mean(jnp.abs(down)) + jnp.mean(jnp.abs(across))


def total_variation_of_rim(image: jax.Array, mask: jax.Array) -> jax.Array:
    """Total variation over the hole and the pixels that touch it (Liu et al., arXiv 1804.07723, section 3.3).

    ``Σ_R |x[i+1, j] - x[i, j]| / N + Σ_R |x[i, j+1] - x[i, j]| / N``: both pixels in R, the hole grown by one pixel in
    all eight directions; N = b h w c, of the whole picture.

    Args:
      image: b h w c, composited: known pixels outside the hole
      mask: b h w 1, 1 = hole
    """
    region = jax.lax.reduce_window(mask.astype(jnp.float32), -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    down, across = _differences(image)
    inside_down = region[:, 1:] * region[:, :-1]
    inside_across = region[:, :, 1:] * region[:, :, :-1]
    return (jnp.sum(jnp.abs(down) * inside_down) + jnp.sum(jnp.abs(across) * inside_across)) / image.size


def _differences(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """To the pixel below and to the one on the right, float32."""
    image = image.astype(jnp.float32)
    return image[:, 1:] - image[:, :-1], image[:, :, 1:] - image[:, :, :-1]


def _mismatch(
    x: jax.Array, y: jax.Array, bandwidth: float, epsilon: float, patch: int = 1, centre: str = "picture"
) -> jax.Array:
    """-log of the mean over the target of the largest contextual similarity: b h w c, b h' w' c -> b."""
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    mean = jnp.mean(y, axis=(0, 1, 2) if centre == "batch" else (1, 2), keepdims=True)
    x, y = _unit(_patches(x - mean, patch)), _unit(_patches(y - mean, patch))
    places = x.shape[1]
    rows = max(1, min(places, SIMILARITIES // y.shape[1]))
    # The last part is filled with copies of the last place: they change no maximum.
    x = jnp.pad(x, ((0, 0), (0, -places % rows), (0, 0)), mode="edge")
    parts = einops.rearrange(x, "b (q n) c -> q b n c", n=rows)
    best = functools.partial(_best, y=y, bandwidth=bandwidth, epsilon=epsilon)
    found = jnp.max(jax.lax.map(jax.checkpoint(best), parts), axis=0)
    return -jnp.log(jnp.mean(found, axis=-1))


def _best(x: jax.Array, *, y: jax.Array, bandwidth: float, epsilon: float) -> jax.Array:
    """The largest similarity that each place of y has with places of x: unit rows b n c, b m c -> b m."""
    distance = 1 - jnp.einsum("b n c, b m c -> b n m", x, y, precision="highest")
    distance = jnp.maximum(distance, 0)  # rounding: a feature with itself
    relative = distance / (jnp.min(distance, axis=-1, keepdims=True) + epsilon)
    return jnp.max(jax.nn.softmax((1 - relative) / bandwidth, axis=-1), axis=1)


def _patches(x: jax.Array, side: int) -> jax.Array:
    """All patches that lie in the map: b h w c -> b n side*side*c."""
    height, width = x.shape[1] - side + 1, x.shape[2] - side + 1
    shifted = [x[:, i : i + height, j : j + width] for i in range(side) for j in range(side)]
    return einops.rearrange(jnp.concatenate(shifted, axis=-1), "b h w c -> b (h w) c")


def _unit(x: jax.Array) -> jax.Array:
    # The maximum is inside: the slope of a root at zero is infinite.
    return x / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-24))


def _check(loss: str, prediction: jax.Array, target: jax.Array) -> None:
    if (prediction.shape[0], prediction.shape[-1]) != (target.shape[0], target.shape[-1]):
        raise InputError(
            f"{loss}: features {prediction.shape} of the prediction and {target.shape} of the target: pictures (first) "
            "and channels (last) must be as many"
        )
