"""Internal Video Inpainting by Implicit Long-range Propagation (Ouyang, Wang, Chen; ICCV 2021, arXiv 2108.01912).

A network that learns from the very clip that it fills, and from nothing else: training is inference (`System.stream`).
It fills frame by frame; what it knows of the other frames is in its weights.

- `_iivi_fit.py`: the losses and the steps of a fit
- `_iivi_levels.py`: a clip from a small size to its own, and several clips at once
- `_iivi_held_out.py`: known pixels that are held out, to stop early
- `_iivi_masks.py`: masks of all frames from that of one

As a system of pictures it trains one network on the frames of many clips: a common start for fits
(``jaxpaint inpaint-video --checkpoint``). A fit's own weights are such a start, too, for a neighbouring clip.

Where this page departs from the released code, unless `RELEASED` is taken: see `Config`. With the released numbers a
clip takes hours; with ours minutes, on a machine without an accelerator: `docs/systems/iivi.md` says what comes out.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxpaint.models.features import random_variables
from jaxpaint.models.iivi import MULTIPLE, Generator
from jaxpaint.models.vgg import VGG
from jaxpaint.ops.internal import draw_shifts, hide
from jaxpaint.ops.pad import pad_to_multiple
from jaxpaint.ops.pixels import composite
from jaxpaint.ops.tiles import SMALLEST
from jaxpaint.systems._iivi_fit import Networks, objective, phases, sizes
from jaxpaint.train import Network, Optim, Page, Player, System, Weights, begin, optimisers, play
from jaxpaint.types import Batch, InputError, check_choices

if TYPE_CHECKING:
    from jaxpaint.io.frames import Clip

TAP = "relu4_2"
VGG_LAYERS = (2, 2, 4, 2)

LEAST = {
    "width": 2,  # half of the filters are gates
    **dict.fromkeys(("batch", "look_every", "patience"), 1),
    **dict.fromkeys(("base", "coarse_steps", "steps", "regular_steps", "refine_steps", "warmup"), 0),
    "max_pixels": SMALLEST,
}
"""The least that fields of `Config` can be."""

SHIFTS = 2**32 - 2
"""Where the shifts of borrowed masks branch off a training run's key: at a step that no run reaches."""

