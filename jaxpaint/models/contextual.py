"""Contextual-based Image Inpainting: Infer, Match, and Translate (Song et al., ECCV 2018, arXiv 1711.08590).

Image2Feature guesses what is in the hole, blurred; the guess, pasted in, becomes features (VGG-19, ``relu3_1``).
Patch-swap (`jaxpaint.ops.swap`) puts known texture over the guessed features. Feature2Image, which has learnt to invert
features, paints a picture from them.

No implementation by the authors is public, and the paper does not state everything. Below, **paper** is what it states
(after the paper: recalled, not re-read line by line), **ours** is what had to be chosen.

Image2Feature, here for ``width = 64``; all but the last layer followed by batch norm and ReLU (paper):

| layers | | out, for 256x256 |
|---|---|---|
| down1 … down3 | three convolutions of stride 2 (paper); 4x4, 64, 128, 256 channels (ours) | 128, 64, 32 |
| block1 … block9 | nine residual blocks, all dilated (paper); twice 3x3, dilation 2 (ours) | 32 |
| up1 … up3 | three transposed convolutions of stride 2 (paper); 4x4, 128, 64, 3 channels (ours) | 64, 128, 256 |
| output | tanh (ours) | 256x256x3 |

Its input is the picture with 0, the middle of the range, in the hole, and the mask (ours).

Feature2Image: seven convolution and eight deconvolution blocks, the first six deconvolutions joined with what the
convolutions of their size gave (paper). 256-512-…-512 channels, 4x4 kernels, batch norm but at both ends, leaky ReLU
down and ReLU up, tanh (ours, after pix2pix):

| | side of the map, for 256x256 | channels |
|---|---|---|
| conv1 (stride 1, 3x3) … conv7 | 64, 32, 16, 8, 4, 2, 1 | 256, then 512 |
| deconv1 … deconv6, each with conv6 … conv1 | 2, 4, 8, 16, 32, 64 | 512, the sixth 256 |
| deconv7, deconv8 | 128, 256 | 128, 3 |

Sides that do not halve to the end are rounded up, and the deconvolution of such a map is cut (ours; nothing to do at
multiples of 256).

The discriminators judge pairs (paper): of the masked picture and a whole one, with `jaxpaint.models.discriminators.
PatchGAN`, and of a feature map and a picture, with `FeaturePairDiscriminator`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.models.discriminators import SLOPE, PatchGAN
from jaxpaint.nn import BatchNorm, Conv, UpConv
from jaxpaint.ops.pixels import without_hole
from jaxpaint.types import InputError

CELL = 4
"""Pixels along a side of a feature's cell: ``relu3_1`` comes after two pools."""

MULTIPLE = 8
"""Sides of Image2Feature's pictures must be divisible by this."""

FEATURES = 256
"""Channels of ``relu3_1``."""


class Image2Feature(nn.Module):
    """The picture network of the first step, 11.9 M parameters at width 64. Its name is the paper's; the features come
    from VGG-19, applied to what it paints.

    width:     channels of the first layer
    dilations: of the residual blocks, one each
    dtype:     of the activations
    """

    width: int = 64
    dilations: Sequence[int] = (2,) * 9
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array, *, train: bool = False) -> tuple[jax.Array, dict]:
        """Paints a guess.

        Args:
          image: b h w 3 in [-1, 1], h and w divisible by 8; what it holds inside the hole is not looked at
          mask: b h w 1, 1 = hole
          train: batch norm with the batch's statistics, which go to the collection ``batch_stats``

        Returns:
          (b h w 3 in [-1, 1], not composited, float32; out) where out holds every layer's output by its name
        """
        if image.shape[1] % MULTIPLE or image.shape[2] % MULTIPLE:
            raise InputError(
                f"Image2Feature: the picture is {image.shape[1]}x{image.shape[2]}: height and width must be divisible "
                f"by {MULTIPLE}; pad them (jaxpaint.ops.pad.pad_to_multiple) or call the system's `inpaint`"
            )
        out: dict[str, jax.Array] = {}
        x = jnp.concatenate([without_hole(image, mask), mask.astype(image.dtype)], axis=-1)
        for number, multiple in enumerate((1, 2, 4), start=1):
            x = Conv(multiple * self.width, 4, stride=2, use_bias=False, dtype=self.dtype, name=f"down{number}")(x)
            x = nn.relu(_norm(f"down{number}_norm", self.dtype, train)(x))
            out[f"down{number}"] = x
        for number, dilation in enumerate(self.dilations, start=1):
            x = _Residual(dilation, self.dtype, name=f"block{number}")(x, train)
            out[f"block{number}"] = x
        for number, multiple in enumerate((2, 1), start=1):
            x = UpConv(multiple * self.width, use_bias=False, dtype=self.dtype, name=f"up{number}")(x)
            x = nn.relu(_norm(f"up{number}_norm", self.dtype, train)(x))
            out[f"up{number}"] = x
        x = UpConv(3, dtype=self.dtype, name="up3")(x)
        return jnp.tanh(x.astype(jnp.float32)), out


