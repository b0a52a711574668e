"""Clips: what a video is on the host. Frames as arrays or as a folder of pictures; `io/video.py` adds containers.

A `Clip` is a record and a way to begin reading, not a list of frames: however long it is, one frame is in memory at a
time. It can be read as often as wanted, from any frame on.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxpaint.data.decode import decode, read_header
from jaxpaint.data.frames import frame_files
from jaxpaint.data.prefetch import Prefetch
from jaxpaint.io.atomic import replacing
from jaxpaint.types import InputError

RATE = Fraction(24)
"""Frames a second of arrays and folders, which do not say it themselves."""

Put = Callable[[np.ndarray], None]
"""What a sink gives: takes the next frame, uint8 h w 3."""


class File(NamedTuple):
    """What a sink wants to know of a container beyond its frames.

    path:   whose audio may be copied
    start:  seconds, on the container's clock, of the first frame
    times:  int64 count, ticks from the first frame to each, where they are not evenly spaced (a variable frame rate);
            else None
    tick:   seconds
    colour: matrix, primaries and transfer as numbered by ITU-T H.273 (2 = not said)
    pixel:  width of a pixel by its height, upright
    """

    path: pathlib.Path
    start: Fraction
    times: np.ndarray | None
    tick: Fraction
    colour: tuple[int, int, int]
    pixel: Fraction


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """A video, or its masks.

    name:    what messages call it: the path, or "the array"
    count:   frames, exact
    height, width: of every frame, upright
    rate:    frames a second, exact (30000/1001, not 29.97); the average where the rate varies
    reader:  (first, after the last) -> iterator of uint8 h w 3 (masks: uint8 h w 1 in {0, 1}, 1 = hole)
    names:   a folder's file names, in order; () for all else
    file:    of a container; else None
    """

    name: str
    count: int
    height: int
    width: int
    rate: Fraction
    reader: Callable[[int, int], Iterator[np.ndarray]]
    names: tuple[str, ...] = ()
    file: File | None = None

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.frames()

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames start, start + 1, ..., stop - 1 (by default to the end), one at a time.

        Raises:
          InputError: while reading, a frame is broken or of another size: names it.
        """
        stop = self.count if stop is None else stop
        if not 0 <= start <= stop <= self.count:
            raise InputError(f"{self.name}: frames {start} to {stop} were asked for, and there are {self.count}")
        return self.reader(start, stop)

    def check_masks(self, masks: "Clip") -> None:
        """Raises InputError unless `masks` has a mask of its frame's size for every frame of this clip."""
        if (masks.count, masks.height, masks.width) != (self.count, self.height, self.width):
            raise InputError(
                f"{masks.name} holds {masks.count} masks of {masks.height}x{masks.width}, and {self.name} has "
                f"{self.count} frames of {self.height}x{self.width}: make the masks with "
                "`jaxpaint.io.video_masks.open_masks`"
            )

    def label(self, index: int) -> str:
        """What a message calls a frame."""
        return f"{self.name}: frame {index} of {self.count}" + (f" ({self.names[index]})" if self.names else "")


def read_ahead(clip: Clip, frames: int = 4) -> Clip:
    """The same clip; while one of its frames is in use, a thread decodes the next ones, `frames` of them."""

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        reading = clip.frames(start, stop)
        return Prefetch(lambda _: next(reading), 0, ahead=frames)

    return dataclasses.replace(clip, reader=read)


