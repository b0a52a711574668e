"""`evaluate.py --video`: hand-computed figures on tiny clips, the card, the same bytes twice, clear errors."""

import csv
import dataclasses
import hashlib
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxpaint.data.bilinear import resize_bilinear
from jaxpaint.io.frames import array_clip
from jaxpaint.io.video_sink import open_sink
from jaxpaint.io.weights import save_weights
from jaxpaint.metrics.networks import Look, Recipe
from jaxpaint.metrics.rows import metric_of_rows
from jaxpaint.metrics.video import VIDEO_METRICS
from jaxpaint.ops.masks import digest
from jaxpaint.ops.masks.moving_sets import MOVING_SETS, frozen_clip
from jaxpaint.ops.pixels import composite
from jaxpaint.run.clips import Clips, FolderClipMasks, spread
from jaxpaint.run.config import Experiment
from jaxpaint.run.evaluate import main
from jaxpaint.run.figures import chosen, clip_figures
from jaxpaint.run.measure import evaluate
from jaxpaint.run.subject import mean_fill
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Extent, Page, System
from jaxpaint.types import InputError

HEIGHT, WIDTH = 36, 40
LENGTHS = {"ants": 3, "bees": 5}

DIGESTS = {
    "still-box": "da0ba1610856",
    "still-freeform": "b29c3e8b86bc",
    "moving-box": "49d1a5ad6663",
    "moving-freeform": "2e7b51fd7e8f",
}
"""Of the masks of clip 1, 3 frames of 32x40, seed 2: other bits would be other masks than those of earlier figures."""


def example(number, frames):
    """A clip, a ramp that slides, and its masks: a box that moves; the last frame has none."""
    rng = np.random.default_rng(number)
    wide = np.linspace(40, 200, HEIGHT * (WIDTH + frames) * 3).reshape(HEIGHT, WIDTH + frames, 3)
    wide = np.clip(wide + rng.normal(0, 20, wide.shape), 0, 255).astype(np.uint8)
    clip = np.stack([wide[:, t : t + WIDTH] for t in range(frames)])
    masks = np.zeros((frames, HEIGHT, WIDTH, 1), np.uint8)
    for t in range(frames - 1):
        masks[t, 8:20, 6 + t : 18 + t] = 1
    return clip, masks


def save(folder, array):
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(array):
        Image.fromarray(frame if frame.shape[-1] == 3 else frame[..., 0] * 255).save(folder / f"{number:05d}.png")


@pytest.fixture
def folder(tmp_path):
    """Two clips, of 3 and of 5 frames, in data/test and their masks in masks."""
    for number, (name, frames) in enumerate(LENGTHS.items()):
        clip, masks = example(number, frames)
        save(tmp_path / "data/test" / name, clip)
        save(tmp_path / "masks" / name, masks)
    return tmp_path


def command(folder, *more, subject=("--baseline", "mean")):
    data = ["--video", *subject, "--data", str(folder / "data/test"), "--size", "original"]
    masks = [] if "--mask-set" in more or "--masks" in more else ["--masks", str(folder / "masks")]
    return [*data, *masks, "--metrics", "l1,psnr", *more]


def measured(folder, *more, out="out", **how):
    """metrics.json of a run."""
    assert main(command(folder, "--out", str(folder / out), *more, **how), say=lambda line: None) == 0
    return json.loads((folder / out / "metrics.json").read_text())


def refused(folder, capsys, *more, **how):
    """What a run says that comes to nothing."""
    assert main(command(folder, "--out", str(folder / "refused"), *more, **how), say=lambda line: None) == 2
    return capsys.readouterr().err


def by_hand(frames=None):
    """PSNR of every frame with a hole, whole and hole, clip by clip, filled with the clip's mean colour."""
    values = []
    for number, count in enumerate(LENGTHS.values()):
        clip, masks = (part[:frames] for part in example(number, count))
        colour = np.rint(clip[masks[..., 0] == 0].mean(0))
        values.append({"whole": [], "hole": []})
        for frame, mask in zip(clip, masks, strict=True):
            if mask.any():
                errors = np.where(mask > 0, colour - frame, 0.0)
                for region, part in (("whole", errors.ravel()), ("hole", errors[mask[..., 0] > 0])):
                    values[-1][region].append(10 * np.log10(255**2 / np.mean(part**2)))
    return values


