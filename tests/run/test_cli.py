"""The command line as a whole: help is quick, bad input has no traceback, sub-commands are reached."""

import dataclasses
import importlib
import logging
import subprocess
import sys
import time
import warnings
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxpaint
from jaxpaint.run.cli import main
from jaxpaint.run.console import plain
from jaxpaint.run.inpainter import Inpainter
from jaxpaint.systems import SYSTEMS
from jaxpaint.types import InputError


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys; from jaxpaint.run.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('tensorflow', 'orbax', 'flax', 'PIL') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.splitlines()[-1] == "[]"
    for command in ("inpaint", "stylize", "convert", "systems", "train", "evaluate"):
        assert f"\n    {command} " in result.stdout


def test_python_dash_m():
    started = time.perf_counter()
    command = [sys.executable, "-m", "jaxpaint", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == f"jaxpaint {jaxpaint.__version__}\n"
    assert time.perf_counter() - started < 20


def test_import_is_light():
    code = "import sys, jaxpaint; print([m for m in ('jax', 'flax', 'tensorflow', 'orbax') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "[]\n"


def test_systems(capsys):
    assert main(["systems"]) == 0
    out = capsys.readouterr().out
    assert "deepfillv2\n  Free-Form Image Inpainting with Gated Convolution" in out
    assert "generator: 4,0" in out  # 4.05 M, as published
    assert "published: " in out


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_commands_with_their_own_parsers(command, monkeypatch, capsys):
    seen = []
    module = importlib.import_module(f"jaxpaint.run.{command}")
    monkeypatch.setattr(module, "main", lambda argv: seen.append(argv) or 3)
    assert main([command, "--config", "x.py", "--config.train.steps=2"]) == 3
    assert seen == [["--config", "x.py", "--config.train.steps=2"]]


def test_bad_input_is_one_line_and_status_2(monkeypatch, capsys, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"not a checkpoint")
    assert main(["convert", "deepfillv2", str(tmp_path / "weights.pth"), str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "weights.pth" in err
    assert "Traceback" not in err
    assert main(["convert", "deepfillv3", str(tmp_path / "weights.pth"), str(tmp_path / "out")]) == 2
    assert "deepfillv3" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["convert", "evaluate", "inpaint"])
def test_a_malicious_file_is_refused_by_every_command(command, tmp_path, capsys):
    """A torch file with a pickle that would make a file."""
    file, shell = str(tmp_path / "evil.pth"), f"touch {tmp_path / 'marker'}"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", f"cos\nsystem\n(V{shell}\ntR.")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.pad(np.full((9, 9), 255, np.uint8), (9, 22))).save(tmp_path / "mask.png")
    published = ["--published", "deepfillv2", file, "--out", str(tmp_path / "out")]
    arguments = {
        "convert": ["deepfillv2", file, str(tmp_path / "out")],
        "evaluate": ["--data", "demo", "--mask-set", "centre", "--size", "64", "--limit", "1", *published],
        "inpaint": [str(tmp_path / "a.png"), "--mask", str(tmp_path / "mask.png"), *published],
    }[command]
    assert main([command, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {file} names os.system: refused")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "evil.pth", "mask.png"]


def test_what_a_command_says_is_one_plain_line(capsys, caplog):
    with plain():
        logging.getLogger("jaxpaint.io").warning("step 4 is broken")
        logging.getLogger("jaxpaint.io").info("compiled")
        for _ in range(2):
            warnings.warn("likely inverted", stacklevel=1)
    with plain(verbose=True):
        logging.getLogger("jaxpaint.io").info("compiled")
    assert capsys.readouterr().err == (
        "warning: step 4 is broken\nwarning: likely inverted\nwarning: likely inverted\ncompiled\n"
    )
    logging.getLogger("jaxpaint.io").warning("as before")
    assert [record.getMessage() for record in caplog.records] == ["as before"]


def test_convert_writes_a_checkpoint_that_load_reads(monkeypatch, capsys, tmp_path):
    """From a conversion (stood in for) to a filled picture; what converts is tested with the converters."""
    page = SYSTEMS["deepfillv2"]
    batch = {"image": jnp.zeros((1, 64, 64, 3)), "mask": jnp.zeros((1, 64, 64, 1))}
    shapes = jax.eval_shape(page.build(page.tiny).init, jax.random.key(0), batch).params["generator"]
    rng = np.random.default_rng(0)
    params = {"generator": jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), shapes)}
    weights = {"params": params, "extra": {}, "ema": {}}

    def converted(system, file, *, channels=None):
        assert (system, file, channels) == ("deepfillv2", "a.pth", "bgr")
        return weights, dataclasses.asdict(page.tiny), "the report"

    monkeypatch.setattr("jaxpaint.convert.convert", converted)
    assert main(["convert", "deepfillv2", "a.pth", str(tmp_path / "out"), "--channels", "bgr"]) == 0
    out = capsys.readouterr().out
    loaded = jaxpaint.load(tmp_path / "out", devices=1)
    assert out == f"the report\n{tmp_path / 'out'}: weights {loaded.weights_hash}\n"
    assert (loaded.system_name, loaded.config, loaded.step) == ("deepfillv2", page.tiny, 0)
    published = Inpainter.from_published("deepfillv2", "a.pth", channels="bgr", devices=1)
    assert published.weights_hash == loaded.weights_hash
    image, mask = rng.integers(0, 256, (40, 40, 3), np.uint8), np.eye(40, dtype=np.uint8)
    np.testing.assert_array_equal(loaded.inpaint(image, mask), published.inpaint(image, mask))
    assert main(["convert", "deepfillv2", "a.pth", str(tmp_path / "out"), "--channels", "bgr"]) == 2
    assert "exists and is not empty" in capsys.readouterr().err


def test_load_of_nothing(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        jaxpaint.load(tmp_path / "nowhere")