def array_clip(frames: Any, rate: Fraction | float = RATE, *, name: str = "the array") -> Clip:
    """A clip of frames that are in memory already.

    Args:
      frames: uint8 t h w 3.
      rate: frames a second.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise InputError(f"{name} is {frames.dtype} {frames.shape}: a clip is uint8 t h w 3 with one frame or more")

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        return iter(frames[start:stop])

    return Clip(name, *frames.shape[:3], as_rate(rate), read)


def folder_clip(root: str | os.PathLike, rate: Fraction | float = RATE) -> Clip:
    """A clip of the pictures in a folder, in natural order (frame 9 before frame 10).

    Only the folder itself is searched, and the size is that of the first picture's header: nothing is decoded here.
    A frame is RGB as `jaxpaint.data.decode` gives it: alpha is dropped, 16 bits become 8.

    Raises:
      InputError: no such folder, no picture in it, two pictures of one name; while reading, a broken picture or one of
        another size: names it.
    """
    root = pathlib.Path(root)
    names = frame_files(root)
    height, width = _size(root / names[0])

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        for index in range(start, stop):
            frame = decode(root / names[index])
            check_size(frame.shape, height, width, clip.label(index))
            yield frame

    clip = Clip(str(root), len(names), height, width, as_rate(rate), read, names=names)
    return clip


def _size(path: pathlib.Path) -> tuple[int, int]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return read_header(data, name=str(path))[:2]


def as_rate(rate: Fraction | float) -> Fraction:
    """Frames a second as a fraction; 29.97, 23.976 and 59.94 are what they stand for: 30000/1001 and so on."""
    try:
        exact = Fraction(rate)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise InputError(f"a rate of {rate!r} frames a second: give a positive number or a fraction") from None
    if not 0 < exact <= 1000:
        raise InputError(f"a rate of {rate} frames a second: expected more than 0 and at most 1000")
    whole = round(exact)
    if isinstance(rate, int | Fraction) or exact == whole:
        return exact
    if abs(exact - Fraction(whole * 1000, 1001)) < Fraction(1, 200):
        return Fraction(whole * 1000, 1001)
    return exact.limit_denominator(1001)


def check_size(shape: tuple[int, ...], height: int, width: int, name: str) -> None:
    """Raises InputError where a frame is not of its clip's size."""
    if tuple(shape[:2]) != (height, width):
        raise InputError(
            f"{name} is {shape[0]}x{shape[1]}, and the clip is {height}x{width}: all frames must have one size; "
            "frames are not resized"
        )


def check_frame(frame: np.ndarray, height: int, width: int, name: str) -> None:
    """Raises InputError where an array is no frame for a sink of this size."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
        raise InputError(f"{name} is {frame.dtype} {frame.shape}: expected uint8 height x width x 3")
    check_size(frame.shape, height, width, name)


@contextlib.contextmanager
def folder_sink(
    root: str | os.PathLike, like: Clip, *, size: tuple[int, int] | None = None, first: int = 0
) -> Iterator[Put]:
    """Writes frames as PNG files, bit for bit: ``with folder_sink(out, clip) as put: put(frame)``.

    Files are called as the frames of `like` where it is a folder, else 00000.png, 00001.png, ... They are written to a
    hidden folder beside `root`, which becomes `root` at the end: where anything is raised inside, nothing is left.

    Args:
      root: a folder that does not exist yet, or is empty.
      like: the clip that the frames belong to.
      size: height and width of the frames; by default those of `like`.
      first: which frame of `like` the first one is.

    Raises:
      InputError: the folder is not empty; no frame was put, or more than `like` has names for; a frame is not uint8, or
        of another size.
    """
    root = pathlib.Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root} exists already: frames are written to a new or an empty folder; remove it, or rename")
    height, width = size or (like.height, like.width)
    count = first

    def put(frame: np.ndarray) -> None:
        nonlocal count
        frame = np.asarray(frame)
        check_frame(frame, height, width, f"frame {count} for {root}")
        if like.names and count == like.count:
            raise InputError(f"{root}: frame {count} was put, and {like.name} has {like.count} names")
        name = os.path.splitext(like.names[count])[0] if like.names else f"{count:05d}"
        Image.fromarray(frame).save(temporary / f"{name}.png")
        count += 1

    with replacing(root) as temporary:
        temporary.mkdir()
        yield put
        if count == first:
            raise InputError(f"{root}: no frame was put")
