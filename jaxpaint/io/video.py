"""Video files in, frame by frame: whatever the length of a clip, a few frames are in memory.

`open_clip` takes a container (mp4, mov, mkv, webm, avi, ...), a folder of frames or an array and gives a
`jaxpaint.io.frames.Clip`. Containers are read by PyAV, whose wheel brings FFmpeg's libraries.

A file is gone through once, without decoding, when it is opened: so the number of frames is exact, and a file
that ends too early is found out. Rotation and mirroring that the container asks for are done, frames are upright.
YUV becomes RGB by the matrix that the file names (BT.601 where it names none); more than 8 bits are read as 8, with a
warning. Every stored frame comes once, in order, whatever its time: a *variable frame rate* is neither evened out nor
filled up. What is kept per frame is one number, its time (8 bytes).

`video_sink.py` writes.
"""

import contextlib
import os
import pathlib
import warnings
from array import array
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from jaxpaint.io.frames import RATE, Clip, File, array_clip, check_size, folder_clip
from jaxpaint.types import InputError

BT709 = (1, 1, 1)
"""Matrix, primaries and transfer of what has none of its own: frames that are RGB."""

SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""How colours are converted: rounded, and at every pixel's place."""


def open_clip(source: Any, rate: Fraction | float | None = None) -> Clip:
    """A clip from a video file, a folder of frames, an array t h w 3, or a clip.

    Args:
      source: a path, uint8 t h w 3, or a `Clip` (given back).
      rate: frames a second of a folder or an array; None is 24. A video file says its own.

    Raises:
      InputError: it cannot be read; says what is wrong.
    """
    if isinstance(source, Clip):
        return source
    if not isinstance(source, str | os.PathLike):
        return array_clip(source, RATE if rate is None else rate)
    path = pathlib.Path(source)
    if path.is_dir():
        return folder_clip(path, RATE if rate is None else rate)
    if rate is not None:
        raise InputError(f"{path}: a rate of {rate} was given, and a video file says its own: leave it out")
    return container_clip(path)


