"""Clips for training: windows of frames as pure functions of (seed, position).

A source is a list of clips; of each, an example takes a few frames at some stride, from some frame on, cut and
mirrored alike. What is drawn for the example at a position hangs on (seed, position) and the files alone, as for
pictures (`jaxpaint.data.pipeline`): a run that starts at step N makes the batches of an unbroken one.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxpaint.data import draws
from jaxpaint.data.config import Data
from jaxpaint.data.geometry import Window, cut, cut_mask
from jaxpaint.data.plan import Plan
from jaxpaint.data.prefetch import Prefetch
from jaxpaint.types import InputError

_START, _STRIDE, _BACKWARD, _OTHER, _OTHER_START = range(100, 105)  # purposes of draws, behind those of pictures


@dataclass
class Windows:
    """How an example is cut from a clip.

    frames:   of an example
    stride:   the least and the most frames from one to the next (1 is every frame); a shorter clip takes what fits
    size:     height and width of an example
    fit:      "crop", "resize" or "shorter", as in `jaxpaint.data.Data`; the same window in all frames
    flip:     mirror left and right with probability 1/2
    backward: run backward with probability 1/2
    masks:    where the source has masks: "own", the clip's own, of the same frames and window; "other", those of
              another clip that is drawn, consecutive from some frame on, resized to `size` by nearest neighbour: what
              `jaxpaint.ops.masks.moving.paste` puts in motion
    shuffle:  a new order of the clips in every epoch; an epoch takes one example from each clip
    """

    frames: int = 5
    stride: tuple[int, int] = (1, 1)
    size: tuple[int, int] = (256, 256)
    fit: Literal["crop", "resize", "shorter"] = "crop"
    flip: bool = False
    backward: bool = False
    masks: Literal["own", "other"] = "own"
    shuffle: bool = True


def frame_numbers(windows: Windows, seed: int, position: int, length: int) -> np.ndarray:
    """Which frames of a clip the example at a position takes: int64 t, at an even stride, forward or backward.

    Args:
      length: frames of the clip.

    Raises:
      InputError: the clip is too short for the least stride.
    """
    if length < _span(windows):
        raise InputError(
            f"a clip of {length} frames: an example of {windows.frames} at stride {windows.stride[0]} spans "
            f"{_span(windows)}; leave it out, or lower windows.frames or windows.stride"
        )
    gaps = windows.frames - 1
    most = min(windows.stride[1], (length - 1) // gaps) if gaps else windows.stride[0]
    stride = windows.stride[0] + _draw(seed, _STRIDE, position, most - windows.stride[0] + 1)
    start = _draw(seed, _START, position, length - gaps * stride)
    numbers = start + stride * np.arange(windows.frames)
    return numbers[::-1] if windows.backward and _draw(seed, _BACKWARD, position, 2) else numbers


def clip_stream(
    source, windows: Windows, *, batch: int, seed: int, start_step: int = 0, process: int = 0, processes: int = 1
) -> Prefetch:
    """Batches of windows without end, from `start_step` on, made ahead by a thread.

    Args:
      source: of `jaxpaint.data.clip_sources`, or what has their methods.
      windows: how an example is cut.
      batch: examples of a step, over all processes.
      seed: of all draws.
      start_step: the first step.
      process, processes: which part of each batch this process makes.

    Returns:
      An iterator, to be closed, over, with b = batch / processes:
      ``image``    uint8 b t h w 3
      ``position`` uint32 b
      ``mask``     uint8 b t h w 1 in {0, 1}, 1 = hole, where the source has masks; it may be empty

    Raises:
      InputError: here, on a bad field, a clip that is too short, or a batch that cannot be divided; while iterating,
        on a broken frame, or one of another size than its clip's first.
    """
    _check(windows, source)
    data = Data(size=windows.size, fit=windows.fit, flip=windows.flip, shuffle=windows.shuffle)
    plan = Plan(data, len(source), batch=batch, seed=seed, process=process, processes=processes)

    def make(step: int) -> dict[str, np.ndarray]:
        examples = [_example(source, windows, plan, *drawn) for drawn in zip(*plan.step(step), strict=True)]
        return {name: np.stack([example[name] for example in examples]) for name in examples[0]}

    return Prefetch(make, start_step)


def _example(source, windows: Windows, plan: Plan, position, index, down, right, flip) -> dict[str, np.ndarray]:
    """One example; the arguments behind the plan are an entry of `plan.Examples`."""
    position, index = int(position), int(index)
    numbers = frame_numbers(windows, plan.seed, position, source.length(index))
    where, shape, frames = None, None, []
    for number in numbers:
        frame = source.frame(index, int(number))
        if where is None:
            shape, where = frame.shape, plan.window(*frame.shape[:2], down, right)
        if frame.shape != shape:
            raise InputError(
                f"{source.name}, clip {source.label(index)}: frame {number} is {frame.shape[0]}x{frame.shape[1]}, and "
                f"frame {numbers[0]} is {shape[0]}x{shape[1]}: all frames of a clip must have one size"
            )
        frames.append(cut(frame, where, windows.size))
    made = {"image": _turned(frames, flip), "position": np.uint32(position)}
    if source.masked:
        if windows.masks == "other":
            index, numbers = _other(source, windows, plan.seed, position, index)
            where = Window(*windows.size, 0, 0)
        masks = [cut_mask(source.mask(index, int(number)), where, windows.size) for number in numbers]
        made["mask"] = _turned(masks, flip and windows.masks == "own")
    return made


def _other(source, windows: Windows, seed: int, position: int, index: int) -> tuple[int, np.ndarray]:
    """(another clip, its frames): consecutive ones."""
    other = (index + 1 + _draw(seed, _OTHER, position, len(source) - 1)) % len(source)
    start = _draw(seed, _OTHER_START, position, source.length(other) - windows.frames + 1)
    return other, start + np.arange(windows.frames)


def _turned(frames: list[np.ndarray], flip: bool) -> np.ndarray:
    frames = np.stack(frames)
    return frames[:, :, ::-1] if flip else frames


def _draw(seed: int, purpose: int, position: int, count: int) -> int:
    """A whole number from 0 to count - 1."""
    return int(draws.uniform(seed, purpose, np.array([position]))[0] * count)


def _span(windows: Windows) -> int:
    """Frames that an example reaches over, at the least."""
    return (windows.frames - 1) * windows.stride[0] + 1


def _check(windows: Windows, source) -> None:
    for field, allowed in (("fit", ("crop", "resize", "shorter")), ("masks", ("own", "other"))):
        if getattr(windows, field) not in allowed:
            raise InputError(f"windows.{field} is {getattr(windows, field)!r}: expected one of {', '.join(allowed)}")
    if len(windows.size) != 2 or min(windows.size) < 1:
        raise InputError(f"windows.size is {windows.size}: expected (height, width), both at least 1")
    if windows.frames < 1 or len(windows.stride) != 2 or not 1 <= windows.stride[0] <= windows.stride[1]:
        raise InputError(
            f"windows.frames is {windows.frames} and windows.stride {windows.stride}: expected 1 frame or more, and "
            "(least, most) frames from one to the next, 1 or more"
        )
    needed = _span(windows)
    short = [index for index in range(len(source)) if source.length(index) < needed] if source.counted else []
    if short:
        few = ", ".join(f"{source.label(index)} ({source.length(index)})" for index in short[:5])
        raise InputError(
            f"{source.name}: {len(short)} of {len(source)} clips have fewer than the {needed} frames that an example "
            f"spans: {few}{', ...' if len(short) > 5 else ''}; remove them, or lower windows.frames or windows.stride"
        )
    if source.masked and windows.masks == "other" and len(source) < 2:
        raise InputError(f"windows.masks is 'other', and {source.name} has a single clip")
