"""Deep Video Inpainting (Kim, Woo, Lee, Kweon; CVPR 2019, arXiv 1905.01639): "VINet".

One network and no adversary: a frame is painted from itself, from four others and from what was painted last. Network:
`jaxpaint.models.vinet`; terms: `jaxpaint.losses.video`; clips of any length: `jaxpaint.systems._vinet_clip`.

Training is in three stages, as the authors' reference training file (which does not run as it stands) and an answer of
theirs have it; ``stage`` says which one a run does, and ``--init-from`` takes the weights of the one before:

1. one neighbour: a frame is painted from itself and one other. The network of the next stages sees it in all four
   places (ours; there it is a network of its own);
2. four neighbours, one frame painted an example, which spans 13 frames (a window of stride 3);
3. recurrence: four consecutive frames painted, an example of 16 frames; what was painted last and the ConvLSTM's memory
   come from the step before, but no gradient flows through them.

The loss adds up, over the painted frames,

    L1 - SSIM + 5 L1 in the hole, of the painted frame, and where there is a frame before, of the decoder's output, too
    + 1 short-term: what was painted against the true frame before, warped, where the warp is right
    + 1 long-term: the same with the first painted frame, from the third on
    + 10 flow: the predicted flow to the frame before against the pseudo-truth, and against the colours there

divided by how many they are (Adam does not see it). The last three are of stage 3. Where this page departs from the
reference file (its numbers are kept):

- the flow term counts in every frame; there it is overwritten in each, so that only the last one's is left
  (``last_flow_only``);
- pseudo-truth flow is RAFT's, or TV-L1's, which needs no weights; there it is FlowNet2's;
- ``1 - SSIM`` stands for ``-SSIM``: the loss is not negative.
"""

import dataclasses
from typing import Literal

import einops
import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.losses.reconstruction import hole_and_known, l1
from jaxpaint.losses.video import consistency, flow_terms, ssim
from jaxpaint.models import raft
from jaxpaint.models.vinet import CENTRE, OFFSETS, VINet, vinet_256, vinet_512, window
from jaxpaint.ops.flow import tvl1
from jaxpaint.ops.pad import pad_to_multiple, unpad
from jaxpaint.ops.pixels import composite
from jaxpaint.systems import _vinet_clip
from jaxpaint.train import Extent, Network, Optim, Page, Player, System, begin, optimisers, play
from jaxpaint.types import Batch, InputError, check_choices

NEIGHBOURS = 2**32 - 3
"""Where the choice of stage 1's neighbour branches off the run's key: at a step that no run reaches."""

TYPES = {256: vinet_256, 512: vinet_512}


@dataclasses.dataclass
class Config:
    """The released numbers.

    width:         channels of the first layer
    type:          256 or 512: which of the two published models. A file does not tell: for the authors' 512 weights say
                   ``--model.type=512``
    align_corners: of the warp of features: True as the weights were trained, False as the released code runs with
                   torch >= 1.3
    gain:          of the gated kernels at the start; 1 is the reference file, near 3 keeps the signal's size through
                   the layers, so that short runs learn sooner
    protocol:      how clips are filled: "sound", or "released", the authors' demo (`jaxpaint.systems._vinet_clip`);
                   what a run samples and measures is filled as in "sound"
    stage:         1, 2 or 3, of the training, see the module
    outputs:       frames painted an example in stage 3
    flow:          where pseudo-truth flow comes from: "raft", with published weights, for frames of 128x128 or more;
                   or "tvl1", which needs neither
    hole_weight, short_weight, long_weight, flow_weight: of the terms, see the module
    raw:           whether the decoder's output counts beside the blended one
    last_flow_only: the flow term of the last frame alone, as released
    consistency:   what the short- and long-term terms warp: the "truth" of the earlier frame, as released, or the
                   "output" there
    remat:         a step's activations are made again for its gradient, rather than kept: memory of one step
    """

    width: int = 32
    type: int = 256
    align_corners: bool = True
    gain: float = 1.0
    protocol: Literal["sound", "released"] = "sound"
    stage: int = 3
    outputs: int = 4
    flow: Literal["raft", "tvl1"] = "raft"
    hole_weight: float = 5.0
    short_weight: float = 1.0
    long_weight: float = 1.0
    flow_weight: float = 10.0
    raw: bool = True
    last_flow_only: bool = False
    consistency: Literal["truth", "output"] = "truth"
    remat: bool = True


