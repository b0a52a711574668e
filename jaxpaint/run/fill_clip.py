"""Clips and their masks, checked and filled frame by frame: what systems of pictures do with a video.

A few batches of frames are in memory, however long the clip is.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from jaxpaint.io.frames import Clip
from jaxpaint.run.fill import Filler
from jaxpaint.run.prepare import SMALLEST, Job, dilate
from jaxpaint.types import InputError

BATCH = 4
"""Frames at once on a device, where they are filled one by one."""

Run = Callable[..., list[np.ndarray]]
"""`jaxpaint.run.inpainter.Inpainter.run`."""


def check(clip: Clip, masks: Clip) -> None:
    """Raises InputError where a clip is too small, or its masks are not its own."""
    if min(clip.height, clip.width) < SMALLEST:
        size = f"{clip.height}x{clip.width}"
        raise InputError(f"{clip.name} is {size}: both sides must be {SMALLEST} pixels or more; enlarge it")
    clip.check_masks(masks)


def check_each(clip: Clip, masks: Clip) -> None:
    """Raises InputError where a frame has no known pixel: alone, it cannot be filled. Every mask is looked at."""
    lost = [index for index, mask in enumerate(masks) if mask.all()]
    if lost:
        raise InputError(
            f"{len(lost)} of {clip.count} frames are nothing but hole ({_numbers(lost)}), and this system fills each "
            "frame from its own known pixels: leave them out, or use a system that looks at other frames"
        )


def dilated(masks: Clip, pixels: int) -> Clip:
    """Masks with holes that reach `pixels` further to each side and corner, as `jaxpaint.run.prepare.dilate`.

    Raises:
      InputError: no pixel of any frame would stay known, or `pixels` is negative.
    """
    if pixels == 0:
        return masks

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        return (dilate(mask, pixels) for mask in masks.frames(start, stop))

    result = dataclasses.replace(masks, reader=read)
    if all(mask.all() for mask in result):
        raise InputError(f"{masks.name}: after dilation by {pixels} no known pixel is left in any frame")
    return result


def frame_by_frame(
    run: Run, filler: Filler, clip: Clip, masks: Clip, *, seed: int = 0, max_pixels: int | None = None
) -> Iterator[np.ndarray]:
    """Frames filled from themselves, in order: uint8 h w 3, known pixels bit for bit.

    One without a hole comes back as it is. A frame's position, by which noise is drawn, is its number in the clip.
    Batches are of one size, so that the last bits of a result do not depend on what was filled before.
    """
    size = min(BATCH, math.ceil(clip.count / filler.groups))
    pairs = enumerate(zip(clip, masks, strict=True))
    while chunk := list(itertools.islice(pairs, size * filler.groups)):
        jobs = [Job(frame, mask, index) for index, (frame, mask) in chunk]
        yield from run(jobs, seed=seed, batch_size=size, max_pixels=max_pixels, full=True)


def _numbers(frames: list[int]) -> str:
    """3, 4, 5, 6, 7, ..."""
    return ", ".join(map(str, frames[:5])) + (", ..." if len(frames) > 5 else "")
