"""Clips through IIVI, from a small size to their own (Ouyang et al., arXiv 2108.01912).

At the smallest size networks learn the clips as a whole and fill them. At every larger one the refiner is given the
last result, enlarged, learns from crops around the borders of holes what it lacks, and fills again: in tiles, where a
frame is large, and only where a tile has a hole. Between sizes, results lie on disk. So neither memory nor the time of
a step depends on the length of a clip, nor, above the first size, on that of its frames.

The paper's progressive scheme as far as released pieces show it; ours are the sizes (even ratios, two at most),
how crops are drawn, and the tiles.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxpaint.io.frames import Clip
from jaxpaint.io.store import Store
from jaxpaint.ops import tiles
from jaxpaint.ops.pad import pad_to
from jaxpaint.ops.pixels import from_uint8, to_uint8
from jaxpaint.systems._iivi_fit import (
    Footage,
    Networks,
    Phase,
    crops,
    descend,
    phases,
    sizes,
    whole_frames,
)
from jaxpaint.systems._iivi_held_out import HeldOut, held_out_error
from jaxpaint.train.state import Weights
from jaxpaint.types import InputError, PyTree


def fill_clips(
    config: Any,
    networks: Networks,
    weights: Sequence[Weights],
    clips: Sequence[Clip],
    masks: Sequence[Clip],
    keys: Sequence[jax.Array],
    say: Callable[[str], None],
) -> tuple[list[Weights], list[Iterator[np.ndarray]]]:
    """Learns clips, each with networks of its own, all at the same time.

    Args:
      config: of the page
      networks: see `Networks`
      weights: what each begins with; networks that are missing are drawn
      clips: of one size
      masks: of the clips
      keys: of each
      say: is told how far it is

    Returns:
      (the weights of each; its filled frames, uint8 h w 3, which are made as they are asked for)
    """
    _check(clips, masks)
    steps = sizes(clips[0].height, clips[0].width, config.base)
    frozen = weights[0].params.get("vgg19")
    learnt = [_begun(networks, one, key) for one, key in zip(weights, keys, strict=True)]
    small: list[Store] = []
    results: list[Iterator[np.ndarray]] = []
    for level, size in enumerate(steps):
        say(f"size {size[0]}x{size[1]} ({level + 1} of {len(steps)})")
        last = level == len(steps) - 1
        footage = [_footage(clip, mask, size, last) for clip, mask in zip(clips, masks, strict=True)]
        keys = [jax.random.fold_in(key, level) for key in keys]
        if level == 0:
            learnt = _fit_whole(config, networks, learnt, frozen, footage, keys, say)
            small = [one.masks for one in footage]
            results = [_whole(config, networks, one, params) for one, params in zip(footage, learnt, strict=True)]
        else:
            footage = [one._replace(priors=_enlarged(made, one)) for one, made in zip(footage, results, strict=True)]
            if config.refine_steps:
                learnt = _fit_crops(config, networks, learnt, footage, small, keys, say)
                results = [_refined(config, networks, one, params) for one, params in zip(footage, learnt, strict=True)]
            else:
                results = [_read(one) for one in footage]
    filled = [_pasted(clip, mask, made) for clip, mask, made in zip(clips, masks, results, strict=True)]
    kept = {"vgg19": frozen} if frozen is not None else {}
    return [Weights(params={**params, **kept}) for params in learnt], filled


def _check(clips: Sequence[Clip], masks: Sequence[Clip]) -> None:
    for clip, mask in zip(clips, masks, strict=True):
        clip.check_masks(mask)
        if (clip.height, clip.width) != (clips[0].height, clips[0].width):
            raise InputError(
                f"{clip.name} is {clip.height}x{clip.width}, {clips[0].name} {clips[0].height}x{clips[0].width}: clips "
                "that are learnt at once must have one size"
            )


def _begun(networks: Networks, weights: Weights, key: jax.Array) -> dict[str, PyTree]:
    """Parameters by network, drawn where there are none."""
    names = ("generator", "refiner")
    given = {name: weights.params[name] for name in names if name in weights.params}
    return given if len(given) == len(names) else {**_drawn(networks)(key), **given}


@functools.cache
def _drawn(networks: Networks) -> Callable:
    picture, mask = jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 32, 32, 1))

    def init(key: jax.Array) -> dict[str, PyTree]:
        first, second = jax.random.split(key)
        generator = networks.generator.init(first, picture, mask)["params"]
        return {"generator": generator, "refiner": networks.refiner.init(second, picture, mask, picture)["params"]}

    return jax.jit(init)


def _footage(clip: Clip, masks: Clip, size: tuple[int, int], last: bool) -> Footage:
    """A clip at one size: padded to it where it is the clip's own, else shrunk.

    A pixel of the shrunk frame is the mean of what it covers, and a hole where it covers any of one: nothing of what a
    hole holds gets out of it.
    """
    height, width = size

    def frame(picture: np.ndarray) -> np.ndarray:
        if last:
            return pad_to(picture, height, width)
        return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))

    def mask(hole: np.ndarray) -> np.ndarray:
        if last:
            return pad_to(hole, height, width)
        # 32 bits: a corner of a pixel is more than nothing.
        covered = Image.fromarray(hole[..., 0].astype(np.float32)).resize((width, height), Image.Resampling.BOX)
        return (np.asarray(covered) > 0).astype(np.uint8)[..., None]

    frames = Store.of(map(frame, clip), (clip.count, height, width, 3))
    return Footage(frames, Store.of(map(mask, masks), (clip.count, height, width, 1)))


def _fit_whole(config, networks, learnt, frozen, footage, keys, say) -> list[dict[str, PyTree]]:
    """At the first size: the coarse stage alone, both, and both with regularisers, as far as there are steps."""
    for number, (name, steps) in enumerate(phases(config)):
        part = [{"coarse_net": p["generator"]["coarse_net"]} if name == "coarse" else p["generator"] for p in learnt]
        full = [whole_frames(one, config, key) for one, key in zip(footage, keys, strict=True)]
        takes, look = full, None
        if config.schedule == "plateau" and len(footage) == 1:
            held = HeldOut(footage[0].masks)
            takes = [whole_frames(footage[0]._replace(masks=held), config, keys[0])]
            if held.looked_at:
                look = held_out_error(networks, footage[0], held, name != "coarse")
        keys = [jax.random.fold_in(key, number) for key in keys]
        phase = Phase(name, steps)
        part, _ = descend(config, networks, phase, part, frozen, takes, keys, final_takes=full, held_out=look, say=say)
        learnt = [
            {**before, "generator": {**before["generator"], **after}}
            for before, after in zip(learnt, part, strict=True)
        ]
    return learnt


def _fit_crops(config, networks, learnt, footage, small, keys, say) -> list[dict[str, PyTree]]:
    """At a larger size: the refiner, on crops."""
    seeds = [int(jax.random.bits(key)) for key in keys]
    takes = [
        crops(one, functools.partial(border_place, masks), config, seed)
        for one, masks, seed in zip(footage, small, seeds, strict=True)
    ]
    params = [params["refiner"] for params in learnt]
    params, _ = descend(config, networks, Phase("refine", config.refine_steps), params, None, takes, keys, say=say)
    return [{**before, "refiner": after} for before, after in zip(learnt, params, strict=True)]


def border_place(masks: Store, number: int, rng: np.random.Generator) -> tuple[float, float]:
    """A place on the border of a frame's hole, (down, right) in shares of its sides; anywhere where there is none."""
    hole = masks[number][..., 0] != 0
    around = np.pad(hole, 1, mode="edge")
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    places = np.argwhere(hole & ~inner)
    if not len(places):
        return tuple(rng.random(2))
    return tuple((places[rng.integers(len(places))] + rng.random(2)) / hole.shape)


