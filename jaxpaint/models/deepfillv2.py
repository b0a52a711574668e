"""DeepFillv2: Free-Form Image Inpainting with Gated Convolution (Yu et al., ICCV 2019, arXiv 1806.03589).

A coarse network fills the hole roughly; a refinement network looks at the result twice, through dilated gated
convolutions and through contextual attention, and decodes both views. Every layer is a gated convolution, so that
free-form holes need no hand-written validity rule. The discriminator (SN-PatchGAN) scores every element of its last
feature map.

Widths below are for ``width = 48``, the number of filters *before* the split into features and gates: 48 -> 24.

| stage 1 | k, stride, dilation: out | stage 2, convolutions | out | stage 2, attention | out |
|---|---|---|---|---|---|
| conv1 | 5,1,1: 24 | xconv1 | 24 | pmconv1 | 24 |
| conv2_downsample | 3,2,1: 48 | xconv2_downsample | 24 | pmconv2_downsample | 24 |
| conv3 | 3,1,1: 48 | xconv3 | 48 | pmconv3 | 48 |
| conv4_downsample | 3,2,1: 96 | xconv4_downsample | 48 | pmconv4_downsample | 96 |
| conv5, conv6 | 3,1,1: 96 | xconv5, xconv6 | 96 | pmconv5, pmconv6 (ReLU) | 96 |
| conv7 … conv10_atrous | 3,1,2…16: 96 | xconv7 … xconv10_atrous | 96 | contextual attention | 96 |
| conv11, conv12 | 3,1,1: 96 | | | pmconv9, pmconv10 | 96 |
| conv13_upsample, conv14 | 48 | allconv11 … allconv14 on both branches: 96, 96, 48, 48 | | | |
| conv15_upsample, conv16 | 24, 12 | allconv15_upsample, allconv16: 24, 12 | | | |
| conv17, tanh | 3 | allconv17, tanh | 3 | | |

Where the released code departs from the paper, the code decides: the second stage sees three channels only (no
mask); the attention runs with fusion; the last layers have no gate; every layer of the discriminator, the last one
too, ends in a leaky ReLU and there is no final convolution.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.nn import Conv, GatedConv, GatedUpConv, SpectralConv
from jaxpaint.ops.attend import contextual_attention
from jaxpaint.ops.pixels import composite, without_hole
from jaxpaint.ops.resize import nearest_align_corners
from jaxpaint.types import InputError

MULTIPLE = 8
"""Height and width must be divisible by this: two halvings, and the attention's."""


