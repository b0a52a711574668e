"""Discriminators that several systems share: PatchGAN, and global with local.

Scores are logits, before any sigmoid: the losses of `jaxpaint.losses.adversarial` expect them so. DeepFillv2's
SN-PatchGAN is in `jaxpaint.models.deepfillv2`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.nn import BatchNorm, Conv, TorchSpectralConv

SLOPE = 0.2
"""Of every leaky ReLU here."""


class PatchGAN(nn.Module):
    """A score for every patch of a picture (Isola et al., arXiv 1611.07004, appendix 6.1.2), as EdgeConnect has it.

    4x4 convolutions with one zero around: ``halvings`` of stride 2, two of stride 1, leaky ReLU between; no
    normalisation but the spectral one (arXiv 1901.00212, section 3). The receptive field of the published three
    halvings is 70 pixels. Modules are named as in EdgeConnect's files, ``conv1.0`` … ``conv5.0``.

    width:    channels of the first layer; they double up to eight times as many
    halvings: layers of stride 2
    spectral: spectral norm in torch's convention on every layer, and then no biases
    dtype:    of the activations
    """

    width: int = 64
    halvings: int = 3
    spectral: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, picture: jax.Array, *conditions: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Scores a picture, or a pair of one and what it was made from.

        Args:
          picture: b h w c
          conditions: b h w c', of the same height and width; they come after the picture's channels

        Returns:
          (b h' w' 1 logits, float32; out) where out holds every layer's output, ``conv1`` … , after its leaky ReLU, the
          last being the logits; with `spectral` also ``sigma``. Three halvings: h' = h / 8 - 2.
        """
        x = jnp.concatenate([picture, *(condition.astype(picture.dtype) for condition in conditions)], axis=-1)
        widths = [self.width * min(2**number, 8) for number in range(self.halvings + 1)]
        out: dict[str, jax.Array] = {}
        sigmas = []
        for number, features in enumerate([*widths, 1], start=1):
            stride = 2 if number <= self.halvings else 1
            x, inner = _PatchLayer(features, stride, self.spectral, self.dtype, name=f"conv{number}")(x)
            if number <= len(widths):
                x = nn.leaky_relu(x, SLOPE)
            out[f"conv{number}"] = x
            sigmas += inner.values()
        if self.spectral:
            out["sigma"] = jnp.stack(sigmas)
        return x.astype(jnp.float32), out


class _PatchLayer(nn.Module):
    """One convolution of a PatchGAN, the first of a torch Sequential."""

    features: int
    stride: int
    spectral: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        shape = {"kernel": 4, "stride": self.stride, "padding": 1, "kernel_init": nn.initializers.normal(0.02)}
        if self.spectral:
            return TorchSpectralConv(self.features, **shape, use_bias=False, dtype=self.dtype, name="0")(x)
        return Conv(self.features, **shape, dtype=self.dtype, name="0")(x), {}


class GlobalLocal(nn.Module):
    """One score from a whole picture and from a crop around its hole (Iizuka et al., ACM ToG 36:4, 2017, section 3.2).

    Both towers: 5x5 convolutions of stride 2 with 64, 128, 256, 512, 512 channels, a linear layer to 1024; then one
    linear layer over both. The global tower of the paper has a sixth convolution (512), for pictures of twice the
    crop's side. The order within a layer is that of the published PyTorch port's weights (GLCIC-PyTorch, whose names
    the modules have): convolution, ReLU, batch norm; the paper has the norm before the ReLU.

    A published linear layer that follows a map counts its inputs as c h w; here they are h w c.

    width:         channels of the first layer
    global_layers: convolutions of the global tower, 6 in the paper
    norm:          batch norm, momentum 0.9 (torch's 0.1), epsilon 1e-5
    dtype:         of the activations
    """

    width: int = 64
    global_layers: int = 6
    norm: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, picture: jax.Array, crop: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Scores pictures.

        Args:
          picture: b h w c
          crop: b h' w' c, the region of the hole
          train: batch norm with the batch's own statistics, which go to the collection ``batch_stats``

        Returns:
          (b 1 logits, float32; out) where out holds ``local`` and ``global``, the features b 16*width of each tower
        """
        options = {"width": self.width, "norm": self.norm, "dtype": self.dtype}
        local = _Tower(layers=5, **options, name="model_ld")(crop, train)
        everything = _Tower(layers=self.global_layers, **options, name="model_gd")(picture, train)
        score = nn.Dense(1, dtype=jnp.float32, name="linear1")(jnp.concatenate([local, everything], axis=-1))
        return score, {"local": local, "global": everything}


class _Tower(nn.Module):
    """Convolutions of stride 2, a linear layer, a ReLU: b h w c -> b 16*width, float32."""

    layers: int
    width: int
    norm: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for number in range(1, self.layers + 1):
            features = self.width * min(2 ** (number - 1), 8)
            x = nn.relu(Conv(features, 5, stride=2, padding=2, dtype=self.dtype, name=f"conv{number}")(x))
            if self.norm:
                x = BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype, name=f"bn{number}")(x)
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return nn.relu(nn.Dense(16 * self.width, dtype=jnp.float32, name=f"linear{self.layers + 1}")(x))


class GlobalLocalCritics(nn.Module):
    """Two Wasserstein critics, of the picture and of a crop (Yu et al., arXiv 1801.07892, section 3): DeepFillv1.

    Each: four 5x5 convolutions of stride 2 (TensorFlow's SAME), leaky ReLU, a linear layer to one score. Channels are
    64, 128, 256, 256 for the picture and 64, 128, 256, 512 for the crop; no normalisation. The penalty
    (`jaxpaint.losses.adversarial.gradient_penalty`) is taken of each critic by itself.

    width: channels of the first layers
    dtype: of the activations
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, picture: jax.Array, crop: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(b h w c, b h' w' c) -> (b 2 scores, of the picture and of the crop, float32; {})."""
        scores = [
            _Critic(self.width, (1, 2, 4, 4), self.dtype, name="global")(picture),
            _Critic(self.width, (1, 2, 4, 8), self.dtype, name="local")(crop),
        ]
        return jnp.concatenate(scores, axis=-1), {}


class _Critic(nn.Module):
    """b h w c -> b 1, float32."""

    width: int
    multiples: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number, multiple in enumerate(self.multiples, start=1):
            layer = Conv(multiple * self.width, 5, stride=2, dtype=self.dtype, name=f"conv{number}")
            x = nn.leaky_relu(layer(x), SLOPE)
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return nn.Dense(1, dtype=jnp.float32, name="linear")(x)
