"""`evaluate` against brute force, and the command line: the same bytes twice, the card, clear errors."""

import csv
import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxpaint.io.weights import save_weights
from jaxpaint.metrics import Metric
from jaxpaint.ops.masks import BUCKETS, frozen
from jaxpaint.ops.pixels import composite
from jaxpaint.run import protocol
from jaxpaint.run.config import Experiment
from jaxpaint.run.evaluate import main
from jaxpaint.run.figures import figures
from jaxpaint.run.measure import evaluate, flat
from jaxpaint.run.protocol import Pictures, frozen_masks, parse_size, to_json
from jaxpaint.run.sheet import GAP, HOLE, sample_sheet, sheet
from jaxpaint.run.subject import mean_fill
from jaxpaint.run.tables import tables
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Page, System
from jaxpaint.types import InputError


def example(number, height=48, width=40):
    rng = np.random.default_rng(number)
    ramp = np.linspace(40, 200, height * width * 3).reshape(height, width, 3)
    image = np.clip(ramp + rng.normal(0, 20, ramp.shape), 0, 255).astype(np.uint8)
    mask = np.zeros((height, width, 1), np.uint8)
    top, left = rng.integers(4, 20, 2)
    mask[top : top + 12, left : left + 9 + number] = 1
    return image, mask


def examples(count, **size):
    return [list(part) for part in zip(*(example(n, **size) for n in range(count)), strict=True)]


def save(folder, name, array):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array if array.shape[-1] == 3 else array[..., 0] * 255).save(path)


@pytest.fixture
def folders(tmp_path):
    """Five pictures 48x40 in cats/val and their masks, by name."""
    for number, (image, mask) in enumerate(zip(*examples(5), strict=True)):
        save(tmp_path, f"cats/val/{number}.png", image)
        save(tmp_path, f"masks/{number}.png", mask)
    return tmp_path


def arguments(folders, *more):
    data = ["--baseline", "mean", "--data", str(folders / "cats/val"), "--metrics", "l1,psnr,ssim.uniform65"]
    return [*data, "--masks", str(folders / "masks"), "--size", "original", *more]


# The measurement


def test_figures_are_means_of_per_picture_values():
    images, masks = examples(5)
    report = evaluate(mean_fill, images, masks, metrics=figures(("l1", "psnr", "outside_max_abs_diff")), batch=2)
    want = {"l1": [], "l1_hole": [], "psnr": [], "psnr_hole": []}
    for image, mask in zip(images, masks, strict=True):
        hole = mask[..., 0] == 1
        error = np.zeros(image.shape)
        error[hole] = np.rint(image[~hole].mean(0)) - image[hole]
        for suffix, part in (("", error), ("_hole", error[hole])):
            want["l1" + suffix].append(np.abs(part).mean() / 255)
            want["psnr" + suffix].append(10 * np.log10(255**2 / (part**2).mean()))
    got = flat(report)
    assert got.pop("outside_max_abs_diff") == 0
    assert got == {name: pytest.approx(np.mean(values), abs=2e-8) for name, values in want.items()}


def test_batch_size_does_not_move_a_figure_and_positions_run_through():
    images, masks = examples(5)
    seen = []

    def inpaint(images, masks, positions):
        seen.append(positions)
        return mean_fill(images, masks, positions)

    metrics = figures(("l1", "psnr", "ssim.uniform7"))
    reports = [evaluate(inpaint, images, masks, metrics=metrics, batch=batch) for batch in (2, 5)]
    assert reports[0] == reports[1]
    assert seen == [[0, 1], [2, 3], [4], [0, 1, 2, 3, 4]]