def build(config: Config, optim: Optim | None = None, dtype: jnp.dtype = jnp.float32) -> System:
    """The system: one player, ``vinet``; and in stage 3 a frozen ``raft``, where flow is its."""
    _check(config)
    optim = optim or Optim()
    module = TYPES[config.type](width=config.width, align_corners=config.align_corners, gain=config.gain, dtype=dtype)
    networks = {"vinet": Network(module, lambda batch: _first_step(module, batch))}
    needs_flow = config.stage == 3 and max(config.short_weight, config.long_weight, config.flow_weight) > 0
    if needs_flow and config.flow == "raft":
        networks["raft"] = Network(raft.RAFT(dtype=dtype), _smallest_pair, published="raft_things")

    def paint(params, batch, windows):
        """Consecutive frames, painted. windows: o b 5, numbers of frames.

        Returns:
          pictures and decoder's outputs b o h w 3, flows to the picture before b o h w 2
        """
        frames, masks = (_gather(batch[name], windows) for name in ("image", "mask"))

        def step(state, seen):
            state, out = module.apply({"params": params}, state, *seen)
            return jax.lax.stop_gradient(state), (out["picture"], out["decoded"], out["flow"])

        step = jax.checkpoint(step) if config.remat else step
        count, _, height, width, _ = frames.shape[1:]
        _, made = jax.lax.scan(step, module.begin(count, height, width), (frames, masks))
        return [jnp.moveaxis(x, 0, 1) for x in made]

    def true_flow(state, first, second):
        """From the first pictures to the second ones: b n h w 3 -> b n h w 2."""
        count = first.shape[1]
        first, second = _fold(first), _fold(second)
        if config.flow == "tvl1":
            flow = tvl1(first, second)
        else:
            if min(first.shape[1:3]) < raft.SMALLEST:
                raise InputError(
                    f"examples are {first.shape[1]}x{first.shape[2]}, and RAFT takes {raft.SMALLEST}x{raft.SMALLEST} "
                    "at least: give a larger data.size, or flow='tvl1' (--config.model.flow=tvl1)"
                )
            padded = (pad_to_multiple(x, raft.MULTIPLE) for x in (first, second))
            flow, _ = networks["raft"].module.apply(state.weights.variables("raft"), *padded)
            flow = unpad(flow, *first.shape[1:3])
        return einops.rearrange(jax.lax.stop_gradient(flow), "(b n) h w c -> b n h w c", n=count)

    def temporal(state, pictures, flows, truth):
        """The terms of a recurrence, each a sum over its frames divided by all of them."""
        count = pictures.shape[1]
        # Every frame but the first to the one before; from the third on to the first.
        now = np.concatenate([np.arange(1, count), np.arange(2, count)])
        before = np.concatenate([np.arange(count - 1), np.zeros(max(count - 2, 0), int)])
        wanted = true_flow(state, truth[:, now], truth[:, before])

        def pairs(term, which, *more):
            """A term over some of the pairs, folded into the batch."""
            images = (pictures[:, now[which]], truth[:, now[which]], truth[:, before[which]], wanted[:, which])
            other = pictures[:, before[which]]
            return jax.tree.map(lambda x: x * len(which) / count, term(*map(_fold, (*images, other, *more))))

        def held(picture, here, earlier, flow, other):
            return consistency(picture, here, earlier, flow, other if config.consistency == "output" else None)

        def moved(picture, here, earlier, flow, other, predicted):
            return flow_terms(predicted, flow, picture, other, here, earlier)

        near, far = np.arange(count - 1), np.arange(count - 1, len(now))
        terms = {"short": pairs(held, near)}
        terms |= {"long": pairs(held, far)} if len(far) else {}
        chosen = near[-1:] if config.last_flow_only else near
        return terms | pairs(moved, chosen, flows[:, now[chosen]])

    def loss(params, state, batch, rng, made):
        del rng, made
        painted, windows = _windows(config, state.rng, batch)
        pictures, decoded, flows = paint(params, batch, windows)
        truth, mask = batch["image"][:, painted], batch["mask"][:, painted]
        terms = _reconstruction(pictures, truth, mask)
        total = terms["l1"] + terms["dissimilarity"] + config.hole_weight * terms["hole"]
        again = len(painted) - 1
        if again and config.raw:
            share = again / len(painted)
            raw = _reconstruction(decoded[:, 1:], truth[:, 1:], mask[:, 1:])
            raw = {name: share * value for name, value in raw.items()}
            total += raw["l1"] + raw["dissimilarity"] + config.hole_weight * raw["hole"]
            terms |= {f"{name}_raw": value for name, value in raw.items()}
        if again and needs_flow:
            terms |= temporal(state, pictures, flows, truth)
            total += config.short_weight * terms["short"] + config.long_weight * terms.get("long", 0.0)
            total += config.flow_weight * (terms["flow"] + terms["flow_colour"] + terms["flow_output"])
        return total, ({}, terms)

    def inpaint(weights, batch, rng):
        del rng
        _clip_of(batch)
        height, width = batch["image"].shape[2:4]
        padded = (pad_to_multiple(batch[name], module.multiple) for name in ("image", "mask"))
        filled = _vinet_clip.fill(module, weights.variables("vinet"), *padded)
        return composite(unpad(filled, height, width), batch["image"], batch["mask"])

    tx = optimisers(optim, "vinet")
    players = (Player("vinet", loss, tx["vinet"]),)
    averaged = ("vinet",) if optim.ema else ()
    return System(
        init=begin(networks, players, averaged=averaged),
        update=play(players, averaged=averaged, ema=optim.ema, accumulate=optim.accumulate),
        inpaint=inpaint,
        networks=networks,
        stream=_vinet_clip.streamer(module, config.type, config.protocol),
        sees=_vinet_clip.SEES[config.protocol],
        extent=(lambda clip: Extent(1, config.type, config.type)) if config.protocol == "released" else None,
    )


