"""VINet: Deep Video Inpainting (Kim, Woo, Lee, Kweon; CVPR 2019, arXiv 1905.01639), aggregation and recurrence.

A frame is filled from four others and from what was painted last: flows bring the features of all five to the frame,
on three levels, coarse to fine; a convolution over time makes one map of them; a mask says where that map is better
than what the frame itself has. A ConvLSTM and the last output, warped and blended in, keep the result steady in time.

Layers for ``width = 32``, 14.1 M parameters, sizes for an internal grid of h x w. The 256 type's grid is the frame; the
512 type (`double_size`) halves the frame first and doubles it at the end, which changes no weight's shape.

| part | layers (channels) | sizes |
|---|---|---|
| encoder1: the frame; encoder2: the others, the last output | ec0 (32) | h |
| | ec1, ec2 (64) | h/2 |
| | ec3_1, ec3_2 (96) | h/4 |
| | ec4_1, ec4, ec5 (128) | h/8 |
| flownet, flownet_64, _128, _256 | correlation (81), convs (128, 128, 96, 64, 32), conv1 (2) | h/8, h/4, h/2, h |
| | context, added (128, 128, 128, 96, 64, 32, 2), dilated by 1, 2, 4, 8, 16, 1, 1 | |
| st_agg, st_agg_64, _128 | 5x3x3 over four others and the last output (128, 96, 64) | h/8, h/4, h/2 |
| masknet, masknet_64, _128, _256 | half the input's channels twice, 1, sigmoid | h/8, h/4, h/2, h |
| bottleneck | bt0 … bt3 (128), dilated by 1, 2, 4, 8 | h/8 |
| convlstm | Gates (4 x 128) | h/8 |
| decoder | dc0, dc1 (128), resize | h/8 |
| | dc1_1 (96), joined by what was filled, dc2_1, dc2_bt1 … 3 (96), resize | h/4 |
| | dc2_2 (64), joined by what was filled, dc3_1, dc3_2 (64), resize | h/2 |
| | dc4 (32), dc5 (16), dc6 (3); [double size: another resize before dc5] | h |

Towers, aggregation, bottleneck and decoder are gated convolutions without bias and normalisation, ReLU (leaky, 0.2,
after a resize); flow and mask sub-networks have biases and a leaky ReLU (0.1). The output has no activation: its
nominal range is [-1, 1].

The authors' code decides, whatever the paper says (which is recalled here, not re-read). As it stands there:

- flows: the coarse ones are found without a warp before, the finer ones refine the doubled coarser ones, and features
  are then warped once more, from the unwarped ones;
- the last layer of the context networks has the leaky ReLU, too, and mask sub-networks never see the hole;
- correlations are means over channels, not sums;
- features are warped with zeros outside, the last output and its h w features with the border repeated;
- at double size the refined flow of flownet_256 is not used: the last output is warped with the h/2 flow, enlarged;
- the network paints whole frames: known pixels are not put back;
- the demo empties the ConvLSTM before every frame: its recurrence is the last output alone. Here the memory is a part
  of the state, to be carried or emptied by the caller.

``align_corners`` is how the warp of features reads its grid. The formula of the grid and the version of torch with
which the weights were trained mean True (the default); with torch >= 1.3 the same code runs as False, where a flow of
zero is a slight zoom.
"""

from typing import Any, NamedTuple

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxpaint.models.vinet_parts import (
    TORCH,
    Aggregation,
    Bottleneck,
    Decoder,
    Encoder,
    FlowNet,
    MaskNet,
    Pyramid,
    enlarge,
    torch_bias,
)
from jaxpaint.nn import ConvLSTM, Memory
from jaxpaint.ops.pixels import without_hole
from jaxpaint.ops.warp import warp
from jaxpaint.types import InputError

OFFSETS = (-6, -3, 0, 3, 6)
"""The frames of a window, from the one to fill."""

CENTRE = 2
"""The frame to fill, in its window."""


def window(time: int, count: int) -> np.ndarray:
    """Which frames of a clip of `count` frames step `time` looks at: `OFFSETS`, reflected at both ends of the clip."""
    if not 0 <= time < count:
        raise InputError(f"VINet: frame {time} of a clip of {count}: expected 0 to {count - 1}")
    turn = max(2 * (count - 1), 1)
    places = np.mod(time + np.asarray(OFFSETS), turn)
    return np.minimum(places, turn - places) if count > 1 else np.zeros_like(places)


class State(NamedTuple):
    """What one step hands to the next; of constant size, so a clip can be as long as it likes.

    picture: b h w 3, the last output as the network gave it
    mask:    b h w 1, the hole of the frame before
    memory:  of the ConvLSTM; emptied before every frame by the authors' demo
    begun:   b, bool: whether there was a frame before. Where not, the rest of the state is not looked at but for the
             memory
    """

    picture: jax.Array
    mask: jax.Array
    memory: Memory
    begun: jax.Array