# Figures


def test_both_averages_and_the_frames_without_a_value(folder):
    values = by_hand()
    by_clip, by_frame = (measured(folder, "--average", average, out=average) for average in ("clips", "frames"))
    for region in ("whole", "hole"):
        means = [np.mean(clip[region]) for clip in values]
        pooled = np.mean([value for clip in values for value in clip[region]])
        assert abs(np.mean(means) - pooled) > 0.01
        first, second = (report["results"]["psnr"][region] for report in (by_clip, by_frame))
        assert first["value"] == pytest.approx(np.mean(means), abs=1e-6)
        assert second["value"] == pytest.approx(pooled, abs=1e-6)
        assert first["n"] == second["n"] == 2 and first["frames"] == second["frames"] == 6
    # A frame without a hole comes back as it was: infinite over the whole, and nothing in the hole.
    assert by_clip["results"]["psnr"]["whole"]["infinite"] == 2
    assert by_clip["results"]["psnr"]["hole"]["empty"] == 2
    assert by_clip["results"]["outside_max_abs_diff"]["outside"] == {"n": 2, "value": 0.0}
    assert "each clip weighs the same" in by_clip["protocol"]["average"]
    assert "each frame weighs the same" in by_frame["protocol"]["average"]
    table = (folder / "clips/table.md").read_text()
    assert "N: 2 clips." in table and "psnr (hole): 2 frames left out" in table
    rows = list(csv.DictReader((folder / "clips/clips.csv").open()))
    assert [(row["clip"], row["frames"]) for row in rows] == [("ants", "3"), ("bees", "5")]
    assert [float(row["psnr hole"]) for row in rows] == pytest.approx(
        [np.mean(clip["hole"]) for clip in values], abs=1e-5
    )


def test_only_the_first_frames_and_the_first_clips(folder):
    report = measured(folder, "--frames", "2")
    wanted = np.mean([np.mean(clip["hole"]) for clip in by_hand(2)])
    assert report["results"]["psnr"]["hole"]["value"] == pytest.approx(wanted, abs=1e-6)
    assert report["protocol"]["data"]["frames"] == 4
    assert measured(folder, "--limit", "1")["protocol"]["data"]["clips"] == 1


def test_a_clip_with_a_frame_that_is_too_small_for_a_window_has_no_value():
    clip, masks = example(0, 3)
    results = evaluate(mean_fill, [clip], [masks], metrics=clip_figures(("ssim.uniform65",)), noun="clip")["results"]
    assert results["ssim.uniform65"]["whole"]["value"] is None
    assert "3 of 3 pictures are below 65 px" in results["ssim.uniform65"]["whole"]["reason"]


def test_the_flow_is_in_the_name_and_on_the_card(folder):
    report = measured(folder, "--metrics", "ewarp", "--flow", "tvl1")
    result = report["results"]["ewarp[tvl1]"]
    assert result["whole"]["n"] == result["hole"]["n"] == 2
    assert result["hole"]["value"] > result["whole"]["value"] > 0
    assert "TV-L1" in report["protocol"]["metrics"]["ewarp[tvl1]"]


def test_a_metric_of_the_whole_set_has_a_row_a_clip(folder, monkeypatch):
    """In the place of VFID: the distance of the clips' mean colours."""

    def measure(predictions, targets, masks):
        colours = ([clip.mean((0, 1, 2)) for clip in clips] for clips in (predictions, targets))
        return dict(zip(("prediction", "target"), map(np.float32, colours), strict=True))

    def finish(measure, about):
        def result(prediction, target):
            return {"value": float(np.abs(prediction - target).mean())}

        return metric_of_rows(measure, ("prediction", "target"), result, about, better="lower")

    monkeypatch.setitem(VIDEO_METRICS, "colour", Recipe("colours", Look((), lambda: measure), finish))
    wanted = []
    for number, count in enumerate(LENGTHS.values()):
        clip, masks = example(number, count)
        wanted.append(np.abs(mean_fill([clip], [masks], [number])[0].mean((0, 1, 2)) - clip.mean((0, 1, 2))).mean())
    result = measured(folder, "--metrics", "colour")["results"]["colour"]["whole"]
    assert result == {"n": 2, "value": pytest.approx(np.mean(wanted), rel=1e-5)}


