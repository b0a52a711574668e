"""Videos in and out: sizes, rates, counts, sound and pixels stay; memory does; what is broken is named."""

import dataclasses
import os
import threading
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
from clip_files import NTSC, scene, sound_of, write_raw
from PIL import Image

from jaxpaint.io.frames import File, array_clip, as_rate, folder_clip, read_ahead
from jaxpaint.io.video import BT709, _rate, open_clip
from jaxpaint.io.video_sink import open_sink
from jaxpaint.types import InputError


def copy(source, target, **options):
    clip = open_clip(source)
    with open_sink(target, clip, **options) as put:
        for frame in clip:
            put(frame)
    return clip, open_clip(target)


def test_odd_size_and_ntsc_rate_and_sound_stay(tmp_path):
    """What a user of a camera's or a phone's file expects; facts of the result are read by PyAV alone."""
    frames = scene(31, 33, 47)
    write_raw(tmp_path / "in.mp4", frames, rate=NTSC, sound=True)
    clip, back = copy(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert (clip.count, clip.height, clip.width, clip.rate) == (31, 33, 47, NTSC)
    with av.open(str(tmp_path / "out.mp4")) as container:
        video = container.streams.video[0]
        assert (video.frames, video.height, video.width, video.average_rate) == (31, 33, 47, NTSC)
        assert sum(1 for _ in container.decode(video)) == 31
    before, after = sound_of(tmp_path / "in.mp4"), sound_of(tmp_path / "out.mp4")
    assert len(before) > 40 and before == after  # to the byte and the sample
    before, after = (np.stack(list(one)).astype(int) for one in (clip, back))
    distance = np.abs(before[:, None] - after[None]).mean((2, 3, 4))
    assert (distance.argmin(0) == np.arange(31)).all() and np.diag(distance).max() < 4  # of 255, at the default crf
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("ending", ["mov", "mkv"])
def test_other_containers(tmp_path, ending):
    write_raw(tmp_path / "in.mp4", scene(12, 32, 48), rate=Fraction(24000, 1001), sound=True)
    _, back = copy(tmp_path / "in.mp4", tmp_path / f"out.{ending}")
    assert (back.count, back.height, back.width, back.rate) == (12, 32, 48, Fraction(24000, 1001))
    after = sound_of(tmp_path / f"out.{ending}")
    assert [data for _, data in sound_of(tmp_path / "in.mp4")] == [data for _, data in after]
    shift = back.file.start  # Matroska has no negative times, which an encoder's delay gives: all is later by as much
    assert abs(after[1][0] - shift) < 0.002 and (ending == "mkv" or shift == 0)
    _, silent = copy(tmp_path / "in.mp4", tmp_path / f"silent.{ending}", audio=False)
    with av.open(str(silent.file.path)) as container:
        assert not container.streams.audio


def test_lossless_is_bit_exact_and_colours_are_right(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (5, 31, 41, 3), np.uint8)
    with open_sink(tmp_path / "a.mkv", array_clip(noise, 12.5), lossless=True) as put:
        for frame in noise:
            put(frame)
    back = open_clip(tmp_path / "a.mkv")
    assert back.rate == Fraction(25, 2)
    np.testing.assert_array_equal(np.stack(list(back)), noise)

    patches = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 99, 50]], np.uint8)
    flat = np.broadcast_to(patches.repeat(16, 0), (2, 32, 96, 3))
    with open_sink(tmp_path / "a.mp4", array_clip(flat), crf=1) as put:
        for frame in flat:
            put(frame)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert int(next(container.decode(video=0)).colorspace) == 1  # says BT.709
    middle = np.stack(list(open_clip(tmp_path / "a.mp4")))[:, :, 8::16].astype(int)
    assert np.abs(middle - flat[:, :, 8::16]).max() <= 2  # 8-bit YUV has no more


