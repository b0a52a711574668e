"""``jaxpaint inpaint-video``: what a clip is, stays; known pixels do; what cannot be done is refused before work."""

import errno
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys

import av
import jax
import numpy as np
import pytest
import toy_clips
from clip_files import NTSC, scene, sound_of, write_raw
from PIL import Image

from jaxpaint.io import video_sink
from jaxpaint.io.weights import restore_weights, save_weights
from jaxpaint.run import cli
from jaxpaint.run.cli import main
from jaxpaint.run.inpainter import Inpainter
from jaxpaint.systems import SYSTEMS
from jaxpaint.types import InputError

FILL = toy_clips.FILL


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs ``jaxpaint COMMAND`` in a folder with a checkpoint "grey": (status, stdout, stderr)."""
    toy_clips.register(lambda *entry: monkeypatch.setitem(SYSTEMS, *entry))
    monkeypatch.chdir(tmp_path)
    save_weights(tmp_path / "grey", {"params": {"none": {"x": np.zeros(1)}}}, {"system": "grey", "model": {}})

    def run(*arguments):
        status = main([*map(str, arguments)])
        return status, *capsys.readouterr()

    return run


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def write_frames(root, frames, names="{:02d}.png"):
    root.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(root / names.format(index))


def moving_masks(count, height, width, first=0):
    """uint8 t h w, 255 = hole: a box that moves from frame `first` on; none before."""
    masks = np.zeros((count, height, width), np.uint8)
    for index in range(first, count):
        masks[index, 5:15, 3 + index % 8 : 14 + index % 8] = 255
    return masks


@pytest.fixture
def folder(tmp_path):
    """A folder of seven frames, and masks that begin with the third."""
    frames = np.random.default_rng(0).integers(0, 256, (7, 33, 47, 3), np.uint8)
    masks = moving_masks(7, 33, 47, first=2)
    write_frames(tmp_path / "frames", frames, "f{}.png")
    write_frames(tmp_path / "masks", masks, "m{}.png")
    return frames, masks


def test_a_folder_of_frames_keeps_every_known_bit(command, folder, tmp_path):
    frames, masks = folder
    status, out, err = command("inpaint-video", "frames", "--masks", "masks", "--checkpoint", "grey", "--out", "made")
    assert status == 0 and out.startswith("made: 7 frames in ")
    assert err == "note: it is only grey\n"
    expected = np.where(masks[..., None] > 0, np.uint8(FILL), frames)
    for index in range(7):
        np.testing.assert_array_equal(pixels(tmp_path / "made" / f"f{index}.png"), expected[index])
    assert sorted(os.listdir("made")) == [f"f{index}.png" for index in range(7)]

    # Once more into the same folder: only where it is asked for, and only where nothing else lies there.
    again = ("inpaint-video", "frames", "--masks", "masks", "--checkpoint", "grey", "--out", "made", "--model.shade=-1")
    status, _, err = command(*again)
    assert status == 2 and "--overwrite" in err
    pathlib.Path("made/letter.txt").write_text("dear")
    status, _, err = command(*again, "--overwrite")
    assert status == 2 and "letter.txt" in err
    np.testing.assert_array_equal(pixels("made/f3.png"), expected[3])
    os.remove("made/letter.txt")
    assert command(*again, "--overwrite")[0] == 0
    np.testing.assert_array_equal(pixels("made/f3.png"), np.where(masks[3, ..., None] > 0, np.uint8(0), frames[3]))
    assert sorted(os.listdir()) == ["frames", "grey", "made", "masks"]


def test_a_video_keeps_size_rate_count_and_sound(command, tmp_path):
    frames, mask = scene(31, 33, 47), np.zeros((33, 47), np.uint8)
    mask[8:20, 10:30] = 255
    write_raw("in.mp4", frames, rate=NTSC, sound=True)
    Image.fromarray(mask).save("mask.png")
    status, _, err = command("inpaint-video", "in.mp4", "--masks", "mask.png", "--checkpoint", "grey", "--out", "o.mp4")
    assert status == 0
    assert "100% of the hole is hole in every frame" in err and "H.264" in err
    with av.open("o.mp4") as container:
        video = container.streams.video[0]
        assert (video.frames, video.height, video.width, video.average_rate) == (31, 33, 47, NTSC)
        result = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video)]).astype(int)
    assert sound_of("in.mp4") == sound_of("o.mp4")
    assert np.abs(result[:, 10:18, 12:28] - FILL).mean() <= 4  # of 255, by H.264
    assert np.abs(result - frames)[:, 24:].mean() < 4

    silent = ("inpaint-video", "in.mp4", "--masks", "mask.png", "--checkpoint", "grey", "--no-audio")
    assert command(*silent, "--lossless", "--out", "o.mkv")[0] == 0
    with av.open("o.mkv") as container:
        assert not container.streams.audio
        result = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert (result[:, mask > 0] == FILL).all()


def test_masks_are_grown_in_space_and_time(command, folder):
    frames, _ = folder
    one = np.zeros((7, 33, 47), np.uint8)
    one[3, 10:12, 20:24] = 255
    write_frames(pathlib.Path("one"), one)
    arguments = ("inpaint-video", "frames", "--masks", "one", "--checkpoint", "grey", "--out", "made")
    assert command(*arguments, "--mask-dilate", 2, "--mask-widen", 1)[0] == 0
    hole = np.zeros((7, 33, 47), bool)
    hole[2:5, 8:14, 18:26] = True
    result = np.stack([pixels(f"made/f{index}.png") for index in range(7)])
    np.testing.assert_array_equal(result, np.where(hole[..., None], np.uint8(FILL), frames))


def test_masks_may_be_the_alpha_of_the_frames(command, folder):
    frames, masks = folder
    write_frames(pathlib.Path("both"), np.concatenate([frames, 255 - masks[..., None]], -1))
    flags = ("--masks", "both", "--mask-convention", "alpha", "--checkpoint", "grey", "--out", "made")
    assert command("inpaint-video", "both", *flags)[0] == 0
    result = np.stack([pixels(f"made/{index:02d}.png") for index in range(7)])
    np.testing.assert_array_equal(result, np.where(masks[..., None] > 0, np.uint8(FILL), frames))


def test_a_method_learns_from_the_clip_and_its_weights_begin_another_fit(command, folder):
    frames, masks = folder
    arguments = ("inpaint-video", "frames", "--masks", "masks", "--method", "learnt")
    status, out, err = command(*arguments, "--out", "made", "--save-weights", "fitted", "--verbose")
    assert status == 0 and "fitted: weights " in out and "learning\n" in err
    colour = np.rint(frames[masks == 0].mean(0)).astype(np.uint8)
    np.testing.assert_array_equal(pixels("made/f4.png")[masks[4] > 0], np.tile(colour, ((masks[4] > 0).sum(), 1)))
    assert command(*arguments[:-1], "learnt:dark", "--out", "dark")[0] == 0
    assert (pixels("dark/f4.png")[masks[4] > 0] == np.rint(0.5 * frames[masks == 0].mean(0))).all()
    # From the weights, and with another hole: the colour is still that of the first fit.
    write_frames(pathlib.Path("others"), 255 - moving_masks(7, 33, 47))
    arguments = ("inpaint-video", "frames", "--masks", "others", "--checkpoint", "fitted", "--out", "warm")
    assert command(*arguments)[0] == 0
    np.testing.assert_array_equal(pixels("warm/f4.png")[30], np.tile(colour, (47, 1)))


@pytest.mark.parametrize("broken", ["a frame", "the end"])
def test_what_was_learnt_is_kept_where_the_result_cannot_be_written(command, folder, monkeypatch, broken):
    frames, masks = folder
    put, name = (video_sink._Mux.put, "put") if broken == "a frame" else (video_sink._Mux.finish, "finish")

    def full(mux, *rest):
        if mux.count in (3, 7):
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(mux, *rest)

    monkeypatch.setattr(video_sink._Mux, name, full)
    arguments = ("inpaint-video", "frames", "--masks", "masks", "--method", "learnt", "--out", "made.mp4")
    status, out, err = command(*arguments, "--save-weights", "fitted")
    assert status == 2 and "made.mp4: No space left on device" in err
    assert out.startswith("fitted: weights ") and sorted(os.listdir()) == ["fitted", "frames", "grey", "masks"]
    colour = restore_weights("fitted").weights["params"]["colour"]["value"]
    np.testing.assert_allclose(colour, frames[masks == 0].mean(0), rtol=1e-6)


def test_sigterm_leaves_nothing_behind(command, folder, monkeypatch):
    page = SYSTEMS["learnt"]

    def build(*arguments, **how):
        system = page.build(*arguments, **how)

        def stream(*given):
            filled = system.stream(*given)
            yield next(filled)
            signal.raise_signal(signal.SIGTERM)
            yield from filled

        return system._replace(stream=stream)

    monkeypatch.setitem(SYSTEMS, "learnt", page._replace(build=build))
    for out in ("made", "made.mp4"):
        with pytest.raises(SystemExit) as end:
            command("inpaint-video", "frames", "--masks", "masks", "--method", "learnt", "--out", out)
        assert end.value.code == 128 + signal.SIGTERM
    assert sorted(os.listdir()) == ["frames", "grey", "masks"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_system_that_gives_other_frames(command, folder):
    """As VINet's released protocol: of another size, the first one not."""
    frames, masks = folder
    arguments = ("inpaint-video", "frames", "--masks", "masks", "--method", "half")
    status, out, err = command(*arguments, "--out", "made")
    assert status == 0 and out.startswith("made: 6 frames in ")
    assert "note: the system's protocol gives frames of 17x24, from frame 1 of frames on\n" in err
    assert sorted(os.listdir("made")) == [f"f{index}.png" for index in range(1, 7)]
    expected = np.where(masks[..., None] > 0, np.uint8(FILL), frames)[:, ::2, ::2]
    for index in range(1, 7):
        np.testing.assert_array_equal(pixels(f"made/f{index}.png"), expected[index])

    assert command(*arguments, "--out", "made.mkv", "--lossless")[0] == 0
    with av.open("made.mkv") as container:
        shown = list(container.decode(video=0))
    assert [round(24 * frame.time) for frame in shown] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(np.stack([frame.to_ndarray(format="rgb24") for frame in shown]), expected[1:])

    assert command(*arguments, "--out", "made", "--overwrite")[0] == 0
    Image.fromarray(frames[0]).save("made/f0.png")  # of another system's result
    status, _, err = command(*arguments, "--out", "made", "--overwrite")
    assert status == 2 and "made holds 'f0.png', which is no frame of this result" in err
    write_frames(pathlib.Path("one"), frames[3:4])
    write_frames(pathlib.Path("one_mask"), masks[3:4])
    status, _, err = command("inpaint-video", "one", "--masks", "one_mask", "--method", "half", "--out", "none")
    assert status == 2 and "one has 1 frames, and the system's protocol writes none of them" in err
    assert not os.path.exists("none")


