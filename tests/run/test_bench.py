"""The benchmark: that its figures add up, that a slow input shows, and that it needs neither TensorFlow nor Orbax."""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxpaint.parallel.chips import chip_of
from jaxpaint.run import bench as module
from jaxpaint.run.bench import bench, circumstances, in_memory, main, share_of_peak
from jaxpaint.run.config import load, replace
from jaxpaint.run.turn import Times, read, turn
from jaxpaint.systems import SYSTEMS

ROOT = pathlib.Path(__file__).parents[2]

CONFIG = (pathlib.Path(__file__).parent / "toy_config.py").read_text()


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setitem(SYSTEMS, "toy", None)  # taken away again at the end
    monkeypatch.setattr(module, "use_cache", lambda: None)  # this process is not the user's
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def experiment(config):
    return load(str(config), {})


def test_the_figures_add_up(experiment):
    lines = []
    report = bench(experiment, steps=6, repeats=4, memory=True, inpaint=True, say=lines.append)
    figures, about = report["training"], report["about"]
    host, time_ = figures["host_milliseconds"], figures["milliseconds"]
    assert sum(host[name] for name in (*Times.PARTS, "between")) == pytest.approx(host["all"])
    assert all(value >= 0 for value in host.values())
    # One clock is read around every part, the other at the ends of blocks.
    assert time_["least"] <= host["all"] * 1.02 and host["all"] <= time_["most"] * 1.02
    assert time_["least"] <= time_["median"] <= time_["most"]
    assert figures["updates_per_second"] * time_["median"] == pytest.approx(1000)
    assert figures["images_per_second"] == pytest.approx(4 * figures["updates_per_second"])
    assert figures["images_per_second_per_device"] == figures["images_per_second"]  # one of eight devices
    # In memory the next batch is there before it is wanted. A busy machine gets a wide margin.
    assert figures["input_share"] == pytest.approx(host["input"] / host["all"]) and figures["input_share"] < 0.3
    assert figures["compiled_late"] == 0 and figures["compile_seconds"] > 0
    assert figures["peak_memory"]["bytes"] > 1e8 and "host" in figures["peak_memory"]["of"]
    assert figures["flops"]["share"] is None and "no peak is known of cpu" in figures["flops"]["note"]
    # Three 5x5 convolutions of 16 filters and one of 3; forward, and backward for weights and (but for the first) data.
    forward = [2 * 4 * 64 * 64 * 25 * a * b for a, b in ((4, 16), (16, 16), (16, 16), (16, 3))]
    assert figures["flops"]["an_update"] == pytest.approx(3 * sum(forward) - forward[0], rel=0.1)
    assert report["inpainting"]["pictures"] == 24 and report["inpainting"]["programs"] == 1
    assert about["device"] == "cpu" and about["devices"] == 1 and about["source"] == "arrays in memory"
    assert about["versions"]["jax"] == jax.__version__ and about["batch"] == 4
    assert about["notes"] == ["a toy paints nothing worth a figure"]
    assert lines.count(f"note: {about['notes'][0]}") == 1
    text = "\n".join(lines)
    assert f"{figures['images_per_second']:.1f} img/s a device" in text and "inpainting:" in text
    json.dumps(report)


def slow(seconds: float, taken: list):
    """A stream whose batches each take their time."""

    class Batches:
        def __init__(self, data, *, batch, source, **about):
            self.batch = {
                "image": np.stack([source.picture(n) for n in range(batch)]),
                "position": np.arange(batch, dtype=np.uint32),
            }

        def __iter__(self):
            return self

        def __next__(self):
            time.sleep(seconds)
            taken.append(1)
            return self.batch

        def close(self):
            taken.append("closed")

    return Batches


def test_a_slow_input_shows_and_several_updates_a_dispatch_are_counted_one_by_one(experiment, monkeypatch):
    taken, seconds, dispatch = [], 0.05, 3
    monkeypatch.setattr(module, "stream", slow(seconds, taken))
    for field, value in {"train.dispatch": dispatch, "data.size": (16, 16), "model.width": 2}.items():
        experiment = replace(experiment, field, value)
    figures = bench(experiment, steps=4, repeats=2, warmup=1, memory=True, say=lambda line: None)["training"]
    assert figures["updates"] == 6 and figures["warmup"] == 2 * dispatch  # two dispatches a block, and two before
    assert taken == [1] * (2 + 2 * 2) * dispatch + ["closed"]
    assert figures["host_milliseconds"]["input"] >= 1000 * seconds
    # As slow as its input, an update, not a dispatch.
    assert 1000 * seconds <= figures["milliseconds"]["median"] < 1000 * seconds * dispatch
    assert figures["input_share"] > 0.5