class VINet(nn.Module):
    """One recurrent step: ``apply(variables, state, frames, masks) -> (state, out)``, for `jax.lax.scan` or a stream.

    width:         channels of the first layer; the others are multiples of it
    double_size:   the 512 type: the internal grid has half the frame's sides
    previous_mask: how far the last output is taken to have its hole still: the mask beside it is `previous_mask` times
                   the hole of the frame before. 0 in the authors' 256 protocol, 0.5 in the 512 one
    displacement:  of the correlations
    align_corners: of the warp of features, see the module
    gain:          of gated kernels at the start; 1 as in the reference training file, near 3 keeps the signal's size
    dtype:         of the activations; flows, masks, state and output are float32
    """

    width: int = 32
    double_size: bool = False
    previous_mask: float = 0.0
    displacement: int = 4
    align_corners: bool = True
    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @property
    def multiple(self) -> int:
        """What height and width must be divisible by."""
        return 16 if self.double_size else 8

    def setup(self) -> None:
        shared = {"width": self.width, "dtype": self.dtype}
        gated = {"gain": self.gain, **shared}
        self.encoder1 = Encoder(double_size=self.double_size, **gated)
        self.encoder2 = Encoder(double_size=self.double_size, **gated)
        for level in ("", "_64", "_128", "_256"):
            setattr(self, f"flownet{level}", FlowNet(displacement=self.displacement, **shared))
            setattr(self, f"masknet{level}", MaskNet(dtype=self.dtype))
        for level in ("", "_64", "_128"):
            setattr(self, f"st_agg{level}", Aggregation(gain=self.gain, dtype=self.dtype))
        self.bottleneck = Bottleneck(**gated)
        features = 4 * self.width
        begin = {"kernel_init": TORCH, "bias_init": torch_bias(9 * 2 * features)}
        self.convlstm = ConvLSTM(features, dtype=self.dtype, **begin)
        self.decoder = Decoder(double_size=self.double_size, **gated)

    def begin(self, batch: int, height: int, width: int) -> State:
        """The state before the first frame of clips of this size."""
        self._check_size(height, width)
        sides = (height // self.multiple, width // self.multiple)
        return State(
            picture=jnp.zeros((batch, height, width, 3)),
            mask=jnp.zeros((batch, height, width, 1)),
            memory=Memory.empty(batch, *sides, 4 * self.width),
            begun=jnp.zeros(batch, bool),
        )

    def __call__(self, state: State, frames: jax.Array, masks: jax.Array) -> tuple[State, dict[str, Any]]:
        """Fills the frame in the middle of a window.

        Args:
          state: of the step before, or `begin`
          frames: b 5 h w 3 in [-1, 1], the window (`OFFSETS`, `window`), sides divisible by `multiple`; what they hold
            inside holes is not looked at
          masks: b 5 h w 1, 1 = hole

        Returns:
          (the next state, out), see `step`
        """
        if frames.ndim != 5 or frames.shape[1] != len(OFFSETS) or masks.shape != (*frames.shape[:-1], 1):
            raise InputError(
                f"VINet: frames are {frames.shape}, masks {masks.shape}: expected windows of {len(OFFSETS)} frames, "
                "b 5 h w 3 and b 5 h w 1"
            )
        others = np.delete(np.arange(len(OFFSETS)), CENTRE)
        neighbours = self.encode(frames[:, others], masks[:, others])
        return self.step(state, frames[:, CENTRE], masks[:, CENTRE], neighbours)

    def encode(self, frames: jax.Array, masks: jax.Array) -> Pyramid:
        """Features of frames as neighbours: they can be kept and used again for every frame that they neighbour.

        Args:
          frames: b n h w 3 in [-1, 1]
          masks: b n h w 1, 1 = hole

        Returns:
          ... with axes b n; ``whole`` is None: no neighbour's is ever used
        """
        self._check_size(*frames.shape[2:4])
        count = frames.shape[1]
        features = self.encoder2(_seen(*map(_fold, (without_hole(frames, masks), masks))))._replace(whole=None)
        return jax.tree.map(lambda x: _unfold(x, count), features)

    def step(
        self, state: State, frame: jax.Array, mask: jax.Array, neighbours: Pyramid
    ) -> tuple[State, dict[str, Any]]:
        """Fills a frame, the features of its neighbours given.

        Args:
          state: of the step before, or `begin`
          frame: b h w 3 in [-1, 1]
          mask: b h w 1, 1 = hole
          neighbours: what `encode` gives for t-6, t-3, t+3, t+6, in this order: axes b 4

        Returns:
          (the next state, out) where out holds

          - ``picture``: b h w 3, the output: not clipped, not composited; ``decoded``: before the last output was
            blended in
          - ``flow``: b h w 2, from the frame to the last output, in pixels, x first; ``flow_refined`` at the internal
            grid's size (the same, at single size)
          - ``flows``: b 5 h/2 w/2 2, to the neighbours and (last) the last output; ``flows_coarse``, ``flows_64``
          - ``mask_coarse``, ``mask_64``, ``mask_128``: weights of what came from elsewhere; ``blend``: of the last
            output, where there is one
          - ``aggregated``: b h/8 w/8 4 width
        """
        self._check_size(*frame.shape[1:3])
        if state.picture.shape != frame.shape:
            raise InputError(f"VINet: the state is for frames {state.picture.shape}, the frame is {frame.shape}")
        begun = state.begun[:, None, None, None]
        known = without_hole(frame, mask)
        last = jnp.where(begun, state.picture, known)
        last_mask = jnp.where(begun, self.previous_mask * state.mask, mask)
        here, before = self.encoder1(_seen(known, mask)), self.encoder2(_seen(last, last_mask))
        coarse, quarter, half = (
            jnp.concatenate([getattr(neighbours, level), getattr(before, level)[:, None]], axis=1)
            for level in ("coarse", "quarter", "half")
        )

        out: dict[str, Any] = {}
        parts = (self.flownet, self.st_agg, self.masknet)
        out["flows_coarse"], out["mask_coarse"], out["aggregated"], filled = self._level(parts, here.coarse, coarse)
        x = self.bottleneck(jnp.concatenate([here.coarse, filled], axis=-1))
        memory, x = self.convlstm(state.memory, x)
        parts = (self.flownet_64, self.st_agg_64, self.masknet_64)
        out["flows_64"], out["mask_64"], _, quarter = self._level(parts, here.quarter, quarter, out["flows_coarse"])
        parts = (self.flownet_128, self.st_agg_128, self.masknet_128)
        out["flows"], out["mask_128"], _, half = self._level(parts, here.half, half, out["flows_64"])
        out["decoded"] = self.decoder(x, quarter, half)
        out |= self._blend(here.whole, before.whole, last, out["flows"][:, -1])
        blended = (1 - out["blend"]) * out["decoded"] + out["blend"] * out.pop("last_warped")
        out["picture"] = jnp.where(begun, blended, out["decoded"])
        mask = mask.astype(jnp.float32)
        return State(out["picture"], mask, memory, jnp.ones_like(state.begun)), out

    def _level(self, parts: tuple, here: jax.Array, others: jax.Array, coarser: jax.Array | None = None) -> tuple:
        """(b h w c, b n h w c, flows b n h/2 w/2 2) -> (flows b n h w 2, mask, aggregated, filled b h w c)."""
        flow_net, aggregate, mask_net = parts
        count = others.shape[1]
        first, others = einops.repeat(here, "b h w c -> (b n) h w c", n=count), _fold(others)
        if coarser is None:
            flow = flow_net(first, others)
        else:
            flow = 2 * enlarge(_fold(coarser), 2)
            flow = flow + flow_net(first, self._warp(others, flow), flow)
        aggregated = aggregate(_unfold(self._warp(others, flow), count))
        mask = mask_net(here, aggregated)
        filled = ((1 - mask) * here + mask * aggregated).astype(self.dtype)
        return _unfold(flow, count), mask, aggregated, filled

    def _warp(self, x: jax.Array, flow: jax.Array) -> jax.Array:
        return warp(x, flow, align_corners=self.align_corners, outside="zeros")

    def _blend(self, here: jax.Array, before: jax.Array, last: jax.Array, flow: jax.Array) -> dict[str, jax.Array]:
        """The last output at its new place, and how much to take of it."""
        doubled = 2 * enlarge(flow, 2)
        warped = warp(before, doubled, outside="border")
        blend = self.masknet_256(here, warped)
        refined = doubled + self.flownet_256(here, warped, doubled)
        full = refined
        if self.double_size:
            full = 4 * enlarge(flow, 4)
            blend = einops.repeat(blend, "b h w c -> b (h p) (w q) c", p=2, q=2)
        moved = warp(last, full, outside="border")
        return {"flow": full, "flow_refined": refined, "blend": blend, "last_warped": moved}

    def _check_size(self, height: int, width: int) -> None:
        if height % self.multiple or width % self.multiple or min(height, width) < 2 * self.multiple:
            raise InputError(
                f"VINet: frames are {height}x{width}: height and width must be divisible by {self.multiple}, "
                f"{2 * self.multiple} at least; pad or resize them"
            )


def vinet_256(**options) -> VINet:
    """The network and feedback of the published 256x256 model; options are `VINet`'s."""
    return VINet(**{"double_size": False, "previous_mask": 0.0, **options})


def vinet_512(**options) -> VINet:
    """The network and feedback of the published 512x512 model; options are `VINet`'s."""
    return VINet(**{"double_size": True, "previous_mask": 0.5, **options})


def _seen(picture: jax.Array, mask: jax.Array) -> jax.Array:
    """What a tower is given: ... 5."""
    mask = mask.astype(picture.dtype)
    return jnp.concatenate([picture, jnp.ones_like(mask), mask], axis=-1)


def _fold(x: jax.Array) -> jax.Array:
    """The versions of an example stand side by side in the batch, so that they lie on its device."""
    return einops.rearrange(x, "b n h w c -> (b n) h w c")


def _unfold(x: jax.Array, count: int) -> jax.Array:
    return einops.rearrange(x, "(b n) h w c -> b n h w c", n=count)