def test_one_frame_is_a_clip(command):
    frames = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), np.uint8)
    write_frames(pathlib.Path("frames"), frames)
    write_frames(pathlib.Path("masks"), moving_masks(1, 40, 40))
    status, out, _ = command("inpaint-video", "frames", "--masks", "masks", "--checkpoint", "grey", "--out", "made")
    assert status == 0 and "made: 1 frames" in out
    assert (pixels("made/00.png")[5:15, 3:14] == FILL).all()


GOOD = {"clip": "frames", "--masks": "masks", "--checkpoint": "grey", "--out": "made"}
LEARNT = {"--checkpoint": None, "--method": "learnt"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"clip": "broken.mp4"}, "not a readable video"),
        ({"clip": "nowhere"}, "does not exist"),
        ({"clip": "empty"}, "holds no picture"),
        ({"--masks": "few"}, "few holds 6 masks, and frames has 7 frames"),
        ({"--masks": "all"}, "no known pixel in any of 7 frames"),
        ({"--masks": "none"}, "no hole in any of 7 frames"),
        ({"--masks": "some"}, "2 of 7 frames are nothing but hole (1, 4)"),
        ({"--masks": "other.png"}, "40x40"),
        ({"--masks": "frames"}, "is the clip itself"),
        ({"--masks": "each", "--mask-dilate": 50}, "after dilation by 50 no known pixel is left"),
        ({"--mask-widen": -1}, "expected 0 or more"),
        ({"--out": "made.avi"}, "give a file in .mp4, .mov, .mkv"),
        ({"--out": "there.mp4"}, "exists already"),
        ({"--out": "masks", "--overwrite": None}, "would replace an input"),
        ({"--out": "made.mp4", "--lossless": None}, "lossless video is written to .mkv"),
        ({"--out": "made.mp4", "--crf": 99}, "crf is 99"),
        ({"--checkpoint": None, "--method": "grey"}, "give a checkpoint (--checkpoint PATH)"),
        ({"--checkpoint": None, "--method": "magic"}, "there is no system 'magic'"),
        ({"--checkpoint": None, "--method": "learnt:latest"}, "no config 'latest': it has dark"),
        ({"--checkpoint": None, "--method": "learnt", "--step": "3"}, "--step 3 chooses among"),
        ({"--save-weights": "fitted"}, "learns nothing from a clip"),
        ({**LEARNT, "--save-weights": "masks"}, "exists and is not empty"),
        ({**LEARNT, "--save-weights": "made"}, "--save-weights made and --out made: give two places"),
        ({**LEARNT, "--out": "run/made.mp4", "--save-weights": "run"}, "give two places"),
        ({**LEARNT, "--save-weights": "made/fitted"}, "give two places"),
        ({**LEARNT, "--save-weights": "there.mp4/fitted"}, "nothing can be written to"),
        ({"--model.sahde": 1}, "did you mean --model.shade"),
        ({"clip": "small", "--masks": "small_masks"}, "both sides must be 32"),
    ],
)
def test_what_is_refused(command, folder, changed, said):
    """Each with status 2, one line, and nothing left behind."""
    frames, masks = folder
    pathlib.Path("empty").mkdir()
    pathlib.Path("there.mp4").touch()
    pathlib.Path("broken.mp4").write_bytes(b"no video" * 99)
    write_frames(pathlib.Path("few"), masks[1:])
    write_frames(pathlib.Path("all"), np.full_like(masks, 255))
    write_frames(pathlib.Path("none"), np.zeros_like(masks))
    some = masks.copy()
    some[[1, 4]] = 255
    write_frames(pathlib.Path("some"), some)
    write_frames(pathlib.Path("each"), moving_masks(7, 33, 47))
    write_frames(pathlib.Path("small"), frames[:, :30])
    write_frames(pathlib.Path("small_masks"), masks[:, :30])
    Image.fromarray(np.zeros((40, 40), np.uint8)).save("other.png")
    before = sorted(os.listdir())

    given = {**GOOD, **changed}
    flags = [given.pop("clip")]
    for name, value in given.items():
        if name != "--checkpoint" or value is not None:
            flags += [name] if value is None else [f"{name}={value}"]
    status, out, err = command("inpaint-video", *flags)
    assert (status, out) == (2, "")
    assert said in err
    lines = [line for line in err.splitlines() if not line.startswith(("note: ", "warning: "))]
    assert len(lines) == 1 and lines[0].startswith("error: ")
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    "flag", ["--rate=fast", "--rate=0", "--rate=1/0", "--seed=18446744073709551616", "--seed=-1", "--seed=one"]
)
def test_a_number_that_is_none(command, folder, flag, capsys):
    with pytest.raises(SystemExit) as end:
        command("inpaint-video", "frames", "--masks=masks", "--checkpoint=grey", "--out=made", flag)
    assert end.value.code == 2 and f"argument {flag.split('=')[0]}: " in capsys.readouterr().err
    assert not os.path.exists("made")


