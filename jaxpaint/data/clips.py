"""Examples from clips: windows of frames as pure functions of (seed, position).

Of a clip an example takes a few frames at some stride, from some frame on, cut and mirrored alike. What is drawn for
the example at a position hangs on (seed, position) and the files alone, as for pictures: a run that starts at step N
makes the batches of an unbroken one.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxpaint.data import draws
from jaxpaint.data.broken import Broken
from jaxpaint.data.clip_sources import FolderClips, FolderMasks
from jaxpaint.data.config import Data
from jaxpaint.data.geometry import Window, cut, cut_mask
from jaxpaint.data.plan import Plan
from jaxpaint.data.prefetch import Prefetch
from jaxpaint.types import InputError

_START, _STRIDE, _BACKWARD, _OTHER, _OTHER_START = range(100, 105)  # purposes of draws, behind those of pictures


def span(data: Data) -> int:
    """Frames that an example reaches over, at the least."""
    return (data.frames - 1) * data.stride[0] + 1


def frame_numbers(data: Data, seed: int, position: int, length: int, name: str = "a clip") -> np.ndarray:
    """Which frames of a clip the example at a position takes: int64 t, at an even stride, forward or backward.

    Args:
      length: frames of the clip.
      name: what an error calls it.

    Raises:
      InputError: the clip is too short for the least stride.
    """
    if length < span(data):
        raise InputError(
            f"{name} has {length} frames, and an example of {data.frames} at stride {data.stride[0]} spans "
            f"{span(data)}: leave it out, or lower data.frames or data.stride"
        )
    gaps = data.frames - 1
    most = min(data.stride[1], (length - 1) // gaps) if gaps else data.stride[0]
    stride = data.stride[0] + _draw(seed, _STRIDE, position, most - data.stride[0] + 1)
    start = _draw(seed, _START, position, length - gaps * stride)
    numbers = start + stride * np.arange(data.frames)
    return numbers[::-1] if data.backward and _draw(seed, _BACKWARD, position, 2) else numbers


def mask_entry(data: Data) -> str:
    """The entry of a batch with masks from files: "objects" where they are another clip's, to be set in motion."""
    return "objects" if data.frames and data.mask_pairing == "seed" else "mask"


class ClipMasks:
    """The masks of an example: those of its frames, or of another clip.

    Args:
      data: `masks`, `mask_pairing`, `mask_convention`, `frames` and `size` are read.
      source: of the clips; of the masks, too, where `data.masks` is "".

    Raises:
      InputError: no such folder; paired by name, a clip without masks or with another number of them; drawn, a clip of
        masks that is too short, or no other clip than its own.
    """

    def __init__(self, data: Data, source):
        self.data, self.source = data, source
        self.masks = FolderMasks(data.masks, data.mask_convention) if data.masks else source
        numbers = {self.masks.label(number): number for number in range(len(self.masks))}
        labels = [source.label(index) for index in range(len(source))]
        self.own = [numbers.get(label) for label in labels]
        """For each clip the number of its masks, None where there are none of its name."""
        name, count = self.masks.name, len(self.masks)
        if data.mask_pairing == "name":
            self._check_pairs()
            return
        short = [self.masks.label(n) for n in range(count) if self.masks.length(n) < data.frames]
        if short:
            raise InputError(f"{name}: fewer masks than the {data.frames} frames of an example: {_few(short)}")
        if count == 1 and 0 in self.own:
            raise InputError(f"data.mask_pairing is 'seed', and {name} has a single clip: there is no other one")

    def _check_pairs(self) -> None:
        if self.masks is self.source:
            return
        if not isinstance(self.source, FolderClips):
            raise InputError(
                f"data.mask_pairing is 'name', but {self.source.name} has no file names: set data.mask_pairing = 'seed'"
            )
        lost = [self.source.label(index) for index, own in enumerate(self.own) if own is None]
        if lost:
            raise InputError(
                f"{len(lost)} of {len(self.own)} clips have no folder of their name in {self.masks.root}: {_few(lost)}"
                "; or set data.mask_pairing = 'seed' to draw another clip's masks"
            )
        for index, own in enumerate(self.own):
            frames, masks = self.source.length(index), self.masks.length(own)
            if frames != masks:
                raise InputError(
                    f"clip {self.source.label(index)} of {self.source.name} has {frames} frames and {masks} masks: "
                    "one for each is expected; or set data.mask_pairing = 'seed' to draw another clip's masks"
                )

    def make(self, seed: int, position: int, index: int, numbers: np.ndarray, where: Window, flip: bool) -> np.ndarray:
        """uint8 t h w 1, 1 = hole; it may be empty.

        Args:
          seed, position: select masks of another clip.
          index, numbers, where, flip: the clip, its frames, their window and whether they are mirrored.
        """
        if self.data.mask_pairing == "name":
            return _stacked([self._cut(self.own[index], number, where) for number in numbers], flip)
        own = self.own[index]
        other = _draw(seed, _OTHER, position, len(self.masks) - (own is not None))
        if own is not None:
            other = (own + 1 + other) % len(self.masks)
        start = _draw(seed, _OTHER_START, position, self.masks.length(other) - self.data.frames + 1)
        whole = Window(*self.data.size, 0, 0)
        return _stacked([self._cut(other, start + number, whole) for number in range(self.data.frames)], False)

    def _cut(self, index: int, number: int, where: Window) -> np.ndarray:
        return cut_mask(self.masks.mask(index, int(number)), where, self.data.size)


