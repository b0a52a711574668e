"""``jaxpaint inpaint``: files and folders, there and back, and what it refuses."""

import dataclasses
import json
import struct

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxpaint.io.weights import save_weights
from jaxpaint.ops.pixels import composite
from jaxpaint.run.cli import main
from jaxpaint.run.inpainter import Inpainter
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Page, System
from jaxpaint.types import InputError


@dataclasses.dataclass
class GreyConfig:
    shade: float = 0.5
    noted: bool = False


def build_grey(config, optim=None, dtype=jnp.float32):
    """A system that fills a hole with one colour."""

    def inpaint(weights, batch, rng):
        return composite(jnp.full_like(batch["image"], config.shade), batch["image"], batch["mask"])

    notes = ("it is only grey",) if config.noted else ()
    return System(init=None, update=None, inpaint=inpaint, networks={}, notes=notes)


FILL = 191  # round((0.5 + 1) * 127.5)


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs ``jaxpaint inpaint`` with the stand-in for a checkpoint: (status, stdout, stderr)."""
    monkeypatch.setitem(SYSTEMS, "grey", Page("A colour", GreyConfig, build_grey, GreyConfig(), watch=""))

    def load(path, step=None, **options):
        if path != "good":
            raise InputError(f"checkpoint {path} does not exist")
        return Inpainter("grey", GreyConfig(), {"params": {}}, devices=1)

    monkeypatch.setattr(Inpainter, "load", load)

    def run(*arguments):
        checkpoint = [] if "--checkpoint" in arguments else ["--checkpoint", "good"]
        status = main(["inpaint", *map(str, arguments), *checkpoint])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def folder(tmp_path):
    """Pictures of four sizes in two folders, and their masks."""
    rng = np.random.default_rng(0)
    for name, size in [("a.png", (40, 50)), ("b.jpg", (50, 40)), ("sub/c.webp", (33, 47)), ("sub/d.png", (100, 300))]:
        mask = np.zeros(size, np.uint8)
        mask[4:12, 6:20] = 255
        for kind, array in [("in", rng.integers(0, 256, (*size, 3), np.uint8)), ("masks", mask)]:
            path = tmp_path / kind / name
            path = path if kind == "in" else path.with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    return tmp_path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def check(source, mask, result, *, dilated=0):
    before, after, hole = pixels(source), pixels(result), pixels(mask)[..., 0] > 127
    np.testing.assert_array_equal(after[~hole], before[~hole])
    assert (after[hole] == FILL).all()


def test_a_folder_in_several_buckets(command, folder):
    status, out, err = command(folder / "in", "--mask", folder / "masks", "--out", folder / "out")
    assert (status, err) == (0, "")
    assert "4 of 4 pictures in" in out
    for name, result in [
        ("a.png", "a.png"),
        ("b.jpg", "b.png"),
        ("sub/c.webp", "sub/c.webp"),
        ("sub/d.png", "sub/d.png"),
    ]:
        check(folder / "in" / name, (folder / "masks" / name).with_suffix(".png"), folder / "out" / result)
    assert len([p for p in (folder / "out").rglob("*") if p.is_file()]) == 4


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_more_pictures_than_are_held_at_once(command, tmp_path, batch):
    """Forty small pictures of two sizes through a window of few."""
    rng = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    mask = np.zeros((40, 40), np.uint8)
    mask[:9, :9] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for n in range(40):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "in" / f"{n:02}.png")
    status, out, _ = command(
        tmp_path / "in", "--mask", tmp_path / "mask.png", "--out", tmp_path / "out", "--batch", batch
    )
    assert status == 0
    assert "40 of 40 pictures" in out
    for n in range(40):
        check(tmp_path / "in" / f"{n:02}.png", tmp_path / "mask.png", tmp_path / "out" / f"{n:02}.png")


def test_one_broken_file_is_named_and_the_rest_is_done(command, folder):
    data = (folder / "in/b.jpg").read_bytes()
    (folder / "in/b.jpg").write_bytes(data[: len(data) // 2])
    Image.fromarray(np.zeros((20, 47, 3), np.uint8)).save(folder / "in/sub/c.webp")
    Image.fromarray(255 * np.eye(20, 47, dtype=np.uint8)).save(folder / "masks/sub/c.png")
    status, out, err = command(folder / "in", "--mask", folder / "masks", "--out", folder / "out")
    assert status == 1
    assert "2 of 4 pictures" in out
    assert "2 failed" in out
    assert f"error: {folder / 'in/b.jpg'}: broken or truncated picture" in err
    assert f"error: {folder / 'in/sub/c.webp'} is 20x47x3: both sides must be 32 pixels or more" in err
    check(folder / "in/a.png", folder / "masks/a.png", folder / "out/a.png")
    check(folder / "in/sub/d.png", folder / "masks/sub/d.png", folder / "out/sub/d.png")


def test_odd_pictures_do_not_cost_the_others(command, folder):
    """EXIF that cannot be written again, and a picture too wide for WebP."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHI4s", 0x0100, 2, 2, b"ab") + bytes(4)  # a width in letters
    with Image.open(folder / "in/a.png") as image:
        image.load()
        image.save(folder / "in/a.png", exif=exif)
    Image.fromarray(np.zeros((32, 16384, 3), np.uint8)).save(folder / "in/sub/d.png")
    Image.fromarray(255 * np.eye(32, 16384, dtype=np.uint8)).save(folder / "masks/sub/d.png")
    status, out, err = command(folder / "in", "--mask", folder / "masks", "--out", folder / "out", "--format", "webp")
    assert status == 1
    assert "3 of 4 pictures" in out
    assert f"warning: {folder / 'in/a.png'}: its EXIF is broken" in err
    assert f"error: {folder / 'out/sub/d.webp'}: WEBP cannot hold {folder / 'in/sub/d.png'} (" in err
    for name in ("a.png", "b.jpg", "sub/c.webp"):
        mask, result = ((folder / kind / name).with_suffix(end) for kind, end in [("masks", ".png"), ("out", ".webp")])
        check(folder / "in" / name, mask, result)