def test_buckets_have_their_own_figures_and_merge_into_all():
    images, masks = examples(4)
    other = [np.roll(mask, 7, axis=0) for mask in masks]
    metrics = figures(("l1", "psnr"))
    report = evaluate(mean_fill, images, {"small": masks, "large": other}, metrics=metrics)
    parts = [evaluate(mean_fill, images, m, metrics=metrics)["results"] for m in (masks, other)]
    assert list(report["buckets"].values()) == parts
    assert report["results"]["l1"]["hole"]["n"] == 8
    mean = np.mean([part["l1"]["hole"]["value"] for part in parts])
    assert report["results"]["l1"]["hole"]["value"] == pytest.approx(mean, abs=1e-8)
    text = tables(report, metrics)
    assert "small" in text and "| l1 ↓" in text


def test_a_metric_of_the_whole_set_is_one_more_entry_of_the_dict():
    """Distance between the mean colours of all results and all truths: no mean of per-picture values."""
    metric = Metric(
        about="distance of mean colours",
        better="lower",
        unit="",
        regions=("whole",),
        measure=lambda a, b, m: {
            "features": np.array([[x.mean((0, 1)), y.mean((0, 1))] for x, y in zip(a, b, strict=True)])
        },
        init=lambda: (0, np.zeros((2, 3))),
        update=lambda state, measured: (state[0] + len(measured["features"]), state[1] + measured["features"].sum(0)),
        merge=lambda a, b: (a[0] + b[0], a[1] + b[1]),
        compute=lambda s: {"whole": {"value": float(np.linalg.norm(s[1][0] - s[1][1]) / s[0]), "n": s[0]}},
    )
    metrics = {**figures(("l1",)), "colour": metric}
    images, masks = examples(5)
    results = mean_fill(images, masks, [])
    seen = []
    report = evaluate(mean_fill, images, masks, metrics=metrics, batch=2, observe=seen.append)
    difference = np.mean([a.mean((0, 1)) - b.mean((0, 1)) for a, b in zip(results, images, strict=True)], axis=0)
    assert report["results"]["colour"]["whole"]["value"] == pytest.approx(np.linalg.norm(difference), abs=1e-7)
    assert [s.position for s in seen] == list(range(5)) and seen[0].values["colour"] == {}
    assert "colour ↓" in tables(report, metrics)


def test_changed_known_pixels_are_reported():
    images, masks = examples(2)

    def careless(images, masks, positions):
        return [np.where(image > 250, image, image + np.uint8(3)) for image in images]

    results = evaluate(careless, images, masks, metrics=figures(("outside_max_abs_diff",)))["results"]
    assert results["outside_max_abs_diff"]["outside"]["value"] == 3


def test_infinite_and_undefined_figures_are_null_with_a_reason_and_json_takes_them():
    images, masks = examples(2)
    metrics = figures(("psnr", "ssim.uniform65"))
    perfect = evaluate(lambda images, *_: images, images, masks, metrics=metrics)
    assert perfect["results"]["psnr"]["whole"]["infinite"] == 2
    assert flat(perfect) == {}
    text = tables(perfect, metrics)
    assert "psnr (whole) is not given: infinite for all 2" in text
    assert "ssim.uniform65 (whole) is not given: 2 of 2 pictures are below 65 px" in text
    assert json.loads(to_json(perfect)) == perfect


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, m: ([], []), "N = 0"),
        (lambda i, m: (i, m[:1]), "1 masks for 2 pictures"),
        (lambda i, m: (i, [m[0], m[1][:-1]]), "picture 1: mask is 47x40 but image is 48x40: resize"),
        (lambda i, m: (i, [m[0], m[1][..., 0]]), r"picture 1: the mask has the shape \(48, 40\)"),
        (lambda i, m: (i, [m[0] * 0, m[1]]), "picture 0: the mask is empty"),
        (lambda i, m: (i, [m[0], m[1] * 0 + 1]), "picture 1: the mask is full"),
        (lambda i, m: (i, [m[0], m[1] * 255]), "values other than 0 and 1"),
    ],
)
def test_bad_input_is_refused(change, message):
    images, masks = change(*examples(2))
    with pytest.raises(InputError, match=message):
        evaluate(mean_fill, images, masks, metrics=figures(("l1",)))


