"""``jaxpaint retarget``: a clip in another shape, in which what is masked keeps its own.

The object is cut out, the hole is filled, the filled frame is stretched to the new size, and the object is put back:
the use that VINet's authors show (arXiv 1905.01639). What a mask holds is one object, however many parts it has.

The object is scaled like the height of the frame, or by less where the largest of its boxes would not fit, the same in
all frames. What room there is beside its box is shared out between left and right, and above and below, as it was: so
its place scales with the frame, it never leaves it, and what is cut off by the border stays at the border. At scale 1
it is moved by whole pixels, and its own pixels do not change; otherwise it is resampled and its edge is soft for a
pixel or two.
"""

import argparse
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxpaint.run.console import plain
from jaxpaint.run.flags import add_result, add_source, add_subject, opened
from jaxpaint.run.prepare import SMALLEST
from jaxpaint.types import InputError

MARGIN = 4
"""Pixels around an object that its resampling may look at."""

EPILOG = """the mask is the object that keeps its shape: it is cut out, the hole is filled, the filled frame is
stretched, and the object is put back, scaled like the frame's height (--object-scale: otherwise). --mask-dilate and
--mask-widen grow the hole alone: give a few pixels, so that nothing of the object's edge stays in the background.

--model.FIELD=VALUE sets a field of the system's config that the weights do not depend on (see its page).

exit status: 0 done, 2 bad input."""


class Box(NamedTuple):
    """A rectangle of pixels: rows top to bottom, columns left to right, the last ones not included."""

    top: float
    bottom: float
    left: float
    right: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``jaxpaint retarget``."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EPILOG
    add_source(parser)
    parser.add_argument("--size", metavar="HxW", type=_size, required=True, help="height and width of the result")
    parser.add_argument("--object-scale", metavar="S", type=float, help="default: that of the frame's height")
    add_subject(parser, method=True)
    add_result(parser)


def main(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit status.

    Raises:
      InputError: nothing could be done.
    """
    from jaxpaint.run.cache import use_cache
    from jaxpaint.run.clip_command import Progress, check_result, source, tell_of, written

    use_cache()
    with plain(arguments.verbose):
        clip, masks, holes = source(arguments)
        scale = object_scale(masks, arguments.size, arguments.object_scale)
        inpainter = opened(arguments)
        given = inpainter.extent(clip)
        check_result(arguments.out, clip, (arguments.clip, arguments.masks), arguments.overwrite, given.first)
        tell_of(clip, holes, given, arguments.out, lossless=True)  # no pixel is what it was, whatever the format
        how = {"audio": not arguments.no_audio, "crf": arguments.crf, "lossless": arguments.lossless}
        how |= {"size": arguments.size, "first": given.first}
        limit = arguments.max_pixels or None
        with (
            Progress(clip.count - given.first, arguments.verbose) as progress,
            written(arguments.out, clip, **how) as put,
        ):
            filled = inpainter.stream(clip, holes, seed=arguments.seed, say=progress.say, max_pixels=limit)
            objects = clip.frames(given.first), masks.frames(given.first)
            for frame in retargeted(*objects, filled, arguments.size, scale):
                put(frame)
                progress.step()
        print(progress.result(arguments.out))
    return 0


def object_scale(masks: Iterable[np.ndarray], size: tuple[int, int], wanted: float | None = None) -> float:
    """By how much an object is scaled: as the height of the frame, or as `wanted`; less where it would not fit.

    Args:
      masks: of a clip, uint8 h w 1, 1 = object, in one frame at least.
      size: height and width of the result.
      wanted: the scale.
    """
    if wanted is not None and not wanted > 0:
        raise InputError(f"--object-scale is {wanted}: expected more than 0")
    height = width = 1
    for mask in masks:
        scale = size[0] / len(mask) if wanted is None else wanted
        box = box_of(mask)
        if box is not None:
            height, width = max(height, box.bottom - box.top), max(width, box.right - box.left)
    return min(scale, size[0] / height, size[1] / width)


def retargeted(
    clip: Iterable[np.ndarray],
    masks: Iterable[np.ndarray],
    filled: Iterable[np.ndarray],
    size: tuple[int, int],
    scale: float,
) -> Iterator[np.ndarray]:
    """The frames of a clip in another size, in order: uint8 h w 3.

    Args:
      clip: the frames with the object.
      masks: where it is, 1 = object.
      filled: the frames without it.
      size: height and width of the result.
      scale: of the object.
    """
    for frame, mask, background in zip(clip, masks, filled, strict=True):
        yield put_back(stretched(background, size), frame, mask, scale)


def stretched(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 h w 3 in another size, without aliasing (Pillow's bicubic)."""
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BICUBIC))


def put_back(background: np.ndarray, frame: np.ndarray, mask: np.ndarray, scale: float) -> np.ndarray:
    """A background with the object of a frame on it.

    Args:
      background: uint8 H W 3.
      frame: uint8 h w 3, with the object.
      mask: uint8 h w 1, 1 = object.
      scale: of the object, which must fit.
    """
    from PIL import Image

    box = box_of(mask)
    if box is None:
        return background
    top = _place(box.top, box.bottom, mask.shape[0], background.shape[0], scale)
    left = _place(box.left, box.right, mask.shape[1], background.shape[1], scale)
    if scale == 1:
        top, left = round(top), round(left)
    # The whole pixels of the result that the object may reach, and where they lie in the frame.
    rows = _span(top, top + scale * (box.bottom - box.top), background.shape[0])
    columns = _span(left, left + scale * (box.right - box.left), background.shape[1])
    pad = MARGIN + int(np.ceil(MARGIN / scale))
    area = (
        box.left + (columns.start - left) / scale + pad,
        box.top + (rows.start - top) / scale + pad,
        box.left + (columns.stop - left) / scale + pad,
        box.top + (rows.stop - top) / scale + pad,
    )
    layer = np.concatenate([frame, mask * np.uint8(255)], -1)
    layer = np.pad(layer, ((pad, pad), (pad, pad), (0, 0)), mode="edge")  # what the border cuts off, goes on
    shape = columns.stop - columns.start, rows.stop - rows.start
    # Pillow weighs colours by their alpha: nothing of what surrounds the object gets into it.
    layer = np.asarray(Image.fromarray(layer).resize(shape, Image.Resampling.BILINEAR, box=area))
    alpha = layer[..., 3:].astype(np.float32) / 255
    result = background.copy()
    behind = background[rows, columns].astype(np.float32)
    result[rows, columns] = np.rint(alpha * layer[..., :3] + (1 - alpha) * behind).astype(np.uint8)
    return result


def box_of(mask: np.ndarray) -> Box | None:
    """The smallest box around all that a mask holds; None where that is nothing."""
    rows, columns = np.flatnonzero(mask.any((1, 2))), np.flatnonzero(mask.any((0, 2)))
    if not len(rows):
        return None
    return Box(rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)


def _place(first: float, last: float, side: int, new_side: int, scale: float) -> float:
    """Where a box from `first` to `last` of a side begins in the new side: its room is shared out as it was."""
    room, new_room = side - (last - first), new_side - scale * (last - first)
    return new_room * (first / room if room else 0.5)


def _span(first: float, last: float, side: int) -> slice:
    """The whole pixels from one before `first` to one behind `last`."""
    return slice(max(int(np.floor(first)) - 1, 0), min(int(np.ceil(last)) + 1, side))


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if not found or min(map(int, found.groups())) < SMALLEST:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected height x width, such as 480x480, of {SMALLEST} pixels or more"
        )
    return int(found[1]), int(found[2])
