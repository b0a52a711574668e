"""RAFT: Recurrent All-Pairs Field Transforms for Optical Flow (Teed and Deng, ECCV 2020, arXiv 2003.12039).

Two pictures become features at an eighth of their size; the products of all pairs of positions say how alike any two
are. A recurrent unit starts at a flow of zeros, reads those products around where its flow points to, and corrects the
flow, again and again. The last flow is enlarged eightfold by weights that the network gives, too.

| part | layers |
|---|---|
| fnet, of both pictures | 7x7 stride 2: 64; residual blocks, two each of 64, 96 (stride 2), 128 (stride 2); 1x1: 256 |
| cnet, of the first | the same; 128 channels, tanh: the first state; 128, ReLU: the context |
| look-up | 4 levels, (2 * 4 + 1)² positions: 324 channels; see `jaxpaint.ops.correlation` |
| encoder | look-up: 1x1 256, 3x3 192; flow: 7x7 128, 3x3 64; both: 3x3 126; and the flow: 128 |
| gru | of state, context and encoder: convolutions 1x5, then 5x1, each with gates z, r and a candidate q |
| flow_head | 3x3 256, 3x3 2: what is added to the flow |
| mask | 3x3 256, 1x1 576, a quarter of it: for each of 8x8 pixels a softmax over 9 neighbours |

fnet has instance norms, cnet batch norms. It is the basic model (not the small one), for inference, as in video
inpainting: the last flow alone, and batch norms with their stored statistics. Pictures are RGB in [-1, 1], what the
released code makes of its own at the start.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.nn import BatchNorm, Conv, InstanceNorm
from jaxpaint.ops.correlation import Correlation, correlate, look_up
from jaxpaint.ops.pad import pad_to_multiple, unpad
from jaxpaint.ops.warp import positions
from jaxpaint.types import InputError

MULTIPLE = 8
"""Height and width must be divisible by this."""

SMALLEST = 128
"""Height and width at least: below, the coarsest of the four levels has one position on a side, and the released code
divides by zero there."""

HIDDEN = 128


class RAFT(nn.Module):
    """The network, 5.26 M parameters.

    iterations: corrections of the flow; 20 in ProPainter
    limit:      how many products of pairs are kept, see `jaxpaint.ops.correlation.correlate`
    dtype:      of the activations; correlation and flow are float32
    """

    iterations: int = 20
    limit: int = 2**28
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, first: jax.Array, second: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The flow from the first picture to the second.

        Args:
          first, second: b h w 3, RGB in [-1, 1]; h and w divisible by 8, and 128 at least

        Returns:
          (b h w 2, (right, down) in pixels, float32; out) where out holds ``flow_low`` (b h/8 w/8 2, in pixels of that
          size), ``features`` (of the first picture, b h/8 w/8 256), ``context`` (b h/8 w/8 256, before tanh and ReLU)
          and ``correlation`` (b h/8 w/8 324, the look-up at a flow of zeros).
        """
        _check(first, second)
        fnet = _Encoder("instance", self.dtype, name="fnet")
        features = fnet(first)
        correlation = correlate(features, fnet(second), limit=self.limit)
        context = _Encoder("batch", self.dtype, name="cnet")(first)
        hidden, inputs = jnp.tanh(context[..., :HIDDEN]), nn.relu(context[..., HIDDEN:])
        start = jnp.zeros((*features.shape[:3], 2), jnp.float32)

        update = _Update(self.dtype, name="update_block")
        corrected = nn.scan(
            lambda update, carry, _: (update(*carry, inputs, correlation), None),
            variable_broadcast="params",
            split_rngs={"params": False},
            length=self.iterations,
        )
        (hidden, flow), _ = corrected(update, (hidden, start), None)
        out = {
            "flow_low": flow,
            "features": features,
            "context": context,
            "correlation": look_up(correlation, *positions(start)),
        }
        return enlarge(flow, update.weights(hidden)), out