# The command line


def test_two_runs_write_the_same_bytes_and_hold_the_card(folders, capsys):
    for out in ("a", "b"):
        assert main(arguments(folders, "--out", str(folders / out))) == 0
    for name in ("metrics.json", "table.md", "sheet.png", "pictures.csv"):
        assert (folders / "a" / name).read_bytes() == (folders / "b" / name).read_bytes(), name
    assert not list((folders / "a").glob(".*")), "temporary files stay behind"
    text = (folders / "a/metrics.json").read_text()
    assert str(folders) not in text
    report = json.loads(text)
    card = report["protocol"]
    assert card["data"]["dataset"] == "cats" and card["data"]["split"] == "val" and card["data"]["pictures"] == 5
    assert card["data"]["resolution"] == "original" and len(card["data"]["files_sha256"]) == 64
    assert card["masks"]["set"] == "folder masks" and len(card["masks"]["sha256"]) == 64
    assert set(card["metrics"]) == {"l1", "psnr", "ssim.uniform65", "outside_max_abs_diff"}
    assert card["subject"]["system"] == "baseline mean" and set(card["versions"]) == {"jaxpaint", "jax"}
    assert report["results"]["outside_max_abs_diff"]["outside"] == {"n": 5, "value": 0.0}
    printed = capsys.readouterr().out
    assert "| psnr ↑" in printed and '"files_sha256"' in printed

    rows = list(csv.DictReader((folders / "a/pictures.csv").open()))
    assert [row["picture"] for row in rows] == [f"{n}.png" for n in range(5)]
    mean = np.mean([float(row["psnr hole"]) for row in rows])
    assert report["results"]["psnr"]["hole"]["value"] == pytest.approx(mean, abs=1e-6)
    assert rows[0]["ssim.uniform65 whole"] == "too small"


def test_the_card_tells_other_masks_and_other_pictures_apart(folders):
    def card(name, *more):
        assert main(arguments(folders, "--out", str(folders / name), *more)) == 0
        return json.loads((folders / name / "metrics.json").read_text())["protocol"]

    first = card("a")
    save(folders, "masks/3.png", np.roll(example(3)[1], 5, axis=0))
    second = card("b")
    assert first["masks"]["sha256"] != second["masks"]["sha256"]
    assert first["data"] == second["data"]
    save(folders, "cats/val/9.png", example(9)[0])
    save(folders, "masks/9.png", example(9)[1])
    assert card("c")["data"]["files_sha256"] != first["data"]["files_sha256"]
    assert card("d", "--limit", "2")["data"]["pictures"] == 2


def test_masks_are_cut_as_their_pictures_are(tmp_path):
    image, mask = example(0, 100, 140)
    image[...] = np.where(mask > 0, 200, 20)
    for part in ("data/x.png", "masks/x.png"):
        save(tmp_path, part, image if part.startswith("data") else mask)
    pictures = Pictures(str(tmp_path / "data"), (64, 64), "center-crop")
    masks = protocol.FolderMasks(str(tmp_path / "masks"), pictures, "name", "hole-white", 0)
    bright = pictures[0][..., 0] > 110
    assert pictures[0].shape == (64, 64, 3) and masks[0].shape == (64, 64, 1)
    assert (bright == (masks[0][..., 0] == 1)).mean() > 0.99


