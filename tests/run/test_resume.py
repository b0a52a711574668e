"""Runs that are killed, stopped, or go wrong: what they leave behind, and how they go on.

Every run is a process of its own, of the tiny DeepFillv2 on 32x32 demo pictures. `metrics.jsonl` holds every step's
exact float32 values, so runs are compared bit for bit.
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from run_log import logged

ROOT = pathlib.Path(__file__).parents[2]
EVERY = 7
STEPS = 150
KILLS = 5

CONFIG = f"""
from jaxpaint.data.config import Data
from jaxpaint.run.config import Experiment, Train
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Optim

def get_config():
    train = Train(steps={STEPS}, batch=2, log_every=1, sample_every=0, checkpoint_every={EVERY})
    return Experiment(system="deepfillv2", model=SYSTEMS["deepfillv2"].tiny, optim=Optim(lr=1e-3, ema=0.9),
                      data=Data(size=(32, 32)), train=train)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    (folder / "config.py").write_text(CONFIG)
    return folder


def start(place: pathlib.Path, name: str, *flags: str) -> subprocess.Popen:
    # The compilation is shared by all runs: the first one makes it.
    environment = os.environ | {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(place / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "",
    }
    command = [sys.executable, str(ROOT / "train.py"), f"--config={place / 'config.py'}", f"--workdir={place / name}"]
    output = (place / f"{name}.log").open("a")
    return subprocess.Popen([*command, *flags], env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)


def wait_for(condition, process: subprocess.Popen, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the run ended with status {process.returncode} before it could be stopped"
        assert time.monotonic() < limit, "the run does not get on"
        time.sleep(0.002)


def saving(place: pathlib.Path, name: str) -> bool:
    return any((place / name / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


@pytest.fixture(scope="module")
def unbroken(place):
    assert start(place, "unbroken").wait(timeout=300) == 0, (place / "unbroken.log").read_text()[-2000:]
    steps = logged(place / "unbroken")
    assert [s["step"] for s in steps] == list(range(1, STEPS + 1))
    return steps


@pytest.mark.slow
def test_killed_five_times(place, unbroken):
    """kill -9 at random moments, one of them during a save: every resume goes on with the bits of the unbroken run."""
    rng = random.Random(20)
    expected = {s["step"]: s for s in unbroken}
    during_save = rng.randrange(KILLS)
    caught, seen = False, 0
    for number in range(KILLS + 1):
        process = start(place, "killed")
        if number < KILLS:
            # At least 20 steps after the resume.
            target = seen + 21 + rng.randrange(4)
            wait_for(lambda t=target: len(logged(place / "killed")) >= t, process)
            if number == during_save:
                wait_for(lambda: saving(place, "killed"), process)
            process.send_signal(signal.SIGKILL)
            assert process.wait(timeout=30) == -signal.SIGKILL
            caught |= number == during_save and saving(place, "killed")
        else:
            assert process.wait(timeout=300) == 0, (place / "killed.log").read_text()[-2000:]
        part = logged(place / "killed")[seen:]
        assert len(part) >= 20
        first = part[0]["step"]
        assert (first - 1) % EVERY == 0, "a run goes on from a checkpoint"
        assert [s["step"] for s in part] == list(range(first, first + len(part)))
        for step in part:
            assert step == expected[step["step"]], f"run {number}, resumed at {first - 1}"
        seen += len(part)
    assert caught, "no kill hit a save: the test proves less than it says"
    assert logged(place / "killed")[-1]["step"] == STEPS
    text = (place / "killed.log").read_text()
    assert text.count("resumed from step") == KILLS


@pytest.mark.slow
def test_sigterm_saves_and_exits_0(place, unbroken):
    process = start(place, "stopped")
    wait_for(lambda: len(logged(place / "stopped")) >= 10, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    steps = logged(place / "stopped")
    last = steps[-1]["step"]
    saved = [int(p.name) for p in (place / "stopped" / "checkpoints").iterdir() if p.name.isdecimal()]
    assert max(saved) == last, "the step at which it stopped is saved"
    assert f"SIGTERM: saved step {last}" in (place / "stopped.log").read_text()
    assert steps == unbroken[: len(steps)]


@pytest.mark.slow
def test_a_workdir_of_another_system_is_refused(place, unbroken):
    assert start(place, "unbroken", "--config.model.width=16").wait(timeout=120) == 2
    text = (place / "unbroken.log").read_text()
    assert "error: the workdir's checkpoint is of another system: its model is" in text
    assert start(place, "unbroken", "--no-resume").wait(timeout=120) == 2
    assert "--no-resume was given: choose another --workdir" in (place / "unbroken.log").read_text()
    assert max(int(p.name) for p in (place / "unbroken" / "checkpoints").iterdir()) == STEPS


@pytest.mark.slow
def test_init_from_takes_what_fits(place, unbroken):
    """All layers fit; a run that starts at step 0 with trained weights."""
    flags = (f"--init-from={place / 'unbroken'}", "--config.train.steps=1")
    assert start(place, "warm", *flags).wait(timeout=120) == 0, (place / "warm.log").read_text()[-2000:]
    first = logged(place / "warm")[0]
    text = (place / "warm.log").read_text()
    assert f"--init-from {place / 'unbroken'} (step {STEPS})" in text
    assert "arrays taken from the checkpoint" in text
    # Trained weights do better than new ones on the same first batch.
    assert first["generator/l1"] < unbroken[0]["generator/l1"]


@pytest.mark.slow
def test_profile_writes_a_trace(place):
    assert start(place, "profiled", "--profile", "--config.train.steps=12").wait(timeout=120) == 0
    traces = list((place / "profiled" / "profile").rglob("*.xplane.pb"))
    assert traces and traces[0].stat().st_size > 0


@pytest.mark.slow
def test_a_run_that_blows_up_stops_with_the_name_of_the_term(place):
    flags = ("--config.optim.lr=1e30", "--config.train.nonfinite_limit=3", "--config.train.steps=30")
    assert start(place, "wild", *flags).wait(timeout=120) == 3
    text = (place / "wild.log").read_text()
    assert text.count("was dropped: not finite: ") == 3
    assert "error: step " in text and "3 in a row" in text and "Lower optim.lr" in text
    assert "Traceback" not in text