def test_a_turn_takes_as_many_batches_as_the_program():
    done = []

    class Program:
        @staticmethod
        def place(*batches):
            done.append(("place", batches))
            return sum(batches)

        @staticmethod
        def step(state, batch):
            done.append(("step", state, batch))
            return state + batch, {"loss": jax.numpy.array([0.5, 0.25])}

    times = Times()
    state, metrics = turn(Program, 100, itertools.count(1), 2, times)
    assert done == [("place", (1, 2)), ("step", 100, 3)] and state == 103
    assert read(metrics, times)["loss"].tolist() == [0.5, 0.25]
    parts = times.per(2)
    assert parts["all"] == pytest.approx(sum(v for k, v in parts.items() if k != "all"))
    assert min(times.input, times.place, times.dispatch, times.read) > 0
    times.clear()
    assert times.read == 0 and times.all < 1


def test_share_of_the_peak():
    peak = chip_of("TPU v5 lite").peak("bfloat16")
    assert share_of_peak(peak, 4.0, "TPU v5 lite", "bfloat16")["share"] == pytest.approx(0.25)
    assert "v5e" in share_of_peak(peak, 4.0, "TPU v5 lite", "bfloat16")["note"]
    unknown = share_of_peak(1e9, 1.0, "NVIDIA H200 MIG 1g.18gb", "bfloat16")
    assert unknown["share"] is None and "MIG" in unknown["note"]
    assert "does not count" in share_of_peak(0.0, 1.0, "TPU v5 lite", "bfloat16")["note"]


def test_masks_from_files_come_from_memory_too(experiment):
    changed, source = in_memory(replace(experiment, "data.masks", "somewhere"))
    assert source.masks.shape == (64, 64, 64, 1) and source.masks.any() and changed.data.masks == ""
    _, source = in_memory(experiment)
    assert source.masks is None and source.images.std() > 50


def test_the_digest_is_that_of_the_config(experiment):
    mesh = jax.make_mesh((1, 1, 1), ("data", "fsdp", "spatial"), devices=jax.devices()[:1])
    first, same = circumstances(experiment, mesh), circumstances(experiment, mesh)
    assert first == same
    assert circumstances(replace(experiment, "train.seed", 1), mesh)["config_digest"] != first["config_digest"]


def test_errors(config, capsys, monkeypatch):
    assert main([f"--config={config}", "--data", "memory", "--config.train.batch=3", "--config.mesh.data=2"]) == 2
    assert "global batch is 3" in capsys.readouterr().err
    assert main([f"--config={config}.missing"]) == 2
    for flags in (["--steps=0"], ["--stepps=3"], []):
        with pytest.raises(SystemExit, match="2"):
            main([*flags, f"--config={config}"] if flags else [])
    assert "did you mean --steps?" in capsys.readouterr().err
    monkeypatch.setattr(module, "bench", lambda experiment, **options: {})
    assert main([f"--config={config}", f"--json={config}/figures.json"]) == 2
    assert f"error: {config}/figures.json cannot be written: " in capsys.readouterr().err


BLOCKED = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from jaxpaint.run.cli import main
sys.exit(main(["bench", *sys.argv[1:]]))
"""
ABSENT = ("tensorflow", "tensorflow_datasets", "orbax", "tensorstore", "etils", "tensorboardX", "skimage", "scipy")


def test_runs_where_tensorflow_and_orbax_are_not_installed(config, tmp_path):
    """Of jaxpaint's dependencies it takes jax, flax (which brings rich), optax, einops, numpy and Pillow."""
    program = BLOCKED.replace("{absent}", repr(ABSENT))
    flags = [f"--config={config}", "--data=memory", "--steps=2", "--repeats=2", f"--json={tmp_path / 'out/bench.json'}"]
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    run = subprocess.run(
        [sys.executable, "-c", program, *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "toy, 4 pictures of 64x64 an update, float32" in run.stdout and "peak memory" in run.stdout
    written = json.loads((tmp_path / "out/bench.json").read_text())
    assert written["config"] == str(config) and written["training"]["images_per_second"] > 0