class _Residual(nn.Module):
    """Two dilated 3x3 convolutions, each with batch norm, beside the identity; a ReLU between and after."""

    dilation: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = x
        for number in (1, 2):
            layer = Conv(x.shape[-1], dilation=self.dilation, use_bias=False, dtype=self.dtype, name=f"conv{number}")
            y = _norm(f"norm{number}", self.dtype, train)(layer(y))
            y = nn.relu(y) if number == 1 else y
        return nn.relu(x + y)


class Feature2Image(nn.Module):
    """The inverter of features, 66.7 M parameters at width 64.

    width: a quarter of the channels of the first layer
    dtype: of the activations
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, *, train: bool = False) -> tuple[jax.Array, dict]:
        """Paints the picture that features belong to.

        Args:
          features: b h w 256, ``relu3_1``, perhaps swapped
          train: batch norm with the batch's statistics, which go to the collection ``batch_stats``

        Returns:
          (b 4h 4w 3 in [-1, 1], float32; out) where out holds ``conv1`` … ``conv7`` and ``deconv1`` … ``deconv7``
        """
        out: dict[str, jax.Array] = {}
        x = Conv(4 * self.width, dtype=self.dtype, name="conv1")(features)
        x = out["conv1"] = nn.leaky_relu(x, SLOPE)
        for number in range(2, 8):
            x = Conv(8 * self.width, 4, stride=2, use_bias=number == 7, dtype=self.dtype, name=f"conv{number}")(x)
            if number < 7:  # of a map of one cell a picture, little is left after a norm
                x = _norm(f"conv{number}_norm", self.dtype, train)(x)
            x = out[f"conv{number}"] = nn.leaky_relu(x, SLOPE)
        for number, multiple in enumerate((8, 8, 8, 8, 8, 4, 2), start=1):
            x = UpConv(multiple * self.width, use_bias=False, dtype=self.dtype, name=f"deconv{number}")(x)
            if number <= 6:
                skip = out[f"conv{7 - number}"]
                x = x[:, : skip.shape[1], : skip.shape[2]]
            x = out[f"deconv{number}"] = nn.relu(_norm(f"deconv{number}_norm", self.dtype, train)(x))
            if number <= 6:
                x = jnp.concatenate([x, skip], axis=-1)
        x = UpConv(3, dtype=self.dtype, name="deconv8")(x)
        return jnp.tanh(x.astype(jnp.float32)), out


class FeaturePairDiscriminator(nn.Module):
    """Judges whether a picture belongs to a feature map: a PatchGAN over pairs (paper).

    How a map of 64x64 meets a picture of 256x256 is ours: two convolutions of stride 2 bring the picture to the map's
    size, and a PatchGAN with one halving, no norm, looks at both: 64 pixels a score, beside what a feature sees.

    width: channels of the first layer of either part
    dtype: of the activations
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, picture: jax.Array) -> tuple[jax.Array, dict]:
        """(features b h w c, picture b 4h 4w 3) -> (b h' w' 1 logits, float32; the PatchGAN's out); h' = h/2 - 2."""
        x = picture
        for number, multiple in enumerate((1, 2), start=1):
            x = Conv(multiple * self.width, 4, stride=2, dtype=self.dtype, name=f"picture{number}")(x)
            x = nn.leaky_relu(x, SLOPE)
        judge = PatchGAN(self.width, halvings=1, spectral=False, dtype=self.dtype, name="pair")
        return judge(features.astype(self.dtype), x)


def _norm(name: str, dtype: jnp.dtype, train: bool) -> nn.Module:
    return BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-3, dtype=dtype, name=name)
