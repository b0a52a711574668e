"""Videos out, frame by frame.

`open_sink` takes frames and writes H.264 in .mp4, .mov or .mkv. The size is the clip's, also an odd one: 4:2:0 chroma
(yuv420p, which everything plays) has no odd sizes, so a clip with an odd height or width is written with full chroma
(yuv444p, the profile High 4:4:4 Predictive; desktop players know it, some browsers and phones do not). Rate and number
of frames are the clip's; where its rate varies, each frame keeps its time. Matrix, primaries, transfer and the pixels'
aspect are the source's; frames that were RGB are written as BT.709. Audio streams are copied without encoding them
anew, subtitles and other streams are not.

`lossless` writes FFV1 with RGB in .mkv: bit for bit, as a folder of PNG files is. H.264 is not: known pixels come back
near to what they were, so what must not change goes to a folder or lossless.
"""

import contextlib
import io
import itertools
import os
import pathlib
from collections.abc import Iterator

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from jaxpaint.io.atomic import replacing
from jaxpaint.io.frames import Clip, Put, check_frame, folder_sink
from jaxpaint.io.video import BT709, SCALER
from jaxpaint.types import InputError

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""What is written, by ending."""

_LAYOUTS = {"1 channels": "mono", "2 channels": "stereo"}
"""What channels are where a file does not name them; .mp4 wants a name."""

_TRIAL = 32
"""Packets of sound that a format is tried with."""

_SWSCALE = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # matrices by H.273 -> as the scaler numbers them; others: BT.601


@contextlib.contextmanager
def open_sink(
    path: str | os.PathLike,
    like: Clip,
    *,
    size: tuple[int, int] | None = None,
    first: int = 0,
    audio: bool = True,
    crf: int = 17,
    lossless: bool = False,
) -> Iterator[Put]:
    """Takes the frames of a result: ``with open_sink("out.mp4", clip) as put: put(frame)``.

    What is written appears under its name at the end, whole; where anything is raised inside, nothing is left.

    Args:
      path: a video file (.mp4, .mov, .mkv), or, without an ending, a folder of PNG files (see `frames.folder_sink`).
      like: the clip whose rate, times, colours, file names and audio the result has.
      size: height and width of the frames; by default those of `like`.
      first: which frame of `like` the first one is: where its own begins, on the clock that the sound has, too.
      audio: copy its audio streams, where it has any and a container is written.
      crf: H.264's constant rate factor, 0 (best) to 51.
      lossless: FFV1, bit for bit; .mkv only.

    Raises:
      InputError: an unknown ending, or audio that the container cannot hold: before a frame is taken. A frame that is
        not uint8 or of another size, more frames than `like` has times for, no frame at all, a full disk.
    """
    path = pathlib.Path(path)
    if not path.suffix:
        with folder_sink(path, like, size=size, first=first) as put:
            yield put
        return
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: videos are written to {', '.join(FORMATS)}, frames to a folder without an ending")
    if lossless and kind != "matroska":
        raise InputError(f"{path}: lossless video is written to .mkv (or give a folder: PNG files are lossless)")
    if not 0 <= crf <= 51:
        raise InputError(f"crf is {crf}: expected 0 (best) to 51")
    height, width = size or (like.height, like.width)
    audio = audio and like.file is not None
    if audio:
        _check_sound(path, kind, like)
    with replacing(path) as temporary, contextlib.ExitStack() as stack:
        container = stack.enter_context(_begun(path, temporary, kind))
        with _told(path):
            encoder = _encoder(container, like, height, width, crf, lossless)
            sound = _sound(container, like, stack) if audio else iter(())
            container.start_encoding()
            mux = _Mux(container, encoder, sound, first)
        yield lambda frame: mux.put(np.asarray(frame), like, path)
        mux.finish(path)


@contextlib.contextmanager
def _told(path: pathlib.Path) -> Iterator[None]:
    """Inside, what FFmpeg refuses is an InputError about `path`."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


@contextlib.contextmanager
def _begun(path: pathlib.Path, temporary: pathlib.Path, kind: str):
    """A container in the file `temporary`, which is to be `path`."""
    with _told(path):
        container = av.open(str(temporary.absolute()), "w", format=kind)
    try:
        yield container
    finally:
        with _told(path):
            container.close()


