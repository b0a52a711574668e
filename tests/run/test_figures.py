"""From names to metrics with weights: groups, random features by their name, and files that are not there."""

import functools
import hashlib
import json

import numpy as np
import pytest

from jaxpaint.io import pretrained
from jaxpaint.metrics import METRICS, STANDARD, perceptual
from jaxpaint.metrics.frechet import fid
from jaxpaint.metrics.kernel import kid
from jaxpaint.metrics.metric import Metric
from jaxpaint.metrics.networks import NETWORK_METRICS, Look, Recipe
from jaxpaint.run import figures as module
from jaxpaint.run.evaluate import main
from jaxpaint.run.figures import chosen, figures, notes
from jaxpaint.run.measure import evaluate
from jaxpaint.run.tables import tables
from jaxpaint.types import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXPAINT_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights/lpips/v0.1").mkdir(parents=True)
    return tmp_path / "weights"


def test_groups_and_ids_mix():
    assert chosen("standard") == STANDARD
    assert chosen("all") == tuple(METRICS)
    assert chosen("psnr, lpips.vgg") == ("outside_max_abs_diff", "psnr", "lpips.vgg")
    assert chosen("perceptual,lpips.alex,l1")[1:] == ("lpips.alex", "lpips.vgg", "lpips.squeeze", "l1")
    distribution = chosen("distribution")[1:]
    assert {*distribution, *chosen("perceptual")[1:]} == set(NETWORK_METRICS)
    assert not any(name.startswith("lpips") for name in distribution)


def test_the_default_is_standard_and_an_unknown_name_is_an_error():
    assert tuple(figures()) == STANDARD and figures()["l1"] is METRICS["l1"]
    with pytest.raises(InputError, match=r"no metric 'lpips', did you mean lpips.vgg\?; there are outside_max.*fid"):
        figures(["lpips"])
    with pytest.raises(InputError, match="features 'any': expected published or random"):
        figures(["lpips.alex"], "any")


def test_random_features_are_said_so_by_name_and_about():
    metrics = figures(["l1", "lpips.alex"], "random")
    assert list(metrics) == ["l1", "lpips.alex[random features]"]
    assert metrics["lpips.alex[random features]"].about.endswith("; weights: random, seed 0, NO published figure")
    assert "LPIPS 0.1" in metrics["lpips.alex[random features]"].about
    (note,) = notes(metrics)
    assert "[random features]" in note and "no published figures" in note
    assert notes(figures(["l1"], "random")) == []


def test_every_file_is_read_once_and_named_in_the_card(monkeypatch):
    read = []

    def load(name, network):
        read.append(name)
        return {"params": {}}  # nothing looks

    def load_linear(name):
        read.append(name)
        return (np.ones(3, np.float32),)

    monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(module, "load_linear", load_linear)
    metrics = figures(["lpips.vgg", "l1", *chosen("distribution"), "lpips.alex"])
    assert sorted(read) == ["alexnet", "inception_fid", "lpips_alex", "lpips_vgg", "vgg16"]
    assert metrics["lpips.vgg"].about.endswith("; weights: vgg16-397923af.pth, lpips/v0.1/vgg.pth")
    assert notes(metrics) == []