def test_the_fields_way_to_432x240_is_that_of_opencv(folder):
    """The numbers are OpenCV 5's, which shrinks 5x7 to 3x4."""
    ramp = (np.arange(35).reshape(5, 7, 1) * 37 % 256).astype(np.uint8)
    wanted = [[15, 79, 144, 209], [20, 85, 149, 214], [25, 89, 154, 219]]
    np.testing.assert_array_equal(resize_bilinear(ramp, 3, 4)[..., 0], wanted)
    clips = Clips(str(folder / "data/test"), (32, 32), "bilinear")
    np.testing.assert_array_equal(clips[0][1], resize_bilinear(example(0, 3)[0][1], 32, 32))
    assert clips.card()["resize"].startswith("bilinear: as resize, without antialiasing")
    assert np.abs(clips[0].astype(int) - Clips(str(folder / "data/test"), (32, 32), "resize")[0]).max() > 1


# The card and the files


def test_two_runs_write_the_same_bytes_and_hold_the_card(folder):
    report, _ = (measured(folder, out=out) for out in "ab")
    for name in ("metrics.json", "table.md", "sheet.png", "clips.csv"):
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes(), name
    card = report["protocol"]
    assert card["data"] == {
        "dataset": "data",
        "split": "test",
        "files_sha256": card["data"]["files_sha256"],
        "clips": 2,
        "frames": 8,
        "frames_of_a_clip": "all",
        "resolution": "original",
        "resize": "none: pictures as they are",
    }
    assert card["subject"]["sees"] == "the known pixels of all frames"
    assert card["masks"]["set"] == "files masks" and len(card["masks"]["sha256"]) == 64
    assert "as the subject gives them" in card["composite"]
    assert str(folder) not in (folder / "a/metrics.json").read_text()
    mask = example(1, 5)[1]
    save(folder / "masks/bees", np.roll(mask, 1, axis=1))
    other = measured(folder, out="c")["protocol"]
    assert other["masks"]["sha256"] != card["masks"]["sha256"] and other["data"] == card["data"]
    # Four frames of each clip would fill eight rows; the shorter has three.
    assert spread(3, 4) == [0, 1, 2] and spread(5, 4) == [0, 1, 3, 4]


def test_frozen_sets_are_the_same_on_every_machine_and_for_every_length():
    digests = {name: digest(frozen_clip(name, 1, 3, 32, 40, seed=2))[:12] for name in MOVING_SETS}
    assert digests == DIGESTS
    for name in MOVING_SETS:
        longer = frozen_clip(name, 1, 5, 32, 40, seed=2)
        np.testing.assert_array_equal(longer[:3], frozen_clip(name, 1, 3, 32, 40, seed=2))
        assert longer.shape == (5, 32, 40, 1) and longer.any((1, 2, 3)).all() and not longer.all((1, 2, 3)).any()
        assert (longer == longer[:1]).all() == name.startswith("still")
        assert (longer != frozen_clip(name, 0, 5, 32, 40, seed=2)).any()


def test_frozen_masks_by_the_number_of_the_clip(folder):
    report = measured(folder, "--mask-set", "moving-box", "--size", "32x40", "--seed", "3")
    lines = [f"{i} {digest(frozen_clip('moving-box', i, t, 32, 40, 3))}\n" for i, t in enumerate(LENGTHS.values())]
    assert report["protocol"]["masks"] == {
        "set": "moving-box",
        "note": MOVING_SETS["moving-box"].note,
        "seed": 3,
        "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
    }


# Where clips and masks come from


def test_video_files_arrays_and_the_demo_are_clips(folder):
    clips = {name: example(number, frames)[0] for number, (name, frames) in enumerate(LENGTHS.items())}
    (folder / "videos").mkdir()
    for name, clip in clips.items():
        with open_sink(folder / f"videos/{name}.mp4", array_clip(clip)) as put:
            for frame in clip:
                put(frame)
    np.savez(folder / "clips.npz", clips=np.stack([clip[:3] for clip in clips.values()]))
    videos = Clips(str(folder / "videos"), None, "none")
    assert videos.card()["decoder"].startswith("PyAV ")
    assert [videos.label(i) for i in range(2)] == ["ants.mp4", "bees.mp4"]
    assert [videos[i].shape for i in range(2)] == [(3, HEIGHT, WIDTH, 3), (5, HEIGHT, WIDTH, 3)]
    masks = FolderClipMasks(str(folder / "masks"), videos, "hole-white")
    np.testing.assert_array_equal(masks[1], example(1, 5)[1])
    np.testing.assert_array_equal(Clips(str(folder / "clips.npz"), None, "none")[1], clips["bees"][:3])
    one = Clips(str(folder / "data/test/bees"), (32, 32), "center-crop", frames=2)
    assert len(one) == 1 and one.label(0) == "bees" and one[0].shape == (2, 32, 32, 3)
    assert Clips("demo", (32, 48), "none", limit=2, frames=3)[1].shape == (3, 32, 48, 3)