class Generator(nn.Module):
    """The two-stage inpainting network, 4.05 M parameters at width 48.

    width:          filters of the first layer before the split into features and gates (the code's `cnum`)
    rate:           the attention's reduction
    softmax_scale:  the attention's sharpness
    fuse:           the attention's propagation
    guide_channels: channels of an optional guide (sketch) that the coarse stage sees: 0 or 1 as published
    gain:           of the gated layers' kernels at the start (see `jaxpaint.nn.GatedConv`); 1 as released
    dtype:          of the activations
    """

    width: int = 48
    rate: int = 2
    softmax_scale: float = 10.0
    fuse: bool = True
    guide_channels: int = 0
    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array, guide: jax.Array | None = None):
        """Fills the hole.

        Args:
          image: b h w 3 in [-1, 1], h and w divisible by 8; what it holds inside the hole is not looked at
          mask: b h w 1, 1 = hole
          guide: b h w guide_channels, edges in {0, 1}; masked here

        Returns:
          (b h w 3 in [-1, 1], not composited, float32; out) where out holds ``stage1`` (the coarse picture), the
          values before the activation of every gated layer (``conv4_pre`` …), and ``attention``.
        """
        if image.shape[1] % MULTIPLE or image.shape[2] % MULTIPLE:
            raise InputError(
                f"DeepFillv2: the picture is {image.shape[1]}x{image.shape[2]}: height and width must be divisible "
                f"by {MULTIPLE}; pad them (jaxpaint.ops.pad.pad_to_multiple) or call the system's `inpaint`"
            )
        given = 0 if guide is None else guide.shape[-1]
        if given != self.guide_channels:
            raise InputError(
                f"DeepFillv2: the guide has {given} channels, the network was built for {self.guide_channels}"
            )
        out: dict[str, jax.Array] = {}
        mask = mask.astype(jnp.float32)
        known = without_hole(image, mask)
        guides = [] if guide is None else [guide * mask]
        x = jnp.concatenate([known, *guides, jnp.ones_like(mask), mask], axis=-1)

        stage1 = self._decode(self._dilate(self._encode(x, "", (1, 2, 2, 4), out), "", out), "conv", out)
        out["stage1"] = stage1

        x = composite(stage1, known, mask)
        convolved = self._dilate(self._encode(x, "x", (1, 1, 2, 2), out), "x", out)
        attended = self._encode(x, "pm", (1, 1, 2, 4), out)
        small = nearest_align_corners(mask, *attended.shape[1:3])
        attended = contextual_attention(
            attended, attended, small, rate=self.rate, softmax_scale=self.softmax_scale, fuse=self.fuse
        )
        out["attention"] = attended
        attended = self._gated(attended, "pmconv9", 4, out)
        attended = self._gated(attended, "pmconv10", 4, out)
        both = jnp.concatenate([convolved, attended], axis=-1)
        return self._decode(both, "allconv", out), out

    def _gated(self, x, name: str, multiple: float, out: dict, **options) -> jax.Array:
        """A gated layer of ``multiple * width / 2`` channels, keeping its pre-activation."""
        layer = GatedUpConv if name.endswith("upsample") else GatedConv
        y, inner = layer(int(multiple * self.width / 2), gain=self.gain, dtype=self.dtype, name=name, **options)(x)
        out[name.split("_")[0] + "_pre"] = inner["pre"]
        return y

    def _encode(self, x, prefix: str, multiples: tuple, out: dict) -> jax.Array:
        """conv1 … conv6: to a quarter of the resolution."""
        one, two, three, four = multiples
        x = self._gated(x, f"{prefix}conv1", one, out, kernel=5)
        x = self._gated(x, f"{prefix}conv2_downsample", two, out, stride=2)
        x = self._gated(x, f"{prefix}conv3", three, out)
        x = self._gated(x, f"{prefix}conv4_downsample", four, out, stride=2)
        x = self._gated(x, f"{prefix}conv5", 4, out)
        # The attention compares what pmconv6 gives, so its features are not negative.
        activation = nn.relu if prefix == "pm" else nn.elu
        return self._gated(x, f"{prefix}conv6", 4, out, activation=activation)

    def _dilate(self, x, prefix: str, out: dict) -> jax.Array:
        """conv7_atrous … conv10_atrous: a wide view at a quarter of the resolution."""
        for number, dilation in ((7, 2), (8, 4), (9, 8), (10, 16)):
            x = self._gated(x, f"{prefix}conv{number}_atrous", 4, out, dilation=dilation)
        return x

    def _decode(self, x, prefix: str, out: dict) -> jax.Array:
        """conv11 … conv17: back to the picture."""
        x = self._gated(x, f"{prefix}11", 4, out)
        x = self._gated(x, f"{prefix}12", 4, out)
        x = self._gated(x, f"{prefix}13_upsample", 2, out)
        x = self._gated(x, f"{prefix}14", 2, out)
        x = self._gated(x, f"{prefix}15_upsample", 1, out)
        x = self._gated(x, f"{prefix}16", 0.5, out)
        x = _Output(dtype=self.dtype, name=f"{prefix}17")(x)
        return jnp.tanh(x.astype(jnp.float32))


class _Output(nn.Module):
    """The last layer: a plain convolution to three channels, no gate."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Conv(3, dtype=self.dtype, name="conv")(x)


class Discriminator(nn.Module):
    """SN-PatchGAN: six spectrally normalised 5x5 convolutions of stride 2; every output element is a score.

    width: channels of the first layer; the others have 2, 4, 4, 4, 4 times as many
    dtype: of the activations
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array, guide: jax.Array | None = None):
        """Scores a picture.

        Args:
          image: b h w 3 in [-1, 1]
          mask: b h w 1, 1 = hole
          guide: b h w g, optional

        Returns:
          (b h/64 w/64 4*width scores, float32; out) where out holds every layer's output and ``sigma``, the six
          spectral norms.
        """
        parts = [image, mask.astype(image.dtype), *([] if guide is None else [guide])]
        x = jnp.concatenate(parts, axis=-1)
        out: dict[str, jax.Array] = {}
        sigmas = []
        for number, multiple in enumerate((1, 2, 4, 4, 4, 4), start=1):
            x, sigma = _SpectralBlock(multiple * self.width, dtype=self.dtype, name=f"conv{number}")(x)
            out[f"conv{number}"] = x
            sigmas.append(sigma)
        out["sigma"] = jnp.stack(sigmas)
        return x.astype(jnp.float32), out


class _SpectralBlock(nn.Module):
    """A spectrally normalised 5x5 convolution of stride 2 and a leaky ReLU (0.2)."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, inner = SpectralConv(self.features, 5, stride=2, dtype=self.dtype, name="conv_sn")(x)
        return nn.leaky_relu(y, 0.2), inner["sigma"]