NOTE = (
    "features='random': the anti-ambiguity loss looks through a VGG-19 with random weights here; "
    "it is not the published loss"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """How a clip is learnt. Ours; what `RELEASED` has instead, in brackets.

    width:    filters of the first layer before the split into features and gates (48, too)
    gain:     of gated kernels at the start [1]; near 3 the signal keeps its size, and learning begins sooner
    residual: the refiner adds to what it is given, beginning at nothing [makes the picture anew]
    batch:    frames a step (5, too)
    mixed:    frames of a batch are drawn from all over the clip, each with a shift of its own [consecutive, one shift]
    base:     shorter side of the size at which the clip is learnt as a whole; 0 is the clip's own [320; the released
              code gives up proportions, 320x600, and so loses the clip's own size]
    coarse_steps:  of the coarse stage alone [0]
    steps:         of both stages [50,000]
    regular_steps: of both stages with the two regularisers, a second phase [20,000 to 40,000, optional]
    stabilisation_weight: 0.2, of both stages' terms
    ambiguity_weight: of the anti-ambiguity loss [0.1, where there is a second phase]; 0 leaves it out, and its VGG-19
    features: VGG-19's weights: torchvision's published ones, prepared as these were trained [those of Keras], or random
    refine_steps:  of the refiner, at each size above the first; 0 only enlarges [0: no code for it was released]
    crop:     height and width of the crops that the refiner learns from
    max_pixels: of a tile in which the refiner fills large frames
    lr:       learning rate [0.0002]
    schedule: "cosine" to zero over each phase ["constant"], or "plateau": constant until the error on held-out known
              pixels falls no more, then to zero: early stopping
    warmup:   steps with a learning rate that rises from zero, of each phase [0]
    look_every, patience: of "plateau": steps between looks at held-out pixels, and how many without gain end it
    """

    width: int = 48
    gain: float = 2.5
    residual: bool = True
    batch: int = 5
    mixed: bool = True
    base: int = 96
    coarse_steps: int = 300
    steps: int = 0
    regular_steps: int = 0
    stabilisation_weight: float = 0.2
    ambiguity_weight: float = 0.0
    features: Literal["published", "random"] = "published"
    refine_steps: int = 150
    crop: tuple[int, int] = (96, 160)
    max_pixels: int = 512 * 512
    lr: float = 1e-3
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    warmup: int = 10
    look_every: int = 25
    patience: int = 4


RELEASED = Config(
    gain=1.0,
    residual=False,
    mixed=False,
    base=320,
    coarse_steps=0,
    steps=50_000,
    refine_steps=0,
    lr=2e-4,
    schedule="constant",
    warmup=0,
)
"""The numbers of the released code: ``jaxpaint inpaint-video --method iivi:released``."""


def build(config: Config, optim: Optim | None = None, dtype: jnp.dtype = jnp.float32) -> System:
    """The system: players ``generator`` and ``refiner``, each by itself."""
    _check(config)
    optim = optim or Optim()
    networks = parts(config, jnp.dtype(dtype))

    def batch_for(batch: Batch, rng: jax.Array) -> Batch:
        """A batch of frames as `objective` takes it: every frame's own hole is also the one that is rolled."""
        size = batch["image"].shape[1:3]
        key = jax.random.fold_in(rng, SHIFTS)
        shifts = jax.vmap(lambda position: draw_shifts(key, position, *size)[0])(batch["position"])
        hidden = hide(batch["mask"], batch["mask"], shifts)
        return {"frame": batch["image"], "own": batch["mask"], "hidden": hidden, "prior": halved(batch["image"])}

    def loss(phase: str, params, state, batch, rng, made):
        del made
        ready = batch_for(batch, state.rng)
        total, terms = objective(config, networks, phase, params, None, ready, rng)
        return total, ({}, terms)

    def inpaint(weights, batch, rng):
        del rng
        return _inpaint(config, networks, weights, batch)

    def stream(weights, clip, masks, key, say):
        # Clips are read with Pillow: whoever borrows a network does without.
        from jaxpaint.systems._iivi_levels import fill_clips

        weights = _with_features(config, listed, weights)
        fitted, filled = fill_clips(config, networks, [weights], [clip], [masks], [key], say)
        yield from filled[0]
        return fitted[0]

    tx = optimisers(optim, "generator", "refiner")
    players = [
        Player("generator", functools.partial(loss, "both"), tx["generator"]),
        Player("refiner", functools.partial(loss, "refine"), tx["refiner"]),
    ]
    listed = {
        "generator": Network(networks.generator, lambda batch: (batch["image"], batch["mask"])),
        "refiner": Network(networks.refiner, lambda batch: (batch["image"], batch["mask"], batch["image"])),
    }
    if networks.features is not None:
        published = "vgg19" if config.features == "published" else None
        listed["vgg19"] = Network(_vgg(dtype), lambda batch: (batch["image"],), published)
    averaged = [player.name for player in players] if optim.ema else []
    return System(
        init=begin(listed, players, averaged=averaged),
        update=play(players, averaged=averaged, ema=optim.ema, accumulate=optim.accumulate),
        inpaint=inpaint,
        networks=listed,
        notes=(NOTE,) if networks.features is not None and config.features == "random" else (),
        stream=stream,
        sees="all frames of the clip, which the network has learnt",
    )


def fill_together(
    config: Config,
    clips: Sequence["Clip"],
    masks: Sequence["Clip"],
    key: jax.Array,
    *,
    start: Weights | None = None,
    dtype: jnp.dtype = jnp.float32,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[list[Weights], list[Iterator[np.ndarray]]]:
    """Several clips of one size at once, each with networks of its own.

    On an accelerator steps are mapped over clips (`jax.vmap`), on a CPU clips take turns. Early stopping (plateau) is
    for single clips: here the rate falls after three quarters of the steps.

    Args:
      config: see `Config`
      clips, masks: see `jaxpaint.io.frames.Clip`
      key: of all; each clip's own is ``fold_in(key, number)``
      start: weights that all begin with
      dtype: of activations
      say: is told how far it is

    Returns:
      (the weights of each; its filled frames, uint8 h w 3, made as they are asked for)
    """
    from jaxpaint.systems._iivi_levels import fill_clips

    networks = parts(config, jnp.dtype(dtype))
    start = _with_features(config, build(config, dtype=dtype).networks, start or Weights(params={}))
    keys = [jax.random.fold_in(key, number) for number in range(len(clips))]
    return fill_clips(config, networks, [start] * len(clips), clips, masks, keys, say)


@functools.cache
def parts(config: Config, dtype: jnp.dtype) -> Networks:
    """The networks of a config; the same ones for the same config, so that programs are shared."""
    generator = Generator(width=config.width, gain=config.gain, dtype=dtype)
    refiner = Generator(width=config.width, gain=config.gain, residual=config.residual, dtype=dtype)
    if not (config.regular_steps and config.ambiguity_weight):
        return Networks(generator, refiner, None)
    vgg = _vgg(dtype)
    return Networks(generator, refiner, lambda params, picture: vgg.apply({"params": params}, picture)[1][TAP])


def _vgg(dtype: jnp.dtype) -> nn.Module:
    return VGG(layers=VGG_LAYERS, dtype=dtype)


def _with_features(config: Config, networks: Mapping[str, Network], weights: Weights) -> Weights:
    """Weights that have VGG-19's, where the anti-ambiguity loss is to look through it."""
    if "vgg19" not in networks or "vgg19" in weights.params:
        return weights
    if config.features == "published":
        raise InputError(
            "the anti-ambiguity loss looks through VGG-19: give weights with params['vgg19'] "
            "(jaxpaint.convert.features.load('vgg19', ...)), or set features='random' or ambiguity_weight=0"
        )
    features = random_variables(networks["vgg19"].module, seed=0)["params"]
    return weights.replace(params={**weights.params, "vgg19": features})


def _inpaint(config: Config, networks: Networks, weights: Weights, batch: Batch) -> jax.Array:
    """Pictures through the sizes of a clip: the generator at the first, the refiner, where there is one, above."""
    image, mask = batch["image"], batch["mask"]
    height, width = image.shape[1:3]
    padded, hole = pad_to_multiple(image, MULTIPLE), pad_to_multiple(mask, MULTIPLE)
    levels = sizes(height, width, config.base)
    result = None
    for number, size in enumerate(levels):
        last = number == len(levels) - 1
        frame, holes = (padded, hole) if last else _shrunk(padded, hole, size)
        if result is None:
            refine = config.steps + config.regular_steps > 0
            made, _ = networks.generator.apply(weights.variables("generator"), frame, holes, refine=refine)
        else:
            made = prior = jax.image.resize(result, frame.shape, "cubic")
            if "refiner" in weights.params and config.refine_steps:
                made, _ = networks.refiner.apply(weights.variables("refiner"), frame, holes, prior)
        result = composite(jnp.clip(made, -1, 1), frame, holes)
    return composite(result[:, :height, :width], image, mask)


def _shrunk(image: jax.Array, mask: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """A pixel of the shrunk mask is a hole where one weighs in it, however little; those are not looked at."""
    shape = (image.shape[0], *size)
    covered = jax.image.resize(mask, (*shape, 1), "linear")
    known = jnp.where(mask > 0.5, 0.0, image)
    return jax.image.resize(known, (*shape, 3), "linear"), (covered > 1e-6).astype(jnp.float32)


def halved(image: jax.Array) -> jax.Array:
    """Every 2x2 pixels their mean, where there are four: what a prior is like that was made at half the size."""
    height, width = (side // 2 * 2 for side in image.shape[1:3])
    means = einops.reduce(image[:, :height, :width], "b (h p) (w q) c -> b h w c", "mean", p=2, q=2)
    doubled = einops.repeat(means, "b h w c -> b (h p) (w q) c", p=2, q=2)
    missing = ((0, 0), (0, image.shape[1] - height), (0, image.shape[2] - width), (0, 0))
    return jnp.pad(doubled, missing, mode="edge")


def _check(config: Config) -> None:
    check_choices(config)
    for name, least in LEAST.items():
        if getattr(config, name) < least:
            raise InputError(f"{name} is {getattr(config, name)}: expected {least} or more")
    if not phases(config):
        raise InputError("a fit of no steps: set coarse_steps, steps or regular_steps")
    if config.regular_steps and not config.steps and not config.coarse_steps:
        raise InputError("regular_steps are a second phase: set steps, too")
    if any(side < MULTIPLE or side % MULTIPLE for side in config.crop):
        raise InputError(
            f"crop is {config.crop}: height and width must be {MULTIPLE} or more, and divisible by {MULTIPLE}"
        )


PAGE = Page(
    title="Internal Video Inpainting by Implicit Long-range Propagation, ICCV 2021, arXiv 2108.01912",
    config=Config,
    build=build,
    tiny=Config(width=8, base=0, coarse_steps=2, refine_steps=2, crop=(32, 32), warmup=0),
    watch="generator/final",
    internal=True,
    variants={"released": RELEASED},
)