def test_a_picture_that_fails_in_the_network_does_not_cost_its_batch(command, folder, monkeypatch):
    run = Inpainter.run

    def fails(self, jobs, **options):
        if any(job.position == 1 for job in jobs):
            raise InputError("the result is not finite")
        return run(self, jobs, **options)

    monkeypatch.setattr(Inpainter, "run", fails)
    status, out, err = command(folder / "in", "--mask", folder / "masks", "--out", folder / "out")
    assert (status, err) == (1, f"error: {folder / 'in/b.jpg'}: the result is not finite\n")
    assert "3 of 4 pictures" in out
    for name in ("a.png", "sub/c.webp"):  # of the same bucket
        check(folder / "in" / name, (folder / "masks" / name).with_suffix(".png"), folder / "out" / name)


def test_one_file_tiled_dilated_as_jpeg(command, folder):
    status, out, err = command(
        folder / "in/sub/d.png", "--mask", folder / "masks/sub/d.png", "--out", folder / "x.jpg",
        "--max-pixels", 128 * 128, "--mask-dilate", 2,
    )  # fmt: skip
    assert (status, out) == (0, f"{folder / 'x.jpg'}\n")
    assert "1 result(s) are written as JPEG, which changes known pixels" in err
    assert np.abs(pixels(folder / "x.jpg")[4:10, 6:18].astype(int) - FILL).mean() < 6


def test_results_do_not_depend_on_the_number_of_pixels_at_once(command, folder):
    arguments = (folder / "in/sub/d.png", "--mask", folder / "masks/sub/d.png")
    assert command(*arguments, "--out", folder / "whole.png")[0] == 0
    assert command(*arguments, "--out", folder / "tiled.png", "--max-pixels", 128 * 128)[0] == 0
    np.testing.assert_array_equal(pixels(folder / "whole.png"), pixels(folder / "tiled.png"))


def test_verbose_prints_the_memory_plan_once(command, folder):
    arguments = (folder / "in/a.png", "--mask", folder / "masks/a.png", "--out", folder / "x.png")
    _, _, err = command(*arguments, "--verbose")
    assert err.count("compiled 1 x 64x64 uint8 on 1 device(s): 0.00 GiB each") == 1
    assert command(*arguments, "--overwrite")[2] == ""


