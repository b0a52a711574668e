"""The parts of VINet (`jaxpaint.models.vinet` has the table): towers, flow and mask sub-networks, aggregation, decoder.

Modules have the names of the published checkpoint. Kernels are 3x3 with one zero (times the dilation) at each side,
also where they stride. ``width`` is the number of channels of the first layer, 32 as published; the others are
multiples of it. How kernels start is what the reference training file says, where ``gain``, of gated kernels, is 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.nn import Conv, GatedConv
from jaxpaint.nn.gated import gate
from jaxpaint.ops.conv import convolve
from jaxpaint.ops.cost_volume import local_correlation


def kaiming(gain: float = 1.0):
    """Of towers, aggregation, bottleneck and decoder; ``gain`` times as large."""
    return nn.initializers.variance_scaling(2.0 * gain**2, "fan_out", "normal")


TORCH = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Torch's default, within ``1 / sqrt(fan in)``: of mask sub-networks and ConvLSTM, with `torch_bias`."""


def torch_bias(fan_in: int):
    """Torch's default for biases: uniform within ``1 / sqrt(fan in)``."""
    limit = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


class Pyramid(NamedTuple):
    """A tower's features, named by their level: 256, 128, 64 and 32 pixels of a 256x256 internal grid.

    whole:   ... h w c
    half:    ... h/2 w/2 2c
    quarter: ... h/4 w/4 3c
    coarse:  ... h/8 w/8 4c
    """

    whole: jax.Array
    half: jax.Array
    quarter: jax.Array
    coarse: jax.Array


class Encoder(nn.Module):
    """A tower. `double_size`: the first layer halves the picture."""

    width: int = 32
    double_size: bool = False
    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> Pyramid:
        """b h w 5 (picture with 0 in the hole, ones, mask) -> features."""
        whole = self._gated("ec0", 1, x, 2 if self.double_size else 1)
        half = self._gated("ec2", 2, self._gated("ec1", 2, whole, 2))
        quarter = self._gated("ec3_2", 3, self._gated("ec3_1", 3, half, 2))
        coarse = self._gated("ec4", 4, self._gated("ec4_1", 4, quarter, 2))
        return Pyramid(whole, half, quarter, self._gated("ec5", 4, coarse))

    def _gated(self, name: str, multiple: int, x: jax.Array, stride: int = 1) -> jax.Array:
        return _gated(name, multiple * self.width, x, self.gain, self.dtype, stride=stride)


class FlowNet(nn.Module):
    """A flow sub-network: from where in the second map does each place of the first come?

    width:        see the module
    displacement: of the correlation
    """

    width: int = 32
    displacement: int = 4
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, first: jax.Array, second: jax.Array, flow: jax.Array | None = None) -> jax.Array:
        """(n h w c, n h w c, the flow so far n h w 2 or None) -> n h w 2, float32, in pixels, x first.

        With a flow so far the second map has been warped by it, and the result is what has to be added to it. The
        second map counts through the correlation alone.
        """
        seen = [first, local_correlation(first, second, self.displacement)]
        seen += [] if flow is None else [flow.astype(self.dtype)]
        return _FlowEstimator(self.width, self.dtype, name="flow_estimator")(jnp.concatenate(seen, axis=-1))


class _FlowEstimator(nn.Module):
    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        w = self.width
        x = _Chain((4 * w, 4 * w, 3 * w, 2 * w, w), dtype=self.dtype, name="convs")(x)
        flow = Conv(2, padding=1, bias_init=nn.initializers.uniform(1.0), dtype=self.dtype, name="conv1")(x)
        fine = _Context(w, self.dtype, name="convs_fine")(jnp.concatenate([x, flow], axis=-1))
        return flow.astype(jnp.float32) + fine.astype(jnp.float32)


class _Context(nn.Module):
    """The context network of PWC-Net, but that its last layer has the leaky ReLU, too."""

    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        w = self.width
        widths, dilations = (4 * w, 4 * w, 4 * w, 3 * w, 2 * w, w, 2), (1, 2, 4, 8, 16, 1, 1)
        return _Chain(widths, dilations, dtype=self.dtype, name="convs")(x)


class _Chain(nn.Module):
    """Convolutions with leaky ReLUs (0.1), named ``0.0``, ``1.0`` …, as torch names a sequence of pairs.

    features:  channels, layer by layer
    dilations: layer by layer; none is 1 everywhere
    score:     ends with a convolution to one channel, without activation (then everything starts as torch does it)
    """

    features: Sequence[int]
    dilations: Sequence[int] = ()
    score: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number, features in enumerate(self.features):
            dilation = self.dilations[number] if self.dilations else 1
            x = _LeakyConv(features, dilation, self.score, self.dtype, name=str(number))(x)
        if self.score:
            begin = {"kernel_init": TORCH, "bias_init": torch_bias(9 * x.shape[-1])}
            x = Conv(1, padding=1, dtype=self.dtype, name=str(len(self.features)), **begin)(x)
        return x


class _LeakyConv(nn.Module):
    features: int
    dilation: int
    as_torch: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        begin = {"bias_init": nn.initializers.uniform(1.0)}
        if self.as_torch:
            begin = {"kernel_init": TORCH, "bias_init": torch_bias(9 * x.shape[-1])}
        options = {"dilation": self.dilation, "padding": self.dilation, "dtype": self.dtype, **begin}
        return nn.leaky_relu(Conv(self.features, name="0", **options)(x), 0.1)