def test_a_missing_and_a_wrong_file_are_errors_before_anything_is_computed(folder, monkeypatch, capsys):
    monkeypatch.setattr(perceptual, "_features", None)  # nothing looks
    command = ["--baseline", "mean", "--data", "demo", "--size", "64", "--limit", "1", "--metrics", "lpips.alex"]
    assert main([*command, "--out", str(folder / "out")]) == 2
    error = capsys.readouterr().err
    entry = pretrained.FILES["alexnet"]
    assert f"the weights of alexnet are missing: expected {entry.file} in {folder}" in error
    assert f"Download {entry.url} to {folder / entry.file}" in error

    (folder / entry.file).write_bytes(b"half a file")
    assert main([*command, "--out", str(folder / "out")]) == 2
    digest = hashlib.sha256(b"half a file").hexdigest()
    assert f"is not the published file of alexnet: its sha256 is {digest}" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_an_evaluation_with_random_features_says_so_everywhere(tmp_path, capsys):
    command = ["--baseline", "mean", "--data", "demo", "--size", "64", "--limit", "2", "--mask-set", "centre"]
    out = tmp_path / "out"
    assert main([*command, "--metrics", "l1,lpips.alex", "--features", "random", "--out", str(out)]) == 0
    name = "lpips.alex[random features]"
    report = json.loads((out / "metrics.json").read_text())
    assert set(report["results"]) == set(report["protocol"]["metrics"]) == {"outside_max_abs_diff", "l1", name}
    assert report["results"][name]["hole"]["value"] > report["results"][name]["whole"]["value"] > 0
    (note,) = report["protocol"]["notes"]
    table = (out / "table.md").read_text()
    assert f"| {name} ↓ |" in table and table.endswith(note + "\n")
    first, *rows = (out / "pictures.csv").read_text().splitlines()
    assert f"{name} whole,{name} hole" in first and len(rows) == 2
    assert note in capsys.readouterr().out


def test_too_few_pictures_for_fid_are_a_reason_in_report_and_table(monkeypatch):
    looked = []

    def make():
        return lambda *_: looked.append(0) or {"prediction": np.eye(3, 4), "target": np.ones((3, 4))}

    look = Look((), make)
    monkeypatch.setitem(NETWORK_METRICS, "fid.tiny", Recipe("distance", look, functools.partial(fid, ddof=1)))
    monkeypatch.setitem(NETWORK_METRICS, "kid.tiny", Recipe("too", look, functools.partial(kid, subset_size=None)))
    metrics = figures(["fid.tiny", "kid.tiny"])
    image, mask = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 1), np.uint8)
    mask[8:16] = 1
    report = evaluate(lambda images, *_: images, [image] * 3, [mask] * 3, metrics=metrics)
    assert report["results"]["fid.tiny"]["whole"]["value"] is None
    text = tables(report, metrics)
    assert "| fid.tiny ↓ |       - |" in text
    assert "fid.tiny (whole) is not given: N = 3 pictures: FID is given for 100 at least" in text
    buckets = {"small": [mask] * 3, "large": [mask] * 3}
    parts = evaluate(lambda images, *_: images, [image] * 3, buckets, metrics=metrics)
    assert parts["buckets"]["large"] == report["results"]
    assert parts["results"]["kid.tiny"]["whole"]["reason"].startswith("it belongs to a set of different pictures")
    assert looked == [0] * 3
    # Both are made of what was seen once, and kept once.
    assert report["results"]["kid.tiny"]["whole"]["n"] == 3
    assert metrics["fid.tiny"].update is metrics["kid.tiny"].update


def test_a_flag_is_a_dagger_with_its_note_and_a_spread_stands_beside_its_value():
    metric = Metric("a", "lower", "", ("whole",), None, None, None, None, None)
    flagged = {"whole": {"value": 0.5, "std": 0.25, "n": 3, "flag": "n = 3 is below 2048"}}
    plain = {"whole": {"value": 0.5, "n": 3000}}
    none = {"whole": {"value": None, "n": 1, "reason": "n = 1: 2 are needed"}}
    text = tables({"n": 3, "results": {"x": flagged, "y": none}}, {"x": metric, "y": metric}, ["The end."])
    assert "0.50000 ± 0.25000† |" in text
    assert text.splitlines()[-3:] == [
        "† x (whole): n = 3 is below 2048.",
        "y (whole) is not given: n = 1: 2 are needed.",
        "The end.",
    ]
    # Of a set there is no figure over all buckets; what holds for several buckets is said once.
    buckets = {name: {"x": flagged} for name in ("small", "large")}
    text = tables({"n": 3, "results": {"x": none}, "buckets": buckets}, {"x": metric._replace(of_set=True)})
    assert "† x (whole, small, large): n = 3 is below 2048." in text
    buckets = {"small": {"x": flagged}, "large": {"x": plain}}
    text = tables({"n": 3, "results": {"x": plain}, "buckets": buckets}, {"x": metric})
    assert "† x (whole, small): n = 3 is below 2048." in text and text.count("†") == 2
