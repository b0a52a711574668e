"""One run over two processes: killed, restarted, stopped, and finished by one process alone.

Two real processes of four fake devices each, joined as they would be over a network, against a run on one device.
"""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from run_log import logged

ROOT = pathlib.Path(__file__).parents[2]
EVERY = 4
LIMIT = 300
"""Seconds for anything that is waited for; where others use the cores too, compiling alone takes a minute."""

# Adam's eps of 1e-3 keeps runs that add in another order together, see tests/systems/test_battery.py.
CONFIG = f"""
from jaxpaint.data.config import Data
from jaxpaint.parallel.hosts import Hosts
from jaxpaint.run.config import Experiment, Train
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Optim

def get_config():
    train = Train(steps=100_000, batch=8, log_every=1, sample_every=0, checkpoint_every={EVERY})
    return Experiment(system="deepfillv2", model=SYSTEMS["deepfillv2"].tiny, optim=Optim(lr=1e-3, eps=1e-3, ema=0.9),
                      data=Data(size=(32, 32)), hosts=Hosts(timeout=60, heartbeat=10), train=train)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    (folder / "config.py").write_text(CONFIG)
    return folder


@contextlib.contextmanager
def running(place: pathlib.Path, name: str, processes: int, *flags: str) -> Iterator[list[subprocess.Popen]]:
    """The processes of a run, of 8 devices in two processes or of 1 device; none is left behind."""
    command = [sys.executable, str(ROOT / "train.py"), f"--config={place / 'config.py'}", f"--workdir={place / name}"]
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={4 if processes > 1 else 1} "
        "--xla_backend_optimization_level=0",
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(place / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        command += [f"--config.hosts.coordinator={address}", f"--config.hosts.processes={processes}"]
        command += ["--config.mesh.fsdp=2"]
    started = []
    try:
        for process in range(processes):
            own = [f"--config.hosts.process={process}"] if processes > 1 else []
            with log(place, name, process).open("a") as output:
                started.append(
                    subprocess.Popen([*command, *own, *flags], env=environment, cwd=ROOT, stdout=output, stderr=output)
                )
        yield started
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def log(place: pathlib.Path, name: str, process: int) -> pathlib.Path:
    return place / f"{name}-{process}.log"


def saved(place: pathlib.Path, name: str) -> int:
    return max((int(p.name) for p in (place / name / "checkpoints").glob("*") if p.name.isdecimal()), default=0)


def wait_for(condition, processes: list[subprocess.Popen]) -> None:
    limit = time.monotonic() + LIMIT
    while not condition():
        ended = [process.poll() for process in processes]
        assert ended == [None] * len(processes), f"processes ended early with {ended}"
        assert time.monotonic() < limit, "the run does not get on"
        time.sleep(0.01)


def statuses(processes: list[subprocess.Popen]) -> list[int]:
    return [process.wait(timeout=LIMIT) for process in processes]


@pytest.mark.slow
def test_two_processes_are_killed_restarted_and_followed_by_one(place):
    """Same losses as on one device: sums in another order, 1e-7 relative, which every step amplifies by about
    lr / eps = 1."""
    with running(place, "run", 2) as (first, second):
        wait_for(lambda: saved(place, "run") and len(logged(place / "run")) >= EVERY + 2, [first, second])
        second.kill()
        second.wait()
        since = time.monotonic()
        assert first.wait(timeout=LIMIT) != 0, "a run that lost a process did not succeed"
        assert time.monotonic() - since < 40, "the others end when the heartbeat is missed, if not before"
    came, resumed = len(logged(place / "run")), saved(place, "run")
    assert resumed >= EVERY

    with running(place, "run", 2, f"--config.train.steps={resumed + EVERY}") as pair:
        assert statuses(pair) == [0, 0], log(place, "run", 0).read_text()[-3000:]
    assert [s["step"] for s in logged(place / "run")[came:]] == list(range(resumed + 1, resumed + EVERY + 1))

    end = resumed + 2 * EVERY
    with running(place, "run", 1, f"--config.train.steps={end}") as one:
        assert statuses(one) == [0], log(place, "run", 0).read_text()[-3000:]
    assert logged(place / "run")[came + EVERY]["step"] == resumed + EVERY + 1
    text = log(place, "run", 0).read_text()
    assert f"resumed from step {resumed} " in text and f"resumed from step {resumed + EVERY} " in text
    assert "step " not in log(place, "run", 1).read_text(), "the first process alone speaks"

    with running(place, "alone", 1, f"--config.train.steps={end}") as one:
        assert statuses(one) == [0], log(place, "alone", 0).read_text()[-3000:]
    expected = logged(place / "alone")
    assert [s["step"] for s in expected] == list(range(1, end + 1))
    got = logged(place / "run")
    assert {s["step"] for s in got} == {s["step"] for s in expected}
    for step in got:
        for term, value in expected[step["step"] - 1].items():
            np.testing.assert_allclose(step[term], value, rtol=1e-4, atol=1e-6, err_msg=f"{term}, {step['step']}")


@pytest.mark.slow
def test_sigterm_to_one_process_saves_on_both(place):
    with running(place, "stopped", 2) as pair:
        wait_for(lambda: len(logged(place / "stopped")) >= 3, pair)
        pair[1].send_signal(signal.SIGTERM)
        assert statuses(pair) == [0, 0], log(place, "stopped", 0).read_text()[-3000:]
    last = logged(place / "stopped")[-1]["step"]
    assert saved(place, "stopped") == last, "the step at which it stopped is saved"
    assert f"SIGTERM: saved step {last} and stopped" in log(place, "stopped", 0).read_text()
