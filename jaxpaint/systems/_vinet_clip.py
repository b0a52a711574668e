"""How VINet fills clips: from constant memory, frame by frame, or a short clip at once.

Two protocols:

| | "sound" | "released" (the authors' demo, demo_vi.py) |
|---|---|---|
| frames and masks | as they are, padded to a multiple | resized to 256x256 (512x512), bilinear, both |
| hole | the mask | what the resized mask touches, grown 4 up, 5 down, 2 left, 3 right |
| before the clip | nothing | its first 30 frames in reverse, filled and thrown away |
| ConvLSTM | its memory is carried | emptied before every frame |
| frames that come out | all | all but the first |
| known pixels | as they were, bit for bit | the network's |
| values | rounded | cut off |

The demo takes no clip of less than 30 frames, and neither does "released". Its frames come out at the size of the
network: figures under it are those of a clip that was brought to that size before. What is left out of it: masks with
several objects (clips here have one hole), and OpenCV's fixed-point resizing, from which ours differs by one level of
255 at most.

A step sees features of the frames t-6, t-3, t+3 and t+6; features of the 13 frames around t are kept, and the 7 frames
from t on, and nothing else of the clip.
"""

import collections
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.models.vinet import CENTRE, OFFSETS, VINet, window
from jaxpaint.ops.internal import resize_without_antialiasing
from jaxpaint.ops.pad import pad_to_multiple, unpad
from jaxpaint.ops.pixels import from_uint8, to_uint8
from jaxpaint.train import Weights
from jaxpaint.types import InputError

if TYPE_CHECKING:  # it reads with Pillow: whoever borrows the network does without
    from jaxpaint.io.frames import Clip

REACH = max(OFFSETS)
WARM_UP = 30

OTHERS = np.delete(np.arange(len(OFFSETS)), CENTRE)

Pair = tuple[np.ndarray, np.ndarray]
"""A frame, uint8 h w 3, and its mask, uint8 h w 1."""

SEES = {
    "sound": "frames t-6, t-3, t, t+3, t+6 and what was painted before; ConvLSTM carried",
    "released": f"frames t-6, t-3, t, t+3, t+6 and the last output, after a warm-up of {WARM_UP} frames in reverse; "
    "ConvLSTM emptied before every frame; resized, known pixels repainted, frame 0 not written",
}


def fill(module: VINet, variables: dict, frames: jax.Array, masks: jax.Array) -> jax.Array:
    """A whole clip, the memory carried: b t h w 3 in [-1, 1] and b t h w 1 -> b t h w 3, nothing composited. Pure."""
    batch, count, height, width, _ = frames.shape
    features = module.apply(variables, frames, masks, method="encode")
    others = jnp.asarray(np.stack([window(time, count)[OTHERS] for time in range(count)]))

    def step(state, seen):
        frame, mask, places = seen
        near = jax.tree.map(lambda x: x[:, places], features)
        state, out = module.apply(variables, state, frame, mask, near, method="step")
        return state, out["picture"]

    each = jnp.moveaxis(frames, 1, 0), jnp.moveaxis(masks, 1, 0), others
    _, pictures = jax.lax.scan(step, module.begin(batch, height, width), each)
    return jnp.moveaxis(pictures, 0, 1)