def test_the_frozen_buckets_are_the_default_and_each_has_its_figures(folders, monkeypatch):
    two = {name: BUCKETS[name] for name in ("irregular-01-10", "irregular-40-50")}  # each takes seconds to compile
    monkeypatch.setattr(protocol, "BUCKETS", two)
    arguments = ["--baseline", "mean", "--data", str(folders / "cats/val"), "--size", "64", "--metrics", "l1,psnr"]
    assert main([*arguments, "--limit", "2", "--out", str(folders / "a")]) == 0
    report = json.loads((folders / "a/metrics.json").read_text())
    assert list(report["buckets"]) == ["01-10", "40-50"]
    assert report["protocol"]["masks"]["set"] == "irregular"
    for bucket, digest in report["protocol"]["masks"]["sha256"].items():
        assert len(digest) == 64 and report["buckets"][bucket]["l1"]["hole"]["n"] == 2
    assert report["results"]["l1"]["whole"]["n"] == 4
    rows = list(csv.DictReader((folders / "a/pictures.csv").open()))
    for row in rows:
        low, high = BUCKETS[f"irregular-{row['bucket']}"]
        assert low < float(row["hole"]) <= high


def test_frozen_masks_follow_mixed_sizes(tmp_path):
    for number, size in enumerate([(40, 48), (48, 40), (40, 48)]):
        save(tmp_path, f"{number}.png", example(number, *size)[0])
    pictures = Pictures(str(tmp_path), None, "none")
    masks = frozen_masks("box", pictures, seed=3)
    assert [mask.shape[:2] for mask in masks] == [(40, 48), (48, 40), (40, 48)]
    wanted = frozen("box", 2, 40, 48, 3)
    np.testing.assert_array_equal(np.stack([masks[0], masks[2]]), wanted)
    assert len(masks.digest()) == 64


@dataclasses.dataclass
class GreyConfig:
    """level: of every filled pixel, in [-1, 1]."""

    level: float = 0.0


def build_grey(config, optim=None, dtype=jnp.float32):
    """A local system: the hole becomes grey, a weight brighter than its config says."""

    def inpaint(weights, batch, rng):
        grey = jnp.full_like(batch["image"], config.level) + weights.params["net"]["shift"]
        return composite(grey, batch["image"], batch["mask"])

    return System(init=None, update=None, inpaint=inpaint, networks={}, notes=("Grey is no colour.",))


def test_a_checkpoint_is_measured_and_named_in_the_card(folders, monkeypatch):
    monkeypatch.setitem(SYSTEMS, "grey", Page("Grey", GreyConfig, build_grey, GreyConfig(), watch=""))
    weights = {"params": {"net": {"shift": np.float32(0.25)}}}
    config = dataclasses.asdict(Experiment("grey", GreyConfig(level=0.5)))
    name = save_weights(folders / "weights", weights, config)
    command = arguments(folders)[2:]  # without the baseline
    assert main(["--checkpoint", str(folders / "weights"), *command]) == 0
    (out,) = (folders / "evaluations/weights").iterdir()
    report = json.loads((out / "metrics.json").read_text())
    subject = report["protocol"]["subject"]
    assert subject["system"] == "grey" and subject["config"] == {"level": 0.5}
    assert subject["notes"] == ["Grey is no colour."]
    assert (out / "table.md").read_text().endswith("Grey is no colour.\n")
    assert subject["weights_hash"] == name and subject["precision"] == "float32"
    images, masks = examples(5)
    level = round((0.75 + 1) * 127.5)
    grey = [np.where(mask > 0, np.uint8(level), image) for image, mask in zip(images, masks, strict=True)]
    wanted = evaluate(lambda *_: grey, images, masks, metrics=figures(("l1", "psnr")), batch=5)["results"]
    assert {metric: report["results"][metric] for metric in wanted} == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--step", "3"], "--step 3 chooses among the steps of a --checkpoint"),
        (["--masks", "{}/none"], "does not exist"),
        (["--data", "{}/empty"], "holds no picture"),
        (["--size", "64x"], "--size 64x: expected 256"),
        (["--size", "64", "--resize", "none"], "0.png is 48x40, and --resize none asks for"),
        (["--limit", "0"], "nothing would be evaluated"),
        (
            ["--metrics", "l1,lpips.alexx"],
            r"no metric 'lpips.alexx', did you mean lpips.alex\?; there are standard, all, perc",
        ),
        (["--metrics", ","], "names no metric: give ids, or standard, all, perceptual, distribution"),
        (["--batch", "0"], "--batch 0"),
        (["--masks", "{}/cats/val"], "0.png is not a mask"),
    ],
)
def test_bad_arguments_exit_2_with_a_message(folders, capsys, change, message):
    import re

    (folders / "empty").mkdir()
    assert main(arguments(folders, *(part.format(folders) for part in change))) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and re.search(message, error), error