def test_the_rate_of_a_folder(command, folder):
    arguments = ("inpaint-video", "frames", "--masks=masks", "--checkpoint=grey", "--out=made.mp4", "--rate=29.97")
    assert command(*arguments)[0] == 0
    with av.open("made.mp4") as container:
        assert container.streams.video[0].average_rate == NTSC


def test_the_commands_of_the_readme_are_commands():
    readme = pathlib.Path(__file__).parents[2].joinpath("README.md").read_text()
    lines = re.findall(r"^jaxpaint ((?:inpaint-video|retarget|propagate-mask) .*)$", readme, re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        _, rest = cli._parser().parse_known_args(shlex.split(line))  # what is missing or mistyped exits
        assert not rest


def test_pictures_are_refused_by_what_learns_from_clips(command):
    inpainter = Inpainter.from_method("learnt")
    assert inpainter.fits and inpainter.sees == "the whole clip"
    picture = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(InputError, match=r"learns from the clip that it fills.*inpaint-video"):
        inpainter.inpaint(picture, np.eye(40))
    page = toy_clips.Page("", toy_clips.Grey, toy_clips.build_grey, None, watch="", video=True)
    SYSTEMS["grey"] = page  # the fixture puts back what was there
    with pytest.raises(InputError, match=r"grey fills a clip from all of its frames.*inpaint-video"):
        Inpainter("grey", {}, {"params": {}}).inpaint(picture, np.eye(40))


def test_a_system_of_pictures_fills_each_frame_as_that_picture():
    """A network this time: frames of a clip, of which some have no hole, against `Inpainter.inpaint` of each."""
    import toy_config  # registers itself: not before all tests were collected, as the battery takes every system

    system, config = SYSTEMS["toy"].build(toy_config.Config()), toy_config.Config()
    batch = {"image": np.zeros((1, 32, 32, 3), np.float32), "mask": np.zeros((1, 32, 32, 1), np.float32)}
    params = jax.jit(lambda key: system.init(key, batch).params)(jax.random.key(0))
    inpainter = Inpainter("toy", config, {"params": params}, precision="float32", devices=1)
    frames = np.random.default_rng(0).integers(0, 256, (5, 33, 41, 3), np.uint8)
    masks = moving_masks(5, 33, 41, first=1)[..., None] // 255
    result = np.stack(list(inpainter.stream(frames, masks)))
    hole = np.broadcast_to(masks > 0, frames.shape)
    np.testing.assert_array_equal(result[~hole], frames[~hole])
    alone = inpainter.inpaint(frames[1:], masks[1:], positions=[1, 2, 3, 4])
    assert np.abs(result[1:].astype(int) - alone).max() <= 1  # rounding, where batches differ in size
    assert result[hole].std() > 5
    assert inpainter.compiles == 1


MEASURE = """
import resource, sys
import toy_clips
from jaxpaint.run import cli
from jaxpaint.run.cli import main

toy_clips.register()
peaks = []
for name in ("short", "short", "long"):  # the first run compiles
    how = ["--masks", "mask.png", "--out", f"{name}-made.mp4", "--crf", "40", "--overwrite", *sys.argv[1:]]
    assert main(["inpaint-video", f"{name}.mp4", *how]) == 0
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print("grew", peaks[2] - peaks[1])
"""


@pytest.mark.parametrize("subject", [("--checkpoint", "grey"), ("--method", "learnt")])
def test_memory_does_not_grow_with_the_clip(command, tmp_path, subject):
    """The highest mark of a process after 500 frames is that after 50; the other 450 are 78 MB."""
    frames = scene(50, 240, 240)
    write_raw("short.mp4", frames)
    write_raw("long.mp4", np.concatenate([frames] * 10))
    mask = np.zeros((240, 240), np.uint8)
    mask[40:80, 40:80] = 255
    Image.fromarray(mask).save("mask.png")
    here = pathlib.Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "XLA_FLAGS": ""}
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, *subject], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    grown = int(process.stdout.split("grew")[1])  # KiB; 1,000 to 6,000 by the allocator
    assert grown < 24 * 1024