def streamer(module: VINet, side: int, protocol: str) -> Callable:
    """The ``stream`` of `jaxpaint.train.System`.

    Args:
      module: the network
      side: of the squares of the released protocol
      protocol: "sound" or "released"
    """

    @jax.jit
    def encode(weights: Weights, frame: jax.Array, mask: jax.Array):
        frame, mask = _as_batch(frame, mask)
        return module.apply(weights.variables("vinet"), frame[:, None], mask[:, None], method="encode")

    @jax.jit
    def step(weights: Weights, state, frame: jax.Array, mask: jax.Array, *near):
        """(the next state, what was painted, uint8, and whether all of it is finite)."""
        frame, mask = _as_batch(frame, mask)
        near = jax.tree.map(lambda *maps: jnp.concatenate(maps, axis=1), *near)
        if protocol == "released":
            state = state._replace(memory=jax.tree.map(jnp.zeros_like, state.memory))
        state, out = module.apply(weights.variables("vinet"), state, frame, mask, near, method="step")
        picture = out["picture"][0]
        levels = _cut_off(picture) if protocol == "released" else to_uint8(picture)
        return state, levels, jnp.isfinite(picture).all()

    def painted(weights: Weights, pairs: Iterator[Pair], count: int, name: str) -> Iterator[tuple[np.ndarray, ...]]:
        """(frame, mask, what the network makes of it) for `count` frames, whose sides it can take; all uint8."""
        features, waiting, state, read = {}, collections.deque(), None, 0
        for time in range(count):
            while read <= min(time + REACH, count - 1):
                waiting.append(next(pairs))
                features[read] = encode(weights, *waiting[-1])
                read += 1
            frame, mask = waiting.popleft()
            state = module.begin(1, *frame.shape[:2]) if state is None else state
            near = [features[place] for place in window(time, count)[OTHERS]]
            state, picture, finite = step(weights, state, frame, mask, *near)
            features.pop(time - REACH, None)
            if not finite:
                raise InputError(
                    f"the network's result for step {time} of {name} is not finite: the weights are broken, or "
                    "precision is too low (try float32)"
                )
            yield frame, mask, np.asarray(picture)

    def sound(weights: Weights, clip: "Clip", masks: "Clip") -> Iterator[np.ndarray]:
        def padded() -> Iterator[Pair]:
            for pair in zip(clip, masks, strict=True):
                yield tuple(pad_to_multiple(x, module.multiple) for x in pair)

        for frame, mask, picture in painted(weights, padded(), clip.count, clip.name):
            yield unpad(np.where(mask > 0, picture, frame), clip.height, clip.width)

    def released(weights: Weights, clip: "Clip", masks: "Clip") -> Iterator[np.ndarray]:
        def prepared() -> Iterator[Pair]:
            backwards = ((*clip.frames(i, i + 1), *masks.frames(i, i + 1)) for i in range(WARM_UP - 1, -1, -1))
            for frame, mask in itertools.chain(backwards, zip(clip, masks, strict=True)):
                # 255 where the hole is: whatever the resizing leaves of it counts.
                yield resized(frame, side, side), grown(resized(255 * mask, side, side))

        results = painted(weights, prepared(), WARM_UP + clip.count, clip.name)
        for _, _, picture in itertools.islice(results, WARM_UP + 1, None):
            yield picture

    def stream(weights: Weights, clip: "Clip", masks: "Clip", key: jax.Array, say: Callable) -> Iterator[np.ndarray]:
        del key
        if clip.count < 2:
            raise InputError(f"{clip.name} has one frame, and VINet fills frames from others: give two or more")
        clip.check_masks(masks)
        if protocol == "sound":
            return sound(weights, clip, masks)
        if clip.count < WARM_UP:
            raise InputError(
                f"{clip.name} has {clip.count} frames: the released protocol warms up on the first {WARM_UP}; give "
                "a longer clip, or protocol='sound'"
            )
        say(f"{WARM_UP} frames of warm-up come first")
        return released(weights, clip, masks)

    return stream


_resized = jax.jit(resize_without_antialiasing, static_argnums=(1, 2))


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with half-pixel centres and no smoothing, as OpenCV's INTER_LINEAR: uint8 h w c -> height width c."""
    return np.rint(_resized(image[None], height, width)[0]).astype(np.uint8)


def grown(mask: np.ndarray) -> np.ndarray:
    """The demo's dilation by a box of 10x6: whatever is set grows 4 up, 5 down, 2 left and 3 right; uint8 h w 1."""
    mask = mask > 0
    for axis, before, after in ((0, 5, 4), (1, 3, 2)):
        around = [(before, after) if axis == other else (0, 0) for other in range(mask.ndim)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(mask, around), before + 1 + after, axis)
        mask = windows.any(-1)
    return mask.astype(np.uint8)


def _as_batch(frame: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    return from_uint8(frame)[None], mask.astype(jnp.float32)[None]


def _cut_off(picture: jax.Array) -> jax.Array:
    """The demo's way to uint8: clipped, and no rounding."""
    return (jnp.clip((picture + 1) / 2, 0, 1) * 255).astype(jnp.uint8)
