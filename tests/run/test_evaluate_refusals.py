"""`evaluate`: what is refused before any work, odd names, and results that are not overwritten."""

import io
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from jaxpaint.run import evaluate
from jaxpaint.run.subject import BASELINES


def save(path, height=40, width=40):
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with open(path, "wb") as file:
        Image.fromarray(pixels).save(file, "PNG")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two pictures in cats, a mask for all of them in masks; results go below the same folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats").mkdir()
    (tmp_path / "masks").mkdir()
    for name in ("a", "b"):
        save(f"cats/{name}.png")
    hole = np.zeros((40, 40), np.uint8)
    hole[8:20, 8:20] = 255
    Image.fromarray(hole).save("masks/m.png")
    return tmp_path


MASKS = ("--masks", "masks", "--mask-pairing", "seed")


def measure(*more):
    return evaluate.main(["--baseline", "mean", "--data", "cats", "--size", "original", "--metrics", "l1", *more])


def refused(monkeypatch, capsys, *more):
    """The message of a command that filled nothing."""
    monkeypatch.setitem(BASELINES, "mean", lambda *_: pytest.fail("something was measured"))
    assert measure(*more) == 2
    return capsys.readouterr().err


def test_results_of_another_protocol_stay(pictures):
    def written():
        return {path.parent.name: path.read_bytes() for path in pictures.glob("evaluations/*/metrics.json")}

    assert measure(*MASKS) == 0
    first = written()
    (name,) = first
    assert measure(*MASKS, "--metrics", "l2") == 0
    both = written()
    assert len(both) == 2 and both[name] == first[name]
    (other,) = set(both) - set(first)
    assert other.startswith(f"{name}_") and len(other) == len(name) + 9
    assert measure(*MASKS) == 0 and measure(*MASKS, "--metrics", "l2") == 0
    assert written() == both
    for metric in ("l1", "l2"):  # a folder that was named is written anew
        assert measure(*MASKS, "--metrics", metric, "--out", "named") == 0
        assert metric in json.loads((pictures / "named/metrics.json").read_text())["results"]


def test_a_file_that_leads_nowhere_is_named_before_any_work(pictures, monkeypatch, capsys):
    (pictures / "cats/z.png").symlink_to("nowhere")
    error = refused(monkeypatch, capsys, *MASKS, "--limit", "2")
    assert error.startswith("error: cats/z.png: cannot be read: No such file")
    (pictures / "cats/z.png").unlink()
    (pictures / "masks/m.png").unlink()
    (pictures / "masks/m.png").symlink_to("nowhere")
    assert refused(monkeypatch, capsys, *MASKS).startswith("error: masks/m.png: cannot be read: No such file")


def test_names_that_are_not_utf_8_are_measured(pictures):
    save(b"cats/\xff.png")
    os.rename("masks/m.png", b"masks/\xfe.png")
    assert measure(*MASKS, "--out", "out") == 0
    assert (pictures / "out/pictures.csv").read_bytes().splitlines()[-1].startswith(b"\xff.png,")


def test_a_terminal_without_arrows(pictures, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert measure(*MASKS, "--out", "out") == 0
    stdout.flush()
    assert b"| l1 ?" in stdout.buffer.getvalue()
    assert "| l1 ↓" in (pictures / "out/table.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (MASKS, "small.png is 1x1: at least 32 px on a side are needed"),
        (("--mask-set", "box"), "small.png is 1x1: at least 32 px on a side are needed"),
        ((*MASKS, "--out", "masks/m.png"), "--out masks/m.png: masks/m.png is a file, a folder is expected"),
        ((*MASKS, "--out", "masks/m.png/x"), "--out masks/m.png/x: masks/m.png is a file"),
        (("--mask-pairing", "seed"), "--mask-pairing seed is for masks from a folder: give --masks"),
        (("--mask-convention", "alpha"), "--mask-convention alpha is for masks from a folder: give --masks"),
    ],
)
def test_what_is_refused_before_any_work(pictures, monkeypatch, capsys, flags, says):
    save("cats/small.png", 1, 1)
    assert says in refused(monkeypatch, capsys, *flags)