def test_where_nothing_can_be_written_the_figures_are_printed_all_the_same(folders, capsys):
    (folders / "taken/table.md/deeper").mkdir(parents=True)
    assert main(arguments(folders, "--out", str(folders / "taken"))) == 2
    out, err = capsys.readouterr()
    assert "| psnr ↑" in out
    assert f"error: {folders / 'taken/table.md'} cannot be written: " in err


def test_an_unknown_mask_set_is_refused_with_the_names(folders, capsys):
    data = ["--baseline", "mean", "--data", str(folders / "cats/val"), "--size", "64"]
    assert main([*data, "--mask-set", "irregularr"]) == 2
    error = capsys.readouterr().err
    assert "there is no mask set 'irregularr', did you mean irregular?; there are irregular (all" in error
    assert "centre" in error


def test_rows_of_pictures_do_not_depend_on_the_batch(folders, monkeypatch):
    monkeypatch.setattr(protocol, "BUCKETS", ("irregular-10-20", "irregular-30-40"))
    for batch in ("1", "3"):
        shared = ["--data", str(folders / "cats/val"), "--size", "64", "--metrics", "l1", "--baseline", "mean"]
        assert main([*shared, "--batch", batch, "--out", str(folders / batch)]) == 0
    assert (folders / "1/pictures.csv").read_bytes() == (folders / "3/pictures.csv").read_bytes()


def test_a_picture_without_mask_and_a_mask_of_another_size_are_named(folders, capsys):
    (folders / "masks/2.png").unlink()
    assert main(arguments(folders)) == 2
    error = capsys.readouterr().err
    assert "2.png" in error and "--mask-pairing seed" in error
    save(folders, "masks/2.png", example(2, 50, 60)[1])
    assert main(arguments(folders)) == 2
    assert "2.png is 50x60, but 2.png is 48x40" in capsys.readouterr().err
    assert main(arguments(folders, "--mask-pairing", "seed", "--out", str(folders / "o"))) == 0


@pytest.mark.parametrize(("text", "size"), [("256", (256, 256)), ("64x96", (64, 96)), ("original", None)])
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


# The sheet


def test_a_sheet_places_every_picture_unchanged():
    rng = np.random.default_rng(0)
    rows = [[rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for w in (30, 20)] for h in (30, 24)]
    got = sheet(rows, side=30)
    assert got.shape == (30 + 24 + 3 * GAP, 30 + 20 + 3 * GAP, 3)
    top = GAP
    for row in rows:
        left = GAP
        for picture in row:
            height, width = picture.shape[:2]
            np.testing.assert_array_equal(got[top : top + height, left : left + width], picture)
            left += width + GAP if picture is row[0] else 0
        top += height + GAP


def test_a_sample_sheet_draws_the_hole_grey_and_floats_as_pixels():
    images, masks = (np.stack(part) for part in examples(1))
    filled = images / 127.5 - 1
    got = sample_sheet(images, masks, filled.astype(np.float32), side=48)
    body = got[-GAP - 48 : -GAP]
    first, second, third = (body[:, GAP + i * (40 + GAP) :][:, :40] for i in range(3))
    np.testing.assert_array_equal(first, np.where(masks[0] == 1, HOLE, images[0]))
    np.testing.assert_array_equal(second, images[0])
    np.testing.assert_array_equal(third, images[0])


def test_a_sheet_of_ragged_rows_is_refused():
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(InputError, match="as many pictures"):
        sheet([[picture, picture], [picture]])
    with pytest.raises(InputError, match="no pictures"):
        sheet([])