def test_frame_folder_is_bit_exact_in_natural_order(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 9, 7, 3), np.uint8)
    (tmp_path / "in").mkdir()
    for number, frame in enumerate(noise):
        Image.fromarray(frame).save(tmp_path / "in" / f"shot-{number + 1}.png")
    (tmp_path / "in" / "notes.txt").write_text("")
    clip, back = copy(tmp_path / "in", tmp_path / "out")
    assert clip.rate == 24 and clip.names[:2] == ("shot-1.png", "shot-2.png") and clip.names[-1] == "shot-12.png"
    assert back.names == clip.names
    np.testing.assert_array_equal(np.stack(list(back)), noise)
    np.testing.assert_array_equal(np.stack(list(back.frames(3, 9))), noise[3:9])
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]

    (tmp_path / "empty").mkdir()
    copy(noise, tmp_path / "empty")
    assert sorted(os.listdir(tmp_path / "empty"))[-1] == "00011.png"


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.avi", "a.mkv", "a.webm"])
def test_reading_from_any_frame_on(tmp_path, name):
    """Seeking against reading from the beginning; a clip can be read again and again, also two readers at once."""
    codec = {"avi": "mpeg4", "webm": "libvpx-vp9"}.get(name[2:], "libx264")
    write_raw(tmp_path / name, scene(40, 32, 48), rate=NTSC, codec=codec)
    clip = open_clip(tmp_path / name)
    assert (clip.count, clip.rate, len(clip)) == (40, NTSC, 40)
    whole = list(clip)
    assert len(whole) == 40 and len({frame.tobytes() for frame in whole}) == 40
    for start, stop in ((1, 4), (17, 18), (31, 40), (5, 5)):
        part = list(clip.frames(start, stop))
        assert len(part) == stop - start
        assert all(np.array_equal(a, b) for a, b in zip(part, whole[start:stop], strict=True))
    for first, second in zip(clip, clip, strict=True):
        np.testing.assert_array_equal(first, second)
    with pytest.raises(InputError, match="frames 3 to 41 were asked for, and there are 40"):
        clip.frames(3, 41)


def test_variable_frame_rate_keeps_every_frames_time(tmp_path):
    steps = np.random.default_rng(0).integers(1, 5, 30)
    times = np.cumsum(steps)
    write_raw(tmp_path / "in.mp4", scene(30, 32, 48), times=times, base=Fraction(1, 60))
    clip, _ = copy(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert clip.count == 30 and clip.rate == Fraction(60 * 29, int(times[-1] - times[0]))
    with av.open(str(tmp_path / "out.mp4")) as container:
        shown = [frame.pts * frame.time_base * 60 for frame in container.decode(video=0)]
    assert [int(time) for time in shown] == (times - times[0]).tolist() == shown
    with (
        pytest.raises(InputError, match=r"frame 30 for .* was put, and .* has times for 30"),
        open_sink(tmp_path / "longer.mp4", clip) as put,
    ):
        for _ in range(31):
            put(np.zeros((32, 48, 3), np.uint8))


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (0, -1, 1, 0), (-1, 0, 0, -1), (-1, 0, 0, 1), (0, 1, 1, 0)])
def test_frames_are_upright(tmp_path, matrix):
    """Every corner goes where the display matrix takes it: (x, y) -> (a x + c y, b x + d y)."""
    frames = np.zeros((2, 32, 48, 3), np.uint8)
    corners = {(8, 8): (250, 0, 0), (40, 8): (0, 250, 0), (8, 24): (0, 0, 250), (40, 24): (250, 250, 250)}
    for (x, y), colour in corners.items():
        frames[:, y - 8 : y + 8, x - 8 : x + 8] = colour
    one, (a, b, c, d) = 1 << 16, matrix
    whole = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30]
    write_raw(tmp_path / "in.mp4", frames, matrix=whole)
    clip = open_clip(tmp_path / "in.mp4")
    assert (clip.height, clip.width) == ((32, 48) if a else (48, 32))
    upright = next(iter(clip)).astype(int)
    for (x, y), colour in corners.items():
        to_x, to_y = a * x + c * y, b * x + d * y
        assert np.abs(upright[to_y % clip.height, to_x % clip.width] - colour).max() < 12, (x, y)


def test_memory_does_not_grow_with_length(tmp_path):
    """Resident memory of reading, and writing what was read, from frame 50 to frame 500: a frame has 74 kB."""
    length, height, width = 500, 128, 192
    page = os.sysconf("SC_PAGE_SIZE")

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * page

    still = scene(1, height, width)[0]
    endless = array_clip(np.broadcast_to(still, (length, height, width, 3)), 30)
    seen = []
    for source, target in ((endless, tmp_path / "a.mp4"), (tmp_path / "a.mp4", tmp_path / "b.mkv")):
        clip = open_clip(source)
        with open_sink(target, clip) as put:
            for index, frame in enumerate(clip):
                put(np.roll(frame, index, 1))
                if index in (60, length - 1):
                    seen.append(resident())
    assert open_clip(tmp_path / "b.mkv").count == length
    frame = height * width * 3
    assert seen[1] - seen[0] < 100 * frame and seen[3] - seen[2] < 100 * frame, seen  # of 439