def test_the_alpha_channel_as_the_mask(command, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
    array[..., 3] = 255
    array[5:9, 5:9, 3] = 0
    Image.fromarray(array).save(tmp_path / "a.png")
    status, _, err = command(tmp_path / "a.png", "--mask-convention", "alpha", "--out", tmp_path / "b.png")
    assert (status, err) == (0, "")
    with Image.open(tmp_path / "b.png") as image:
        result = np.asarray(image)
    assert result.shape == (40, 40, 4)
    assert (result[5:9, 5:9] == [FILL, FILL, FILL, 255]).all()
    array[5:9, 5:9] = result[5:9, 5:9]
    np.testing.assert_array_equal(result, array)


def test_an_empty_mask(command, folder):
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(folder / "masks/a.png")
    arguments = (folder / "in/a.png", "--mask", folder / "masks/a.png", "--out", folder / "x.png")
    status, _, err = command(*arguments)
    assert status == 2
    assert f"{folder / 'masks/a.png'} has no hole: every pixel is known under hole-white" in err
    status, _, _ = command(*arguments, "--allow-empty")
    assert status == 0
    np.testing.assert_array_equal(pixels(folder / "x.png"), pixels(folder / "in/a.png"))


def test_a_mask_of_another_size(command, folder):
    status, _, err = command(folder / "in/a.png", "--mask", folder / "masks/b.png", "--out", folder / "x.png")
    assert status == 2
    assert f"{folder / 'in/a.png'}: {folder / 'masks/b.png'} is 50x40 but image is 40x50: resize one of them" in err
    assert not (folder / "x.png").exists()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((40, 50), 128, np.uint8), "m.png is not a mask: 100.0% of its pixels are neither black nor white"),
        (np.full((40, 50), 255, np.uint8), "m.png is all hole: no pixel is known"),
        (np.eye(40, 50, dtype=np.uint8), "its values are 0 and 1 of 255, multiply them"),
    ],
)
def test_masks_that_are_none(command, folder, mask, message):
    Image.fromarray(mask).save(folder / "m.png")
    status, out, err = command(folder / "in/a.png", "--mask", folder / "m.png", "--out", folder / "x.png")
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert not (folder / "x.png").exists()


def test_an_inverted_mask_is_warned_of(command, folder):
    with Image.open(folder / "masks/a.png") as image:
        Image.fromarray(255 - np.asarray(image)).save(folder / "m.png")
    status, _, err = command(folder / "in/a.png", "--mask", folder / "m.png", "--out", folder / "x.png")
    assert status == 0
    assert err.startswith(f"warning: {folder / 'm.png'} is ")
    assert "likely inverted: use --mask-convention hole-black" in err
    black = ("--mask-convention", "hole-black", "--out", folder / "y.png")
    assert command(folder / "in/a.png", "--mask", folder / "m.png", *black)[::2] == (0, "")
    check(folder / "in/a.png", folder / "masks/a.png", folder / "y.png")


def test_a_failed_write_is_named(command, folder):
    (folder / "out").mkdir()
    (folder / "out/sub").write_text("in the way")
    status, out, err = command(folder / "in", "--mask", folder / "masks", "--out", folder / "out")
    assert status == 1
    assert "2 of 4 pictures" in out
    assert f"error: {folder / 'in/sub/c.webp'}: the result cannot be written to {folder / 'out/sub/c.webp'}: " in err


