"""Video files for tests of several rooms, written and read by PyAV alone, not by the code under test."""

from fractions import Fraction

import av
import numpy as np

NTSC = Fraction(30000, 1001)


def scene(count: int, height: int, width: int) -> np.ndarray:
    """Smooth colours that move: uint8 t h w 3."""
    t, y, x = np.ogrid[:count, :height, :width]
    waves = (np.sin(x / 9 + t / 5) + 0 * y, np.cos(y / 7 + t / 9) + 0 * x, np.sin((x + y) / 13) + 0 * t)
    return np.stack([128 + 90 * wave for wave in waves], -1).astype(np.uint8)


def write_raw(path, frames, *, rate=25, codec="libx264", times=None, base=None, sound=False, matrix=None, **options):
    """A video file; `sound`: with a noise of a second."""
    height, width = frames.shape[1:3]
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream(codec, rate=rate, options={"crf": "12"})
        video.height, video.width = height, width
        video.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
        if base:
            video.codec_context.time_base = base
        if matrix:
            video.set_display_matrix(matrix)
        if sound:
            audio = container.add_stream("aac", rate=44100, layout="mono")
            noise = (np.random.default_rng(0).standard_normal((40, 1, 1024)) * 0.1).astype(np.float32)
            for number, samples in enumerate(noise):
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 44100, number * 1024
                container.mux(audio.encode(frame))
            container.mux(audio.encode())
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times is not None:
                picture.pts, picture.time_base = int(times[index]), base
            container.mux(video.encode(picture))
        container.mux(video.encode())


def sound_of(path):
    """(seconds, bytes) of the audio packets."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in packets if packet.dts is not None]