def clip_batches(data: Data, source, plan: Plan, broken: Broken, start_step: int) -> Prefetch:
    """The batches from `start_step` on, made ahead; see `jaxpaint.data.pipeline.stream`.

    A clip of which an example cannot be read is noted as broken, and the next one takes its place: for this example,
    since others of the clip may have other frames.

    Raises:
      InputError: here, a clip is too short, or masks do not fit; while iterating, too many broken clips, or a broken
        mask.
    """
    _check_lengths(data, source)
    masks = ClipMasks(data, source) if data.masks or source.masks is not None else None
    entry = mask_entry(data)
    pool = ThreadPoolExecutor(min(plan.share, os.cpu_count() or 1), "clips")

    def example(drawn) -> dict[str, np.ndarray]:
        position, index, down, right, flip = drawn
        position, index = int(position), int(index)
        while True:
            try:
                frames, numbers, where = _frames(data, source, plan, position, index, down, right)
                break
            except InputError as error:
                broken.add(index, str(error))
                index = plan.next(index)
        made = {"image": _stacked(frames, flip), "position": np.uint32(position & 0xFFFFFFFF)}
        return made | ({entry: masks.make(plan.seed, position, index, numbers, where, flip)} if masks else {})

    def make(step: int) -> dict[str, np.ndarray]:
        examples = list(pool.map(example, zip(*plan.step(step), strict=True)))
        return {name: np.stack([one[name] for one in examples]) for name in examples[0]}

    return Prefetch(make, start_step)


def _frames(data: Data, source, plan: Plan, position: int, index: int, down: float, right: float) -> tuple:
    """(the frames of an example, their numbers, their window). Raises InputError where a frame cannot be used."""
    numbers = frame_numbers(data, plan.seed, position, source.length(index), source.label(index))
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
        frames.append(cut(frame, where, data.size))
    return frames, numbers, where


def _check_lengths(data: Data, source) -> None:
    needed = span(data)
    short = [index for index in range(len(source)) if source.length(index) < needed] if source.counted else []
    if short:
        raise InputError(
            f"{source.name}: {len(short)} of {len(source)} clips have fewer than the {needed} frames that an example "
            f"spans: {_few([f'{source.label(index)} ({source.length(index)})' for index in short])}; remove them, or "
            "lower data.frames or data.stride"
        )


def _stacked(frames: list[np.ndarray], flip: bool) -> np.ndarray:
    frames = np.stack(frames)
    return frames[:, :, ::-1] if flip else frames


def _draw(seed: int, purpose: int, position: int, count: int) -> int:
    """A whole number from 0 to count - 1."""
    return int(draws.uniform(seed, purpose, np.array([position]))[0] * count)


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