def test_masks_of_the_stored_size_are_cut_as_their_clip_is_and_those_of_the_evaluated_size_are_taken(folder):
    clips = Clips(str(folder / "data/test"), (32, 32), "crop")
    masks = FolderClipMasks(str(folder / "masks"), clips, "hole-white")
    np.testing.assert_array_equal(masks[0], example(0, 3)[1][:, 2:34, 4:36])
    small = np.zeros((1, 32, 32, 1), np.uint8)
    small[:, 4:9, 5:20] = 1
    save(folder / "one", small)
    one = FolderClipMasks(str(folder / "one/00000.png"), clips, "hole-white")
    np.testing.assert_array_equal(one[1], small.repeat(5, 0))


def test_one_folder_of_masks_serves_all_clips_and_left_over_masks_are_no_matter(folder, recwarn):
    clips = Clips(str(folder / "data/test"), None, "none", frames=2)
    masks = FolderClipMasks(str(folder / "masks/bees"), clips, "hole-white")
    for index in range(2):
        np.testing.assert_array_equal(masks[index], example(1, 5)[1][:2])
    assert not [str(warning.message) for warning in recwarn if "not used" in str(warning.message)]


# Systems


@dataclasses.dataclass
class ToyConfig:
    pass


def toy(stream, sees, extent=None):
    """A page of a system that learns from its clip, whose frames `stream` makes."""
    how = {"stream": stream, "sees": sees, "extent": extent}
    system = System(None, None, inpaint=None, networks={}, notes=("A toy.",), **how)
    return Page("Toy", ToyConfig, lambda config, optim=None, dtype=None: system, ToyConfig(), watch="", internal=True)


def test_a_method_that_drops_frames_and_changes_known_pixels_says_so(folder, monkeypatch):
    def stream(weights, clip, masks, key, say):
        assert not weights.params
        for frame in clip.frames(1):
            yield frame ^ np.uint8(2)  # 2 more or less

    monkeypatch.setitem(
        SYSTEMS, "toy", toy(stream, "all later frames", lambda clip: Extent(1, clip.height, clip.width))
    )
    how = {"subject": ("--method", "toy")}
    report = measured(folder, **how)
    card = report["protocol"]
    assert card["subject"]["sees"] == "all later frames" and card["subject"]["notes"] == ["A toy."]
    assert card["subject"]["source"] == "none: it learns from each clip"
    (note,) = card["notes"]
    assert note.startswith("2 of 8 frames are not written by the system's protocol (the first ones of a clip)")
    assert note in (folder / "out/table.md").read_text()
    assert report["results"]["outside_max_abs_diff"]["outside"]["value"] == 2
    assert report["results"]["l1"]["whole"]["value"] == pytest.approx(2 / 255, abs=1e-8)
    assert report["results"]["l1"]["whole"]["frames"] == 6
    pasted = measured(folder, "--composite", "paste", **how)
    assert pasted["results"]["outside_max_abs_diff"]["outside"]["value"] == 0
    assert pasted["results"]["l1"]["hole"]["value"] == pytest.approx(2 / 255, abs=1e-8)
    assert "pasted from the input" in pasted["protocol"]["composite"]


