"""The sound of a clip: copied, on its own clock, or refused before a frame is taken; what begins later, and endings."""

import contextlib
import os
import resource
import signal
from fractions import Fraction

import av
import numpy as np
import pytest
from clip_files import NTSC, scene, sound_of, write_raw

from jaxpaint.io.frames import array_clip, folder_sink
from jaxpaint.io.video import open_clip
from jaxpaint.io.video_sink import open_sink
from jaxpaint.types import InputError


def write_sound(path, codec, frames=8):
    """A video with noise in stereo."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        audio = container.add_stream(codec, rate=48000)
        for frame in scene(frames, 32, 48):
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        size, context = audio.codec_context.frame_size or 1024, audio.codec_context
        change = av.AudioResampler(context.format, context.layout, 48000)
        noise = np.random.default_rng(0).integers(-9999, 9999, (6, 1, 2 * size), np.int16)
        for number, values in enumerate(noise):
            samples = av.AudioFrame.from_ndarray(values, format="s16", layout="stereo")
            samples.sample_rate, samples.pts = 48000, number * size
            for each in change.resample(samples):
                container.mux(audio.encode(each))
        container.mux(audio.encode())


@pytest.mark.parametrize(
    ("source", "codec", "taken"),
    [
        ("a.avi", "pcm_s16le", ".mp4 .mov .mkv"),  # its channels have no names
        ("a.avi", "pcm_u8", ".mov .mkv"),
        ("a.avi", "adpcm_ms", ""),
        ("a.mkv", "libopus", ".mp4 .mkv"),
    ],
)
def test_sound_is_copied_or_refused_before_a_frame_is_taken(tmp_path, source, codec, taken):
    write_sound(tmp_path / source, codec)
    clip = open_clip(tmp_path / source)
    for ending in (".mp4", ".mov", ".mkv"):
        target = tmp_path / f"out{ending}"
        if ending in taken:
            with open_sink(target, clip) as put:
                for frame in clip:
                    put(frame)
            before, after = (b"".join(data for _, data in sound_of(path)) for path in (tmp_path / source, target))
            assert before == after and len(after) > 99
            continue
        words = rf"cannot hold the sound of .*\({codec.removeprefix('lib')}\): .*--no-audio"
        with pytest.raises(InputError, match=words), open_sink(target, clip):
            pytest.fail("the sink began")
        assert not target.exists()
    with open_sink(tmp_path / "silent.mp4", clip, audio=False) as put:
        put(next(iter(clip)))


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("varies", [False, True])
def test_what_begins_later_keeps_its_times_and_the_sound_its_own(tmp_path, ending, varies):
    """A result that lacks the first frame, against one that has it."""
    times = np.cumsum(np.random.default_rng(0).integers(2, 5, 12)) if varies else None
    how = {"times": times, "base": Fraction(1, 60)} if varies else {}
    write_raw(tmp_path / "in.mp4", scene(12, 32, 48), rate=NTSC, sound=True, **how)
    clip, shown, heard = open_clip(tmp_path / "in.mp4"), [], []
    for first in (0, 1):
        target = tmp_path / f"from{first}.{ending}"
        with open_sink(target, clip, size=(40, 30), first=first) as put:
            for frame in scene(12 - first, 40, 30):
                put(frame)
        with av.open(str(target)) as container:
            shown.append([frame.pts * frame.time_base for frame in container.decode(video=0)])
        heard.append(sound_of(target))
    late = np.array(shown[1]) - np.array(shown[0][1:])
    assert len(shown[1]) == 11 and shown[1][0] > 0.03
    assert (late == late[0]).all() and abs(late[0]) < 0.001  # .mp4 and .mov count an empty beginning in milliseconds
    assert heard[0] == heard[1] and len(heard[0]) > 40
    since = (times - times[0]) / 60 if varies else np.arange(12) * 1001 / 30000
    # From the first frame on: where sound begins before it, all of a .mkv is later.
    assert np.abs(np.array(shown[1]) - shown[0][0] - since[1:]).max() < 0.0015


def test_what_begins_later_has_the_names_of_its_frames(tmp_path):
    frames = scene(4, 16, 16)
    with folder_sink(tmp_path / "numbers", array_clip(frames), first=1) as put:
        for frame in frames[1:]:
            put(frame)
    assert sorted(os.listdir(tmp_path / "numbers")) == ["00001.png", "00002.png", "00003.png"]
    clip = open_clip(tmp_path / "numbers")
    with open_sink(tmp_path / "names", clip, first=1, size=(8, 8)) as put:
        for frame in frames[2:]:
            put(frame[:8, :8])
    back = open_clip(tmp_path / "names")
    assert back.names == ("00002.png", "00003.png")
    np.testing.assert_array_equal(np.stack(list(back)), frames[2:, :8, :8])
    for words, count in (("no frame was put", 0), ("frame 3 was put, and .* has 3 names", 3)):
        with pytest.raises(InputError, match=words), folder_sink(tmp_path / "none", clip, first=1) as put:
            for frame in frames[:count]:
                put(frame)
    assert sorted(os.listdir(tmp_path)) == ["names", "numbers"]


@contextlib.contextmanager
def small_files(size=20_000):
    """Inside, no file can grow larger: as little as on a full disk."""
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_disk_that_is_full(tmp_path):
    """Ends with one line, also where the container has to be closed on it."""
    clip = array_clip(np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8))
    said = pytest.raises(InputError, match=r"a\.mp4: cannot be written \(File too large\)")
    with small_files(), said, open_sink(tmp_path / "a.mp4", clip) as put:
        for frame in clip:
            put(frame)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("target", ["a.mp4", "frames"])
def test_what_a_killed_program_left_is_in_nobodys_way(tmp_path, target):
    """In a container of processes every program may have the same number."""
    (tmp_path / f".{target}.{os.getpid()}.tmp").mkdir()
    clip = array_clip(np.zeros((1, 16, 16, 3), np.uint8))
    with open_sink(tmp_path / target, clip) as put:
        put(np.zeros((16, 16, 3), np.uint8))
    plain = tmp_path / "plain"
    plain.mkdir() if target == "frames" else plain.touch()
    assert (tmp_path / target).stat().st_mode == plain.stat().st_mode


def test_a_name_with_a_colon_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_raw("./take:1.mp4", scene(3, 32, 48), sound=True)
    clip = open_clip("take:1.mp4")
    with open_sink("take:2.mp4", clip) as put:
        for frame in clip:
            put(frame)
    assert open_clip("take:2.mp4").count == 3 and len(sound_of("./take:2.mp4")) > 40