def test_nothing_is_started_where_it_would_go_wrong(command, folder):
    def refused(*arguments):
        status, out, err = command(*arguments)
        assert (status, out) == (2, "")
        return err

    source, masks = folder / "in", folder / "masks"
    assert "would replace an input" in refused(source, "--mask", masks, "--out", source, "--format", "keep")
    assert "would replace an input" in refused(
        source / "a.png", "--mask", masks / "a.png", "--out", masks, "--overwrite"
    )
    assert "nowhere does not exist" in refused(folder / "nowhere", "--mask", masks, "--out", folder / "x")
    assert "nowhere does not exist" in refused(source, "--mask", folder / "nowhere", "--out", folder / "x")
    assert "only with --mask-convention alpha" in refused(source, "--out", folder / "x")
    assert "x.png looks like a file" in refused(source, "--mask", masks, "--out", folder / "x.png")
    one = (source / "a.png", "--mask", masks / "a.png")
    assert "contradict each other" in refused(*one, "--out", folder / "x.png", "--format", "jpeg")
    assert "no picture format ends in '.gif'" in refused(*one, "--out", folder / "x.gif")
    assert "--max-pixels is 5000" in refused(*one, "--out", folder / "x.png", "--max-pixels", 5000)
    assert "--mask-dilate is -1" in refused(*one, "--out", folder / "x.png", "--mask-dilate", -1)
    assert "--batch is 0" in refused(*one, "--out", folder / "x.png", "--batch", 0)
    assert "checkpoint bad does not exist" in refused(*one, "--out", folder / "x.png", "--checkpoint", "bad")
    assert command(*one, "--out", folder / "x.png")[0] == 0
    assert "1 result(s) exist already" in refused(*one, "--out", folder / "x.png")
    assert command(*one, "--out", folder / "x.png", "--overwrite")[0] == 0
    (source / "a.jpg").write_bytes((source / "b.jpg").read_bytes())
    assert "would both become" in refused(source, "--mask", masks, "--out", folder / "y")
    (masks / "b.png").unlink()
    assert "b.jpg" in refused(source, "--mask", masks, "--out", folder / "y", "--format", "keep")
    (folder / "nothing").mkdir()
    assert "holds no picture" in refused(folder / "nothing", "--mask", masks, "--out", folder / "y")


@pytest.fixture
def grey(monkeypatch, tmp_path):
    """A checkpoint of the system whose notes are to be repeated."""
    monkeypatch.setitem(SYSTEMS, "grey", Page("A colour", GreyConfig, build_grey, GreyConfig(), watch=""))
    weights = {"params": {"net": {"x": np.zeros(1, np.float32)}}}
    save_weights(tmp_path / "grey", weights, {"system": "grey", "model": {"noted": True}})
    return tmp_path / "grey"


def test_fields_of_the_model_are_set_and_notes_repeated(grey, folder, capsys):
    """`noted` says something about the weights: it stays true."""
    arguments = [folder / "in", "--mask", folder / "masks", "--checkpoint", grey, "--out", folder / "out"]
    flags = ["--model.shade", "-0.5", "--model.noted=False"]
    assert main(["inpaint", *flags, *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == "note: it is only grey\n"
    assert "4 of 4 pictures" in out
    hole = pixels(folder / "masks/a.png")[..., 0] > 127
    assert (pixels(folder / "out/a.png")[hole] == 64).all()  # round((-0.5 + 1) * 127.5)
    for flag, message in [
        ("--model.shad=0.1", "error: --model.shad: GreyConfig has no field 'shad'; did you mean --model.shade?"),
        ("--model.shade=dark", "error: --model.shade: expected float, got 'dark'"),
    ]:
        assert main(["inpaint", *map(str, arguments), "--overwrite", flag]) == 2
        assert message in capsys.readouterr().err
    for flags, message in [
        (["--shade=0.1"], "unknown argument '--shade=0.1'"),
        (["--model.shade"], "--model.shade wants a value: --model.shade=VALUE"),
    ]:
        with pytest.raises(SystemExit):
            main(["inpaint", *map(str, arguments), *flags])
        assert message in capsys.readouterr().err


def test_an_evaluation_says_what_was_set(grey, tmp_path, capsys):
    arguments = ["--checkpoint", str(grey), "--data", "demo", "--size", "32", "--limit", "1", "--mask-set", "centre"]
    assert main(["evaluate", *arguments, "--metrics", "l1", "--model.shade=0.25"]) == 0
    (result,) = (tmp_path / "evaluations" / "grey").iterdir()
    assert result.name.startswith("grey-0-shade=0.25_demo")
    subject = json.loads((result / "metrics.json").read_text())["protocol"]["subject"]
    assert subject["config"] == {"shade": 0.25, "noted": True}
    assert subject["changed"] == {"shade": 0.25}
    assert subject["notes"] == ["it is only grey"]
    capsys.readouterr()
    assert main(["evaluate", "--baseline", "mean", *arguments[2:], "--model.shade=1"]) == 2
    assert "--model.shade sets a field of a model, and a baseline has none" in capsys.readouterr().err