def flow_both_ways(network: RAFT, variables: dict, first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The flow from the first picture to the second, and back, for pictures of any size from 128x128.

    Args:
      network: the module
      variables: its weights, see `jaxpaint.convert.features.load` ("raft_things")
      first, second: b h w 3, RGB in [-1, 1]; padded at the bottom and right (by reflection) to what the network takes

    Returns:
      two b h w 2, (right, down) in pixels, float32
    """
    height, width = first.shape[1:3]
    _check_size(height, width)
    first, second = pad_to_multiple(first, MULTIPLE), pad_to_multiple(second, MULTIPLE)
    forward, _ = network.apply(variables, first, second)
    backward, _ = network.apply(variables, second, first)
    return unpad(forward, height, width), unpad(backward, height, width)


def enlarge(flow: jax.Array, weights: jax.Array) -> jax.Array:
    """Eight times as large: every pixel of the result is a mean of 3x3 neighbours, weighted by a softmax.

    Args:
      flow: b h w 2, in its own pixels; zeros around it
      weights: b h w (9 8 8), before the softmax over the 9 neighbours, which are counted row by row

    Returns:
      b 8h 8w 2, in pixels of the result, float32
    """
    b, h, w, _ = flow.shape
    weights = nn.softmax(weights.astype(jnp.float32).reshape(b, h, w, 9, 8, 8), axis=3)
    around = jnp.pad(8 * flow, ((0, 0), (1, 1), (1, 1), (0, 0)))
    neighbours = jnp.stack([around[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=3)
    large = jnp.einsum("bhwnij,bhwnc->bhiwjc", weights, neighbours, precision=jax.lax.Precision.HIGHEST)
    return large.reshape(b, 8 * h, 8 * w, 2)


class _Encoder(nn.Module):
    """A picture's features, b h w 3 -> b h/8 w/8 256."""

    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _conv(64, 7, 2, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(_norm(self.norm, "norm1", self.dtype)(x))
        for number, (width, stride) in enumerate(((64, 1), (96, 2), (128, 2)), start=1):
            x = _Stage(width, stride, self.norm, self.dtype, name=f"layer{number}")(x)
        return _conv(256, 1, dtype=self.dtype, name="conv2")(x)


class _Stage(nn.Module):
    """Two residual blocks, the first with the stride."""

    width: int
    stride: int
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _Residual(self.width, self.stride, self.norm, self.dtype, name="0")(x)
        return _Residual(self.width, 1, self.norm, self.dtype, name="1")(x)


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the size changes."""

    width: int
    stride: int
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for number, stride in ((1, self.stride), (2, 1)):
            y = _conv(self.width, 3, stride, dtype=self.dtype, name=f"conv{number}")(y)
            y = nn.relu(_norm(self.norm, f"norm{number}", self.dtype)(y))
        if self.stride > 1:
            x = _Shortcut(self.width, self.stride, self.norm, self.dtype, name="downsample")(x)
        return nn.relu(x + y)


class _Shortcut(nn.Module):
    width: int
    stride: int
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _conv(self.width, 1, self.stride, dtype=self.dtype, name="0")(x)
        return _norm(self.norm, "1", self.dtype)(x)


class _Update(nn.Module):
    """One correction of the flow, and the weights for enlarging it."""

    dtype: jnp.dtype

    def setup(self):
        self.encoder = _Motion(self.dtype)
        self.gru = _Gru(self.dtype)
        self.flow_head = _Head(256, 2, ("conv1", "conv2"), 3, self.dtype)
        self.mask = _Head(256, 576, ("0", "2"), 1, self.dtype)

    def __call__(
        self, hidden: jax.Array, flow: jax.Array, context: jax.Array, correlation: Correlation
    ) -> tuple[jax.Array, jax.Array]:
        """The state (b h w 128) and the flow (b h w 2), both corrected."""
        seen = look_up(correlation, *positions(flow))
        hidden = self.gru(hidden, jnp.concatenate([context, self.encoder(flow, seen)], axis=-1))
        return hidden, flow + self.flow_head(hidden).astype(jnp.float32)

    def weights(self, hidden: jax.Array) -> jax.Array:
        """For `enlarge`."""
        return 0.25 * self.mask(hidden)


class _Motion(nn.Module):
    """The flow and what was looked up there, b h w 2 and 324 -> 128, the last two of which are the flow."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, flow: jax.Array, seen: jax.Array) -> jax.Array:
        def layer(name: str, width: int, kernel: int, x: jax.Array) -> jax.Array:
            return nn.relu(_conv(width, kernel, dtype=self.dtype, name=name)(x))

        seen = layer("convc2", 192, 3, layer("convc1", 256, 1, seen))
        moved = layer("convf2", 64, 3, layer("convf1", 128, 7, flow))
        both = layer("conv", 126, 3, jnp.concatenate([seen, moved], axis=-1))
        return jnp.concatenate([both, flow.astype(both.dtype)], axis=-1)


class _Gru(nn.Module):
    """A gated recurrent unit of convolutions, along rows and then along columns."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, hidden: jax.Array, x: jax.Array) -> jax.Array:
        for number, kernel in ((1, (1, 5)), (2, (5, 1))):
            around = tuple((side // 2, side // 2) for side in kernel)

            def gate(name: str, *parts: jax.Array, number=number, kernel=kernel, around=around) -> jax.Array:
                inputs = jnp.concatenate(parts, axis=-1)
                return Conv(HIDDEN, kernel, padding=around, dtype=self.dtype, name=f"conv{name}{number}")(inputs)

            z, r = nn.sigmoid(gate("z", hidden, x)), nn.sigmoid(gate("r", hidden, x))
            candidate = jnp.tanh(gate("q", r * hidden, x))
            hidden = (1 - z) * hidden + z * candidate
        return hidden


class _Head(nn.Module):
    """A 3x3 convolution, a ReLU, another convolution."""

    width: int
    features: int
    names: tuple[str, str]
    kernel: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        before, after = self.names
        x = nn.relu(_conv(self.width, 3, dtype=self.dtype, name=before)(x))
        return _conv(self.features, self.kernel, dtype=self.dtype, name=after)(x)


def _conv(features: int, kernel: int, stride: int = 1, **options) -> Conv:
    """As many zeros at every side as keep the size, which TensorFlow's SAME does not do at stride 2."""
    return Conv(features, kernel, stride, padding=kernel // 2, **options)


def _norm(kind: str, name: str, dtype: jnp.dtype) -> nn.Module:
    if kind == "batch":
        return BatchNorm(use_running_average=True, dtype=dtype, name=name)
    return InstanceNorm(dtype=dtype, name=name)


def _check(first: jax.Array, second: jax.Array) -> None:
    if first.ndim != 4 or first.shape[-1] != 3 or first.shape != second.shape:
        raise InputError(
            f"RAFT: pictures of shapes {first.shape} and {second.shape}: expected two of b h w 3, RGB in [-1, 1]"
        )
    height, width = first.shape[1:3]
    _check_size(height, width)
    if height % MULTIPLE or width % MULTIPLE:
        raise InputError(
            f"RAFT: the pictures are {height}x{width}: height and width must be divisible by {MULTIPLE}: pad them "
            "(jaxpaint.ops.pad.pad_to_multiple) or call jaxpaint.models.raft.flow_both_ways, which does"
        )


def _check_size(height: int, width: int) -> None:
    if min(height, width) < SMALLEST:
        raise InputError(
            f"{height}x{width} is too small for RAFT: the coarsest of its four levels would have a single position on "
            f"a side; expected {SMALLEST}x{SMALLEST} at least: enlarge the pictures by a whole factor and divide the "
            "flow by it"
        )