def broken(tmp_path):
    """(file, what its error says)."""
    write_raw(tmp_path / "a.mp4", scene(40, 64, 96), movflags="+faststart")
    write_raw(tmp_path / "a.mkv", scene(80, 64, 96))
    data = (tmp_path / "a.mp4").read_bytes()
    half = len(data) // 2
    noise = np.random.default_rng(0).integers(0, 256, 400, np.uint8).tobytes()
    matroska = (tmp_path / "a.mkv").read_bytes()
    yield "none.mp4", None, "does not exist: give a video file"
    yield "text.mp4", b"hello " * 99, "not a readable video"
    yield "empty.mp4", b"", "not a readable video"
    yield "half.mp4", data[:half], r"truncated: its header promises 40 frames, and data of \d+ are there"
    yield (
        "noise.mp4",
        data[:half] + noise + data[half + 400 :],
        r"frame \d+ of 40 cannot be decoded: the file is damaged",
    )
    yield "half.mkv", matroska[: len(matroska) // 3], r"truncated: its header promises 3\.2\d s, and the last frame is"


def test_broken_files_are_named(tmp_path):
    for name, data, words in broken(tmp_path):
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(InputError, match=words) as caught:
            sum(1 for _ in open_clip(path))
        assert str(path) in str(caught.value)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        audio = container.add_stream("aac", rate=44100, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 44100
        container.mux(audio.encode(samples))
        container.mux(audio.encode())
    with pytest.raises(InputError, match=r"sound\.mp4: holds no video stream \(1 others\)"):
        open_clip(tmp_path / "sound.mp4")
    with pytest.raises(InputError, match="a video file says its own"):
        open_clip(tmp_path / "a.mp4", rate=30)


def test_broken_folders_are_named(tmp_path):
    root = tmp_path / "frames"
    with pytest.raises(InputError, match="does not exist"):
        folder_clip(root)
    (root / "below").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds no picture \(1 folders, 0 other files\)"):
        folder_clip(root)
    for number, side in enumerate((16, 16, 18)):
        noise = np.random.default_rng(0).integers(0, 256, (side, 16, 3), np.uint8)
        Image.fromarray(noise).save(root / f"{number}.png")
    clip = folder_clip(root)
    with pytest.raises(InputError, match=r"frame 2 of 3 \(2\.png\) is 18x16, and the clip is 16x16"):
        list(clip)
    (root / "1.png").write_bytes((root / "1.png").read_bytes()[:200])
    with pytest.raises(InputError, match=r"1\.png: broken or truncated"):
        list(clip)
    Image.new("RGB", (16, 16)).save(root / "1.jpg")
    with pytest.raises(InputError, match=r"holds 1\.jpg and 1\.png: which is the frame"):
        folder_clip(root)


@pytest.mark.parametrize("target", ["a.mp4", "folder"])
def test_sinks_write_whole_or_nothing(tmp_path, target):
    clip = array_clip(np.zeros((3, 16, 16, 3), np.uint8))

    def attempt(frames, error, words):
        with pytest.raises(error, match=words), open_sink(tmp_path / target, clip) as put:
            for frame in frames:
                put(frame)
            if error is KeyError:
                raise KeyError("x")
        assert os.listdir(tmp_path) == []

    attempt([], InputError, "no frame was put")
    attempt([np.zeros((16, 18, 3), np.uint8)], InputError, r"frame 0 for .* is 16x18, and the clip is 16x16")
    attempt([clip.reader(0, 1).__next__(), np.zeros((16, 16, 3))], InputError, r"frame 1 for .* is float64")
    attempt(list(clip), KeyError, "x")
    with open_sink(tmp_path / target, clip, size=(20, 24)) as put:
        put(np.full((20, 24, 3), 7, np.uint8))
    assert (open_clip(tmp_path / target).height, open_clip(tmp_path / target).width) == (20, 24)


def test_refusals_of_sinks(tmp_path):
    clip = array_clip(np.zeros((3, 16, 16, 3), np.uint8))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("mine")
    for name, options, words in (
        ("a.avi", {}, r"videos are written to \.mp4, \.mov, \.mkv"),
        ("a.mp4", {"lossless": True}, r"lossless video is written to \.mkv"),
        ("a.mp4", {"crf": 80}, "crf is 80"),
        ("full", {}, "exists already"),
    ):
        with pytest.raises(InputError, match=words), open_sink(tmp_path / name, clip, **options):
            pytest.fail("the sink began")
    assert (tmp_path / "full" / "kept.txt").read_text() == "mine" and os.listdir(tmp_path) == ["full"]


def test_arrays_and_rates():
    for rate, exact in (
        (29.97, NTSC),
        (23.976, Fraction(24000, 1001)),
        (24, 24),
        (12.5, Fraction(25, 2)),
        (NTSC, NTSC),
    ):
        assert as_rate(rate) == exact
    for rate in (0, -1, float("nan"), "fast", None):
        with pytest.raises(InputError, match="frames a second"):
            as_rate(rate)
    for bad in (np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)):
        with pytest.raises(InputError, match="a clip is uint8 t h w 3"):
            open_clip(bad)
    clip = array_clip(np.zeros((2, 8, 8, 3), np.uint8))
    assert open_clip(clip) is clip


def test_the_last_frame_may_last_longer():
    """A container's average is off then; and in Matroska it is right, where times are rounded to milliseconds."""
    off = Fraction(50 * 30000, 49 * 1001 + 1002)  # less than a tick at the last frame
    assert _rate(np.arange(50) * 1001, Fraction(1, 30000), [off]) == (NTSC, True)
    milliseconds = np.round(np.arange(50) * 1001 / 30).astype(np.int64)
    assert _rate(milliseconds, Fraction(1, 1000), [NTSC]) == (NTSC, True)
    assert _rate(milliseconds[:2], Fraction(1, 1000), [NTSC]) == (NTSC, True)  # 33 ms would be 1000/33
    assert _rate(milliseconds[[0, 1, 5]], Fraction(1, 1000), [NTSC]) == (Fraction(2000, 167), False)


def test_the_average_of_a_long_clip_fits_a_container(tmp_path):
    """Its exact fraction has more than 32 bits; every frame keeps its time all the same."""
    times = np.append(np.arange(39_999) * 3595, 143_805_709)
    rate, even = _rate(times, Fraction(1, 90000), [])
    exact = Fraction(39_999 * 90000, int(times[-1]))
    assert not even and exact.numerator >= 2**31 > max(rate.numerator, rate.denominator)
    assert abs(rate / exact - 1) < 1e-9
    slow, _ = _rate(np.array([0, 1, 2**52]), Fraction(1, 90000), [])
    assert 0 < slow.denominator < 2**31

    file = File(tmp_path / "none.mp4", Fraction(0), times[[0, 1, 3]], Fraction(1, 90000), BT709, Fraction(1))
    clip = dataclasses.replace(array_clip(scene(3, 16, 16)), rate=rate, file=file)
    with open_sink(tmp_path / "a.mp4", clip, audio=False) as put:
        for frame in clip:
            put(frame)
    back = open_clip(tmp_path / "a.mp4").file
    assert (back.times * back.tick == file.times * file.tick).all()


def test_more_than_eight_bits_is_said(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = 16, 16, "yuv420p10le"
        picture = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 128, np.uint8), format="rgb24")
        container.mux(video.encode(picture.reformat(format="yuv420p10le")))
        container.mux(video.encode())
    with pytest.warns(UserWarning, match="yuv420p10le is read at 8 bits"):
        clip = open_clip(tmp_path / "a.mkv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert abs(int(next(iter(clip))[0, 0, 0]) - 128) <= 1


def test_frames_are_read_ahead():
    """While a frame is in use, the next ones are decoded; what reading raises comes in its turn."""
    frames, third = scene(6, 16, 16), threading.Event()

    def reader(start: int, stop: int):
        for index in range(start, stop):
            if index == start + 2:
                third.set()
            if index == 5:
                raise InputError("frame 5 is broken")
            yield frames[index]

    clip = read_ahead(dataclasses.replace(array_clip(frames), reader=reader), frames=2)
    several = clip.frames(1)
    np.testing.assert_array_equal(next(several), frames[1])
    assert third.wait(30)
    np.testing.assert_array_equal(np.stack([next(several) for _ in range(3)]), frames[2:5])
    with pytest.raises(InputError, match="frame 5 is broken"):
        next(several)
    np.testing.assert_array_equal(np.stack(list(clip.frames(2, 4))), frames[2:4])
    with pytest.raises(InputError, match="frames 2 to 7"):
        clip.frames(2, 7)
