"""Losses of learning from one clip (IIVI, Ouyang et al., arXiv 2108.01912): reconstruction and two regularisers.

In a step a network sees frames from which two masks were taken away: the frame's own hole, behind which nothing is
known, and a borrowed one, behind which everything is (`jaxpaint.ops.internal`). All terms are means over all pixels
and channels, those of the holes included: float32 scalars. Weights in the paper's second phase: reconstruction of both
stages 1, stabilisation of both 0.2, ambiguity of the final one 0.1.
"""

import einops
import jax
import jax.numpy as jnp

from jaxpaint.losses.reconstruction import hole_and_known
from jaxpaint.losses.texture import contextual_loss
from jaxpaint.types import InputError


def known_l1(prediction: jax.Array, frame: jax.Array, own: jax.Array) -> jax.Array:
    """``mean |frame - prediction| (1 - own)``: also where a borrowed mask hid the frame from the network.

    Args:
      prediction: b h w 3, of either stage
      frame: b h w 3
      own: b h w 1, the frame's own hole; soft edges count in part
    """
    _, known = hole_and_known(prediction, frame, own)
    return known


def stabilisation(
    prediction: jax.Array,
    prediction_moved: jax.Array,
    frame: jax.Array,
    frame_moved: jax.Array,
    own: jax.Array,
    own_moved: jax.Array,
) -> jax.Array:
    """``mean |(f(T x) - f(x)) - (T y - y)| (1 - (own or T own))``: outputs have to differ as the true frames do.

    The released code's form: no output is warped, and pixels that T brings in from outside the frame are 0 and count.

    Args:
      prediction: b h w 3, f(x), of either stage
      prediction_moved: f(T x), the network's output for moved frames under moved masks
      frame: b h w 3, y
      frame_moved: T y (`jaxpaint.ops.projective.project`, bilinear)
      own: b h w 1, the frame's own hole: whatever is not 0
      own_moved: T own (nearest)
    """
    unknown = (own != 0) | (own_moved != 0)
    change = prediction_moved.astype(jnp.float32) - prediction.astype(jnp.float32)
    return known_l1(change, frame_moved.astype(jnp.float32) - frame.astype(jnp.float32), unknown)


def ambiguity_pair(prediction: jax.Array, frame: jax.Array, own: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What the anti-ambiguity term compares: every output with the frame at the other end of the batch.

    Both are 0 in the own hole of that frame, where its content is not known.

    Args:
      prediction: b h w 3, final stage
      frame: b h w 3
      own: b h w 1, the frames' own holes

    Returns:
      (b h w 3, b h w 3), pictures in [-1, 1] for the feature network
    """
    known = 1 - own[::-1].astype(jnp.float32)
    return prediction * known, frame[::-1] * known


def anti_ambiguity(
    prediction: jax.Array, target: jax.Array, bandwidth: float = 0.5, epsilon: float = 1e-5
) -> jax.Array:
    """Contextual loss between the features of the two pictures of `ambiguity_pair`.

    Texture of another frame has to appear somewhere: an average of several contents, which an L1 loss likes, is like
    none of them. With d of `cosine_distances`, pictures by themselves::

        CX_ij = exp((1 - d_ij / (min_k d_ik + epsilon)) / bandwidth) / Σ_k exp(…_ik)
        loss = -log( mean_j max_i CX_ij ), the mean over pictures

    That is `jaxpaint.losses.texture.contextual_loss`, but for the centre: the mean over the whole batch, as in the
    released code.

    Args:
      prediction: b h w c, features (VGG-19's relu4_2)
      target: b h' w' c
      bandwidth: 0.5 as released
      epsilon: against a division by zero

    Raises:
      InputError: other numbers of pictures or channels.
    """
    return contextual_loss(prediction, target, bandwidth, epsilon, centre="batch")


def cosine_distances(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """``1 - cos(x_i - m, y_j - m)`` with m the target's mean over the batch and all places.

    Args:
      prediction: b h w c
      target: b h' w' c

    Returns:
      b (h w) (h' w'), float32, from 0 to 2

    Raises:
      InputError: other numbers of pictures or channels.
    """
    return jax.vmap(_distances)(*_directions(prediction, target))


def _distances(x: jax.Array, y: jax.Array) -> jax.Array:
    # "highest": with an accelerator's default of short products the nearest distances would be noise.
    return jnp.maximum(1 - jnp.einsum("n c, m c -> n m", x, y, precision="highest"), 0)


def _directions(prediction: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Centred features of length 1, b n c and b m c."""
    if (prediction.shape[0], prediction.shape[-1]) != (target.shape[0], target.shape[-1]):
        raise InputError(
            f"anti-ambiguity: features {prediction.shape} of the prediction and {target.shape} of the target: pictures "
            "(first) and channels (last) must be as many"
        )
    target = target.astype(jnp.float32)
    mean = jnp.mean(target, axis=(0, 1, 2))
    return _unit(prediction.astype(jnp.float32) - mean), _unit(target - mean)


def _unit(x: jax.Array) -> jax.Array:
    rows = einops.rearrange(x, "b h w c -> b (h w) c")
    # The floor is inside the root: a feature equal to the mean has no direction, and the slope of a root at 0 is none.
    return rows * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(rows), axis=-1, keepdims=True), 1e-24))


def pasted_object(logits: jax.Array, pasted: jax.Array, original: jax.Array) -> jax.Array:
    """Binary cross-entropy of finding the pasted copy; the object's original place does not count.

    Args:
      logits: b h w 1, of `jaxpaint.models.iivi_segmentation.UNet`
      pasted: b h w 1, where the copy is (`jaxpaint.ops.internal.paste`)
      original: h w 1, where the object was annotated

    Returns:
      the mean over all pixels, those that do not count included: float32
    """
    logits, pasted = logits.astype(jnp.float32), pasted.astype(jnp.float32)
    cost = jnp.maximum(logits, 0) - logits * pasted + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return jnp.mean(cost * (1 - original))