def _whole(config: Any, networks: Networks, footage: Footage, params: PyTree) -> Iterator[np.ndarray]:
    """Frames with their holes filled by the generator, uint8 h w 3, so many at a time as a step has."""
    refine = config.steps + config.regular_steps > 0
    count = len(footage.frames)
    for start in range(0, count, config.batch):
        numbers = np.minimum(np.arange(start, start + config.batch), count - 1)  # the last batch is filled up
        frames, holes = footage.frames[numbers], footage.masks[numbers]
        if holes.any():
            frames = np.asarray(_generated(networks, refine, params["generator"], frames, holes))
        yield from frames[: count - start]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generated(networks: Networks, refine: bool, params: PyTree, frames: jax.Array, masks: jax.Array) -> jax.Array:
    hole = (masks != 0).astype(jnp.float32)
    result, _ = networks.generator.apply({"params": params}, from_uint8(frames), hole, refine=refine)
    return jnp.where(hole > 0, to_uint8(result), frames)


def _enlarged(results: Iterator[np.ndarray], footage: Footage) -> Store:
    """Results of the last size at this one."""
    count, height, width, _ = footage.frames.shape
    large = (Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC) for one in results)
    return Store.of(map(np.asarray, large), (count, height, width, 3))


def _refined(config: Any, networks: Networks, footage: Footage, params: PyTree) -> Iterator[np.ndarray]:
    """Frames with their holes filled by the refiner, uint8 h w 3, in tiles that have a hole."""
    _, height, width, _ = footage.frames.shape
    for number in range(len(footage.frames)):
        frame, mask, prior = footage.frames[number], footage.masks[number], footage.priors[number]
        if height * width <= config.max_pixels:
            parts = [tiles.Tile(0, 0, height, width)] if mask.any() else []
        else:
            parts = tiles.plan(mask, config.max_pixels)
        made = []
        for tile in parts:
            given = (x[tile.window][None] for x in (frame, mask, prior))
            made.append((tile, np.asarray(_improved(networks, params["refiner"], *given)[0])))
        if made:
            levels = np.clip(np.rint((tiles.blend(made, height, width) + 1) * 127.5), 0, 255).astype(np.uint8)
            frame = np.where(mask != 0, levels, frame)
        yield frame


@functools.partial(jax.jit, static_argnums=0)
def _improved(networks: Networks, params: PyTree, frame: jax.Array, mask: jax.Array, prior: jax.Array) -> jax.Array:
    hole = (mask != 0).astype(jnp.float32)
    return networks.refiner.apply({"params": params}, from_uint8(frame), hole, from_uint8(prior))[0]


def _read(footage: Footage) -> Iterator[np.ndarray]:
    """The enlarged results alone, where nothing is refined."""
    return (footage.priors[number] for number in range(len(footage.priors)))


def _pasted(clip: Clip, masks: Clip, results: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The clip's frames, bit for bit, with what was made in their holes."""
    for frame, hole, made in zip(clip, masks, results, strict=True):
        yield np.where(hole != 0, made[: clip.height, : clip.width], frame)