def _check(config: Config) -> None:
    check_choices(config)
    if config.type not in TYPES:
        raise InputError(f"type is {config.type}: VINet was published in two, 256 and 512")
    if config.stage not in (1, 2, 3):
        raise InputError(f"stage is {config.stage}: VINet is trained in stages 1, 2 and 3")
    if config.outputs < 2:
        raise InputError(f"outputs is {config.outputs}: stage 3 paints 2 frames of an example, or more")


def _clip_of(batch: Batch) -> int:
    """How many frames the examples of a batch have."""
    shape = batch["image"].shape
    if len(shape) != 5 or shape[1] < 2:
        raise InputError(
            f"VINet: the pictures are {shape}: expected clips of two frames or more, b t h w 3; a frame is filled "
            "from others (data.frames says how many frames an example has; for pictures take a system of pictures)"
        )
    return shape[1]


def _windows(config: Config, key: jax.Array, batch: Batch) -> tuple[np.ndarray, jax.Array]:
    """(the painted frames, in the middle of the example: o; the frames that each step looks at: o b 5)."""
    frames, count = _clip_of(batch), len(batch["image"])
    outputs = min(config.outputs, frames) if config.stage == 3 else 1
    painted = (frames - outputs) // 2 + np.arange(outputs)
    windows = np.stack([window(time, frames) for time in painted])
    windows = jnp.broadcast_to(windows[:, None], (outputs, count, len(OFFSETS)))
    if config.stage == 1:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, NEIGHBOURS), batch["position"])
        others = np.delete(np.arange(len(OFFSETS)), CENTRE)
        chosen = jax.vmap(lambda key: jax.random.choice(key, others))(keys)
        one = jnp.take_along_axis(windows, jnp.broadcast_to(chosen[:, None], (outputs, count, 1)), axis=2)
        windows = jnp.where(np.arange(len(OFFSETS)) == CENTRE, windows, one)
    return painted, windows


def _gather(clips: jax.Array, windows: jax.Array) -> jax.Array:
    """b t h w c, o b 5 -> o b 5 h w c."""
    return jax.vmap(lambda clip, places: clip[places], in_axes=(0, 1), out_axes=1)(clips, windows)


def _first_step(module: VINet, batch: Batch) -> tuple:
    """What the network is initialised with: its first step on a batch."""
    seen = window(0, _clip_of(batch))
    frames, masks = batch["image"][:, seen], batch["mask"][:, seen]
    return module.begin(len(frames), *frames.shape[2:4]), frames, masks


def _smallest_pair(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """What RAFT is initialised with, whatever the size of the examples is."""
    del batch
    blank = jnp.zeros((1, raft.SMALLEST, raft.SMALLEST, 3))
    return blank, blank


def _reconstruction(pictures: jax.Array, truth: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """Terms of pictures b o h w 3, means over them."""
    pictures, truth, mask = map(_fold, (pictures, truth, mask))
    hole, _ = hole_and_known(pictures, truth, mask)
    return {"l1": l1(pictures, truth), "dissimilarity": 1 - ssim(pictures, truth), "hole": hole}


def _fold(x: jax.Array) -> jax.Array:
    """b n ... -> (b n) ...: the frames of an example side by side, so that they lie on its device."""
    return x.reshape(-1, *x.shape[2:])


PAGE = Page(
    title="Deep Video Inpainting (VINet), CVPR 2019, arXiv 1905.01639",
    config=Config,
    build=build,
    tiny=Config(width=4, gain=2.8, stage=2, flow="tvl1"),
    watch="vinet/l1",
    video=True,
)
