"""The training loop: several steps a dispatch, what is compiled in the middle of a run."""

import pathlib

import pytest
from run_log import by_step

from jaxpaint.run.config import load
from jaxpaint.run.loop import train
from jaxpaint.systems import SYSTEMS
from jaxpaint.types import InputError

CONFIG = pathlib.Path(__file__).parent / "toy_config.py"
EVERYTHING = {
    "data.size": "(32, 32)",
    "train.steps": "18",
    "train.log_every": "2",
    "train.sample_every": "4",
    "train.checkpoint_every": "6",
    "validation.every": "6",
    "validation.count": "2",
}


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "toy", None)  # taken away again at the end

    def make(**flags):
        flags = {name.replace("__", "."): value for name, value in flags.items()}
        return load(str(CONFIG), {**EVERYTHING, **flags})

    return make


def test_several_steps_a_dispatch_change_no_figure(experiment, tmp_path):
    """The same order of sums: only what the compiler fuses differs, float32 rounding."""
    lines = []
    train(experiment(), tmp_path / "one", say=lines.append)
    train(experiment(train__dispatch="2"), tmp_path / "two", say=lines.append)
    one, two = (by_step(tmp_path / name, speeds=True) for name in ("one", "two"))
    assert sorted(one) == sorted(two) == list(range(2, 20, 2))
    for step, values in one.items():
        for name, value in values.items():
            if not name.startswith("speed/"):
                assert two[step][name] == pytest.approx(value, rel=1e-4), (step, name)
    assert "validation/psnr_hole" in one[6]
    assert sorted(path.name for path in (tmp_path / "two/samples").iterdir()) == [
        "00000004.png",
        "00000008.png",
        "00000012.png",
        "00000016.png",
    ]
    # Samples, validation and checkpoints compile when they come first, and never again.
    assert not [line for line in lines if "compiled in the middle" in line]
    assert one[18]["speed/compiles"] == one[12]["speed/compiles"] > 0


def test_a_resumed_run_may_dispatch_otherwise(experiment, tmp_path):
    lines = []
    train(experiment(train__steps="6"), tmp_path, say=lines.append)
    train(experiment(train__dispatch="2"), tmp_path, say=lines.append)
    assert any("resumed from step 6" in line for line in lines)
    assert sorted(by_step(tmp_path)) == list(range(2, 20, 2))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"train__dispatch": "4"},
            r"dispatch is 4, which does not divide train.steps \(18\), .*checkpoint_every \(6\)",
        ),
        ({"train__dispatch": "0"}, "dispatch is 0: expected 1 or more"),
        ({"train__checkpoint_every": "0"}, r"train\.checkpoint_every is 0: expected 1 or more"),
        ({"train__log_every": "0"}, r"train\.log_every is 0: expected 1 or more"),
        ({"train__sample_every": "-1"}, r"train\.sample_every is -1: expected 0 or more"),
        ({"validation__every": "-1"}, r"validation\.every is -1: expected 0 "),
    ],
)
def test_steps_that_cannot_be(experiment, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        train(experiment(**flags), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_workdir_that_is_none(experiment, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="taken cannot be made: File exists"):
        train(experiment(), tmp_path / "taken")
    with pytest.raises(InputError, match="gs://bucket/run is an address: give a folder"):
        train(experiment(), "gs://bucket/run")
    monkeypatch.setenv("HOME", str(tmp_path))
    train(experiment(train__steps="6"), "~/run")
    assert {"checkpoints", "metrics.jsonl"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_the_best_of_an_error_is_its_least(experiment, tmp_path):
    settings = {"train__keep": "1", "validation__every": "2", "validation__best": "l1", "train__checkpoint_every": "2"}
    train(experiment(**settings), tmp_path)
    errors = {step: row["validation/l1"] for step, row in by_step(tmp_path).items()}
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal()}
    assert min(errors, key=errors.get) in kept and max(errors, key=errors.get) not in kept - {18}