def test_a_system_of_pictures_goes_frame_by_frame(folder, monkeypatch):
    def inpaint(weights, batch, rng):
        return composite(jnp.zeros_like(batch["image"]) + weights.params["net"]["grey"], batch["image"], batch["mask"])

    system = System(None, None, inpaint, networks={})
    page = Page("Grey", ToyConfig, lambda config, optim=None, dtype=None: system, ToyConfig(), watch="")
    monkeypatch.setitem(SYSTEMS, "grey", page)
    weights = {"params": {"net": {"grey": np.float32(0.25)}}}
    name = save_weights(folder / "weights", weights, dataclasses.asdict(Experiment("grey", ToyConfig())))
    report = measured(folder, subject=("--checkpoint", str(folder / "weights")))
    assert report["protocol"]["subject"]["sees"] == "the frame alone"
    assert report["protocol"]["subject"]["weights_hash"] == name
    level, wanted = round(1.25 * 127.5), []
    for number, count in enumerate(LENGTHS.values()):
        clip, masks = example(number, count)
        errors = [
            np.abs(level - f[m[..., 0] > 0]).mean() for f, m in zip(clip.astype(int), masks, strict=True) if m.any()
        ]
        wanted.append(np.mean(errors) / 255)
    assert report["results"]["l1"]["hole"]["value"] == pytest.approx(np.mean(wanted), abs=1e-7)
    assert report["results"]["outside_max_abs_diff"]["outside"]["value"] == 0


def test_frames_of_another_size_are_refused(folder, monkeypatch, capsys):
    monkeypatch.setitem(SYSTEMS, "toy", toy(None, "", lambda clip: Extent(0, 32, 32)))
    error = refused(folder, capsys, subject=("--method", "toy"))
    assert (
        "gives frames of 32x32, and clip 0 is evaluated at 36x40" in error and "--size 32x32 --resize resize" in error
    )


# Errors


def test_a_folder_with_fewer_masks_than_frames(folder, capsys):
    (folder / "masks/bees/00003.png").unlink()
    error = refused(folder, capsys)
    assert "1 of 5 frames of" in error and "have no mask of their name among the 4" in error and "00003.png" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ["--frames", "1", "--metrics", "ewarp", "--flow", "tvl1"],
            "clip ants has one frame to evaluate, and the warp",
        ),
        (["--metrics", "ewarp"], "clip ants is 36x40, and RAFT takes 128x128 at least: give --flow tvl1"),
        (["--metrics", "vfid.released", "--size", "32"], "is 32x32, and VFID's I3D takes 33x33 at least"),
        (["--flow", "tvl1"], "--flow tvl1 is for ewarp, which is not among --metrics"),
        (["--metrics", "fid.tf1"], "there is no metric 'fid.tf1'"),
        (["--frames", "-1"], "--frames -1"),
        (["--batch", "2"], "clips are filled one at a time"),
        (["--mask-pairing", "seed"], "masks of clips are found by the clips' names"),
        (["--masks", "{}/none"], "does not exist"),
        (["--masks", "{}/data"], "2 of 2 clips have no masks of their name"),
        (["--data", "{}/masks/none"], "does not exist: give a video file or a folder"),
        (["--data", "{}/empty"], "holds no clip"),
        (["--data", "{}/broken.mp4"], "not a readable video"),
        (["--size", "32", "--resize", "none"], "is 36x40, and --resize none asks for"),
        (
            ["--mask-set", "moving-boxx"],
            r"mask set 'moving-boxx' for clips, did you mean moving-box\?; there are still",
        ),
        (["--masks", "{}/small"], "masks of 16x16, but .* is 36x40"),
        (["--masks", "{}/full"], "no known pixel in any of 3 frames"),
    ],
)
def test_bad_arguments_exit_2_with_a_message(folder, capsys, change, message):
    (folder / "empty").mkdir()
    (folder / "broken.mp4").write_bytes(b"no video")
    save(folder / "small", np.ones((5, 16, 16, 1), np.uint8))
    save(folder / "full", np.ones((5, HEIGHT, WIDTH, 1), np.uint8))
    error = refused(folder, capsys, *(part.format(folder) for part in change))
    assert error.startswith("error: ") and re.search(message, error), error


def test_flags_of_clips_are_refused_for_pictures(folder, capsys):
    arguments = ["--baseline", "mean", "--data", str(folder / "data/test/ants"), "--flow", "tvl1"]
    assert main(arguments) == 2
    assert "--flow is of clips: give --video" in capsys.readouterr().err


def test_groups_of_metrics_are_those_of_clips():
    assert set(chosen("temporal", clips=True)) == {"outside_max_abs_diff", "ewarp"}
    with pytest.raises(InputError, match="no metric 'temporal'"):
        chosen("temporal")
    with pytest.raises(InputError, match="a RAFT that was never trained says nothing"):
        clip_figures(("ewarp",), features="random")