class MaskNet(nn.Module):
    """How far to take what came from elsewhere; it sees how much that differs from what is there, not the hole."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, here: jax.Array, other: jax.Array) -> jax.Array:
        """(b h w c, b h w c) -> b h w 1 in (0, 1), float32."""
        half = here.shape[-1] // 2
        score = _Chain((half, half), score=True, dtype=self.dtype, name="convs")(jnp.abs(here - other))
        return nn.sigmoid(score.astype(jnp.float32))


class Aggregation(nn.Module):
    """A gated convolution over all maps at once: 5x3x3 over time, height and width, no zeros in time."""

    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """b t h w c -> b h w c."""
        return _TimeConv(self.gain, self.dtype, name="stAgg")(x)


class _TimeConv(nn.Module):
    gain: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return gate(_TimeKernel(2 * x.shape[-1], self.gain, self.dtype, name="conv")(x), nn.relu)


class _TimeKernel(nn.Module):
    features: int
    gain: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", kaiming(self.gain), (x.shape[1], 3, 3, x.shape[-1], self.features))
        x = einops.rearrange(x.astype(self.dtype), "b t h w c -> b h w (t c)")
        kernel = einops.rearrange(kernel, "t i j c o -> i j (t c) o")
        return convolve(x, kernel, jnp.zeros(self.features), padding=((1, 1), (1, 1)))


class Bottleneck(nn.Module):
    """Four gated convolutions, dilated by 1, 2, 4, 8."""

    width: int = 32
    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """b h w 8 width -> b h w 4 width."""
        for number, dilation in enumerate((1, 2, 4, 8)):
            x = _gated(f"bt{number}", 4 * self.width, x, self.gain, self.dtype, dilation=dilation)
        return x


class Decoder(nn.Module):
    """From the memory and the filled features of two levels to a picture. `double_size`: see `Encoder`."""

    width: int = 32
    double_size: bool = False
    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, quarter: jax.Array, half: jax.Array) -> jax.Array:
        """(b h/8 w/8 4c, b h/4 w/4 3c, b h/2 w/2 2c) -> b h w 3, unbounded, float32; twice h and w at double size."""
        w = self.width
        x = self._gated("dc1", 4 * w, self._gated("dc0", 4 * w, x))
        x = _GatedUp(3 * w, self.gain, self.dtype, name="dc1_1")(x)
        x = self._gated("dc2_1", 3 * w, jnp.concatenate([x, quarter], axis=-1))
        for number, dilation in enumerate((2, 4, 8), start=1):
            x = self._gated(f"dc2_bt{number}", 3 * w, x, dilation)
        x = _GatedUp(2 * w, self.gain, self.dtype, name="dc2_2")(x)
        x = self._gated("dc3_1", 2 * w, jnp.concatenate([x, half], axis=-1))
        x = self._gated("dc3_2", 2 * w, x)
        x = _GatedUp(w, self.gain, self.dtype, name="dc4")(x)
        if self.double_size:
            x = enlarge(x, 2)
        x = self._gated("dc5", w // 2, x)
        x = Conv(3, padding=1, use_bias=False, kernel_init=kaiming(), dtype=self.dtype, name="dc6")(x)
        return x.astype(jnp.float32)

    def _gated(self, name: str, features: int, x: jax.Array, dilation: int = 1) -> jax.Array:
        return _gated(name, features, x, self.gain, self.dtype, dilation=dilation)


class _GatedUp(nn.Module):
    """Bilinear doubling, then a gated convolution with a leaky ReLU (0.2)."""

    features: int
    gain: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return gate(_Doubled(2 * self.features, self.gain, self.dtype, name="conv")(x), _leaky)


class _Doubled(nn.Module):
    """The convolution of `_GatedUp`: the resize is number 0 of what the file calls "conv"."""

    features: int
    gain: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        options = {"padding": 1, "use_bias": False, "kernel_init": kaiming(self.gain), "dtype": self.dtype}
        return Conv(self.features, name="1", **options)(enlarge(x, 2))


def _leaky(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, 0.2)


def _gated(
    name: str, features: int, x: jax.Array, gain: float, dtype: jnp.dtype, *, stride: int = 1, dilation: int = 1
):
    """A gated layer inside a compact module: ``relu(features) * sigmoid(gates)``, no bias."""
    options = {"padding": dilation, "use_bias": False, "kernel_init": kaiming(gain), "dtype": dtype}
    y, _ = GatedConv(features, 3, stride, dilation, nn.relu, name=name, **options)(x)
    return y


def enlarge(x: jax.Array, factor: int) -> jax.Array:
    """Bilinear enlargement by a whole factor with half-pixel centres, edges repeated: torch's
    ``interpolate(mode="bilinear", align_corners=False)``.

    A phase of the result is a weighted sum of the map and its neighbour: a matrix product, `jax.image.resize`, would
    cost more than the convolutions beside it.

    Args:
      x: b h w c
      factor: of both sides

    Returns:
      b factor*h factor*w c
    """
    for axis in (1, 2):
        first, last = (jax.lax.slice_in_dim(x, place, place + 1, axis=axis) for place in (0, x.shape[axis] - 1))
        before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, -1, axis=axis)], axis)
        after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, None, axis=axis), last], axis)
        phases = []
        for phase in range(factor):
            centre = (phase + 0.5) / factor - 0.5  # within half a pixel of the one it enlarges
            phases.append((1 - abs(centre)) * x + abs(centre) * (before if centre < 0 else after))
        pattern = "p b h w c -> b (h p) w c" if axis == 1 else "p b h w c -> b h (w p) c"
        x = einops.rearrange(jnp.stack(phases), pattern)
    return x