def _encoder(container, like: Clip, height: int, width: int, crf: int, lossless: bool):
    """The video stream of a sink."""
    options = {} if lossless else {"crf": str(crf)}
    stream = container.add_stream("ffv1" if lossless else "libx264", rate=like.rate, options=options)
    even = height % 2 == 0 and width % 2 == 0
    stream.height, stream.width = height, width
    stream.pix_fmt = "bgr0" if lossless else "yuv420p" if even else "yuv444p"
    context = stream.codec_context
    context.time_base = 1 / like.rate if like.file is None or like.file.times is None else like.file.tick
    if like.file is not None:
        context.sample_aspect_ratio = like.file.pixel
    if not lossless:
        matrix, primaries, transfer = like.file.colour if like.file is not None else BT709
        context.colorspace, context.color_primaries, context.color_trc = matrix, primaries, transfer
        context.color_range = 1
    return stream


def _check_sound(path: pathlib.Path, kind: str, like: Clip) -> None:
    """Raises InputError where a format does not take a clip's audio: some it refuses at the end alone, so a file with
    the first packets of it is made in memory, and ended."""
    try:
        with contextlib.ExitStack() as stack:
            trial = stack.enter_context(av.open(io.BytesIO(), "w", format=kind))
            for _, packet in itertools.islice(_sound(trial, like, stack), _TRIAL):
                trial.mux(packet)
    except (ValueError, av.error.FFmpegError) as error:  # PyAV's own, of a codec that the format does not know
        with av.open(str(like.file.path.absolute())) as source:
            codecs = ", ".join(sorted({stream.name for stream in source.streams.audio}))
        raise InputError(
            f"{path}: cannot hold the sound of {like.name} ({codecs}): write another of {', '.join(FORMATS)}, or leave "
            "the sound out (--no-audio)"
        ) from error


def _sound(container, like: Clip, stack: contextlib.ExitStack) -> Iterator[tuple[float, av.Packet]]:
    """(seconds on the result's clock, packet) of all audio streams of a clip's file, in stored order."""
    source = stack.enter_context(av.open(str(like.file.path.absolute())))
    streams = {stream.index: container.add_stream_from_template(stream) for stream in source.streams.audio}
    for stream in streams.values():
        if stream.layout.name in _LAYOUTS:
            stream.codec_context.layout = _LAYOUTS[stream.layout.name]

    def packets():
        for packet in source.demux(*source.streams.audio) if streams else ():
            if packet.dts is None:  # the mark of the end
                continue
            shift = round(like.file.start / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = streams[packet.stream.index]
            yield float(packet.dts * packet.time_base), packet

    return packets()


class _Mux:
    """Frames and sound into one container, in the order of time: neither waits for the other in memory."""

    def __init__(self, container, stream, sound: Iterator, first: int):
        self.container, self.stream, self.sound = container, stream, sound
        self.next = next(sound, None)
        self.first = self.count = first
        self.scaler = VideoReformatter()

    def put(self, frame: np.ndarray, like: Clip, path: pathlib.Path) -> None:
        name = f"frame {self.count} for {path}"
        check_frame(frame, self.stream.height, self.stream.width, name)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        matrix = _SWSCALE.get(int(self.stream.codec_context.colorspace), 5)
        picture = self.scaler.reformat(
            picture, format=self.stream.pix_fmt, dst_colorspace=matrix, interpolation=SCALER, threads=1
        )
        times = like.file.times if like.file is not None else None
        if times is not None and self.count >= len(times):
            raise InputError(f"{name} was put, and {like.name} has times for {len(times)}")
        picture.pts = self.count if times is None else int(times[self.count])
        picture.time_base = self.stream.codec_context.time_base
        with _told(path):
            self._sound_until(float(picture.pts * picture.time_base))
            self.container.mux(self.stream.encode(picture))
        self.count += 1

    def finish(self, path: pathlib.Path) -> None:
        if self.count == self.first:
            raise InputError(f"{path}: no frame was put")
        with _told(path):
            self._sound_until(float("inf"))
            self.container.mux(self.stream.encode())

    def _sound_until(self, seconds: float) -> None:
        while self.next is not None and self.next[0] <= seconds:
            self.container.mux(self.next[1])
            self.next = next(self.sound, None)