def container_clip(path: str | os.PathLike) -> Clip:
    """A clip of a container's first video stream.

    Raises:
      InputError: missing, no video, unreadable, truncated, rotated by other than right angles; while reading, a frame
        that is broken or of another size: names it.
    """
    path = pathlib.Path(path)
    with _opened(path) as (container, stream):
        ticks = _scan(path, container, stream)
        base = Fraction(stream.time_base)
        count = len(ticks.all)
        shown = np.sort(np.frombuffer(ticks.all, np.int64)) if ticks.complete else None
        begin = int(shown[0]) * base if shown is not None else Fraction(0)
        if shown is not None and (np.diff(shown) <= 0).any():
            shown = None  # two frames at one time: no times to speak of
        guesses = [Fraction(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
        rate, even = _rate(shown, base, guesses)
        pixel = Fraction(stream.sample_aspect_ratio or 1)
        if shown is not None:
            _check_end(path, float((shown[-1] + 1) * base), stream.metadata.get("DURATION", ""))
    first = _first_frame(path)
    turn = _orientation(first, path)
    height, width = turn(np.empty((first.height, first.width, 3), np.uint8)).shape[:2]
    rgb = first.format.is_rgb or int(first.colorspace) == 0
    lying = turn(np.empty((1, 2, 3))).shape[0] == 2
    file = File(
        path=path,
        start=begin,
        times=None if even else shown - shown[0],
        tick=base,
        colour=BT709 if rgb else (int(first.colorspace), int(first.color_primaries), int(first.color_trc)),
        pixel=1 / pixel if lying else pixel,
    )

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        scaler = VideoReformatter()
        for index, frame in _decoded(path, shown, start, stop, clip):
            check_size((frame.height, frame.width), first.height, first.width, clip.label(index))
            rgb = scaler.reformat(frame, format="rgb24", interpolation=SCALER, threads=1)
            yield np.ascontiguousarray(turn(rgb.to_ndarray()))

    clip = Clip(str(path), count, height, width, rate, read, file=file)
    return clip


class _Ticks(NamedTuple):
    """Times of a stream's packets; `complete` where every packet has one."""

    all: array
    complete: bool


@contextlib.contextmanager
def _opened(path: pathlib.Path):
    """(container, video stream); what FFmpeg refuses is an InputError."""
    if not path.is_file():
        raise InputError(f"video {str(path)!r} does not exist: give a video file or a folder of frames")
    try:
        container = av.open(str(path.absolute()))  # "take:1.mp4" would be a file of the protocol "take"
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path}: not a readable video ({error.strerror}): broken, truncated, or no video") from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            raise InputError(f"{path}: holds no video stream ({len(container.streams)} others)")
        streams[0].thread_type = "SLICE"  # frame threads keep frames, and report an error at a later one
        yield container, streams[0]


def _scan(path: pathlib.Path, container, stream) -> _Ticks:
    """Times of all packets, in stored order."""
    ticks, complete, hidden = array("q"), True, 0
    try:
        for packet in container.demux(stream):
            if packet.size and packet.is_discard:
                hidden += 1
            elif packet.size:
                complete = complete and packet.pts is not None
                ticks.append(packet.pts or 0)
    except av.error.FFmpegError as error:
        raise InputError(f"{path}: broken after frame {len(ticks)} ({error.strerror})") from error
    promised = stream.frames
    if not ticks or promised > len(ticks) + hidden:
        raise InputError(
            f"{path}: truncated: its header promises {promised} frames, and data of {len(ticks)} are there: "
            "get the whole file"
        )
    return _Ticks(ticks, complete)


def _check_end(path: pathlib.Path, end: float, promised: str) -> None:
    """Matroska counts no frames, but tells how long a stream is, as hours:minutes:seconds."""
    try:
        hours, minutes, seconds = (float(part) for part in promised.split(":"))
    except ValueError:
        return  # not told
    length = 3600 * hours + 60 * minutes + seconds
    if end < length - 1:
        raise InputError(
            f"{path}: truncated: its header promises {length:.2f} s, and the last frame is at {end:.2f} s: "
            "get the whole file"
        )


def _rate(shown: np.ndarray | None, base: Fraction, guesses: list[Fraction]) -> tuple[Fraction, bool]:
    """(frames a second, whether they are evenly spaced), from the frames' times and what the container says."""
    if shown is None or len(shown) < 2:
        return (guesses[0] if guesses else RATE), True
    steps = np.diff(shown)
    even = [1 / (int(steps[0]) * base)] if (steps == steps[0]).all() else []
    # Times in whole milliseconds are rounded, so the container's word is better; else an even step is exact, and the
    # container's average is not where the last frame is shown for a little longer.
    for rate in guesses + even if base == Fraction(1, 1000) else even + guesses:
        ideal = np.arange(len(shown)) * float(1 / (rate * base))
        if np.abs(shown - shown[0] - ideal).max() <= 1:
            return rate, True
    average = (len(shown) - 1) / (int(shown[-1] - shown[0]) * base)
    # Both of its numbers get into 32 bits, as containers have it; frames keep their times.
    return average.limit_denominator(int(min(10**9, max(1, 10**9 / average)))), False


def _first_frame(path: pathlib.Path) -> av.VideoFrame:
    with _opened(path) as (container, stream):
        try:
            frame = next(container.decode(stream), None)
        except av.error.FFmpegError as error:
            raise InputError(f"{path}: frame 0 cannot be decoded ({error.strerror})") from error
    if frame is None:
        raise InputError(f"{path}: no frame can be decoded")
    if max(component.bits for component in frame.format.components) > 8:
        warnings.warn(f"{path}: {frame.format.name} is read at 8 bits a channel", stacklevel=3)
    return frame


def _orientation(frame: av.VideoFrame, path: pathlib.Path):
    """What makes a stored frame upright: a function h w c -> h w c.

    The display matrix takes a stored point (x, y) to (a x + c y, b x + d y), in 16.16 fixed point (FFmpeg's
    `display.h`; ISO/IEC 14496-12, 6.2.2).
    """
    matrices = [bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"]
    if not matrices:
        return lambda pixels: pixels
    a, b, _, c, d = np.sign(np.frombuffer(matrices[0], np.int32)[:5]).tolist()
    if (b, c) == (0, 0) and a and d:
        return lambda pixels: pixels[::d, ::a]
    if (a, d) == (0, 0) and b and c:
        return lambda pixels: pixels.transpose(1, 0, 2)[::b, ::c]
    raise InputError(f"{path}: its frames are to be turned by {frame.rotation} degrees: only right angles are read")


def _decoded(path: pathlib.Path, shown: np.ndarray | None, start: int, stop: int, clip: Clip):
    """(index, frame) from start on; with `shown`, the times, decoding begins at the key frame before it."""
    if start == stop:
        return
    with _opened(path) as (container, stream):
        index, error = 0, None
        if start and shown is not None:
            container.seek(int(shown[start]), stream=stream)
            index = None  # the first frame's time will tell
        decoded = container.decode(stream)
        while index is None or index < stop:
            try:
                frame = next(decoded, None)
            except av.error.FFmpegError as failed:
                frame, error = None, failed
            if index is None:
                known = frame is not None and frame.pts is not None
                index = int(np.searchsorted(shown, frame.pts)) if known else stop
                if index > start:
                    break
            if frame is None or (frame.is_corrupt and index >= start):
                reason = error.strerror if error else "the data end before it" if frame is None else "wrong bits"
                raise InputError(f"{clip.label(index)} cannot be decoded: the file is damaged ({reason})")
            if index >= start:
                yield index, frame
            index += 1
        else:
            return
    # The format's seeking led behind the frame, or to where decoding cannot begin: from the beginning.
    yield from _decoded(path, None, start, stop, clip)
