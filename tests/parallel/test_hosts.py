"""How the processes of a run find each other: decisions from config and environment, and who does not come."""

import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time

import pytest

from jaxpaint.parallel.hosts import Hosts, Place, plan, start
from jaxpaint.parallel.roll_call import roll_call
from jaxpaint.types import InputError

ROOT = pathlib.Path(__file__).parents[2]
SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_STEP_NUM_NODES": "2",
}
MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
MPI_4 = MPI | {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"}
JAX = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:99", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    ("hosts", "environ", "expected"),
    [
        (Hosts(), {}, None),
        (Hosts(coordinator="10.0.0.1:1234", processes=2, process=0), {}, Place("10.0.0.1:1234", 2, 0)),
        (Hosts(coordinator="10.0.0.1:1234", processes=1), {}, None),
        (Hosts(), JAX, Place("10.0.0.1:99", 2, 1)),
        (Hosts(process=0), JAX, Place("10.0.0.1:99", 2, 0)),
        (Hosts(mode="off"), JAX | SLURM, None),
        # An address alone: the launcher says the rest.
        (Hosts(coordinator="10.0.0.1:1234"), SLURM, Place("10.0.0.1:1234", 4, 3)),
        (Hosts(coordinator="10.0.0.1:1234"), MPI, Place("10.0.0.1:1234", 2, 1)),
        (Hosts(), SLURM | {"SLURM_NTASKS": "1"}, None),
        # A batch script without srun is one process.
        (Hosts(), {k: v for k, v in SLURM.items() if k != "SLURM_STEP_NODELIST"}, None),
        (Hosts(), {"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ],
)
def test_plan(hosts, environ, expected):
    def nobody(launcher, timeout):
        raise AssertionError(f"JAX was asked about {launcher}")

    assert plan(hosts, environ, nobody) == expected


@pytest.mark.parametrize(
    ("environ", "launcher"),
    [
        (SLURM, "slurm"),
        (MPI_4, "ompi"),
        (SLURM | MPI_4, "ompi"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, "gketpu"),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, "gketpu"),
        ({"TPU_ML_PLATFORM": "JAX"}, "gcetpu"),
    ],
)
def test_launchers_are_left_to_jax(environ, launcher):
    asked = []

    def detect(name, timeout):
        asked.append((name, timeout))
        return Place("10.0.0.1:99", 2, 1)

    assert plan(Hosts(timeout=7), environ, detect) == Place("10.0.0.1:99", 2, 1)
    assert asked == [(launcher, 7)]


def test_jax_knows_slurm_and_open_mpi(monkeypatch):
    """With what JAX itself reads from the variables: its names for launchers are the ones used here."""
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    place = plan(Hosts(), SLURM)
    assert place.coordinator.startswith("node07:") and place[1:] == (4, 3, (1,))
    alone = SLURM | {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    for name, value in alone.items():
        monkeypatch.setenv(name, value)
    assert plan(Hosts(), alone)[1:] == (2, 1, ()), "alone on its machine: all devices"
    for name in SLURM:
        monkeypatch.delenv(name)
    for name, value in MPI_4.items():
        monkeypatch.setenv(name, value)
    assert plan(Hosts(), MPI_4)[1:] == (2, 1, (1,))
    bound = MPI_4 | {"CUDA_VISIBLE_DEVICES": "1"}
    assert plan(Hosts(), bound).devices == (), "the launcher has chosen the device already"


@pytest.mark.parametrize(
    ("hosts", "environ", "message"),
    [
        (Hosts(coordinator="10.0.0.1:1234"), {}, "processes not set.*how many processes"),
        (Hosts(coordinator="10.0.0.1:1234", processes=2), {}, "processes 2, hosts.process not set.*from 0 to 1"),
        (Hosts(coordinator="10.0.0.1:1234", processes=2, process=2), {}, "processes 2, hosts.process 2.*from 0 to 1"),
        (Hosts(coordinator="10.0.0.1", processes=2, process=0), {}, "'10.0.0.1'.*ADDRESS:PORT"),
        (Hosts(coordinator="10.0.0.1:x", processes=2, process=0), {}, "ADDRESS:PORT"),
        (Hosts(processes=2, process=1), {}, "2 processes, and this is number 1.*hosts.coordinator"),
        (Hosts(), {"JAX_NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS"),
        (Hosts(), {"SLURM_NTASKS": "many"}, "SLURM_NTASKS is 'many'"),
        (Hosts(timeout=0), {}, "hosts.timeout is 0 s"),
        # What would otherwise be several runs in one workdir.
        (Hosts(), MPI, "ompi has started several processes \\(2\\).*hosts.coordinator.*hosts.mode=off"),
        (Hosts(), {"TPU_WORKER_HOSTNAMES": "a,b"}, "gketpu has started several"),
    ],
)
def test_contradictions(hosts, environ, message):
    with pytest.raises(InputError, match=message):
        plan(hosts, environ, lambda launcher, timeout: None)


def test_one_process_joins_nobody(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    assert start(Hosts()) is None


def answers(*calls: tuple[int, int], timeout: float = 2.0) -> dict[int, str]:
    """What the processes of a roll call hear, by their order: "" or an error. A call is (process, processes)."""
    coordinator, heard = free_port(), {}

    def call(number: int, process: int, processes: int) -> None:
        try:
            heard[number] = roll_call(coordinator, processes, process, timeout) or ""
        except InputError as error:
            heard[number] = str(error)

    threads = [threading.Thread(target=call, args=(i, *c)) for i, c in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return heard


def test_roll_call():
    assert answers((0, 3), (2, 3), (1, 3), timeout=20) == {0: "", 1: "", 2: ""}


def test_roll_call_names_the_missing():
    heard = answers((0, 4), (2, 4))
    assert heard[0] == heard[1]
    assert re.match(r"2 of 4 processes came to 127.0.0.1:\d+ within 2 s; missing: 1, 3\. ", heard[0])
    (alone,) = answers((1, 2), timeout=1.0).values()
    assert re.match(r"process 1 of 2 heard nothing from process 0 at 127.0.0.1:\d+ within 1 s \(.*refused\)", alone)


def test_roll_call_finds_processes_that_disagree():
    heard = answers((0, 2), (2, 3))
    assert set(heard.values()) == {"a process says that it is 2 of 3, but process 0 expects 2"}
    heard = answers((0, 3), (1, 3), (1, 3))
    assert len(set(heard.values())) == 1 and "two processes say that they are number 1 of 3" in heard[0]


def test_roll_call_does_not_count_strangers_and_those_who_left():
    coordinator = free_port()
    address = ("127.0.0.1", int(coordinator.rpartition(":")[2]))
    outcome = []
    first = threading.Thread(target=lambda: outcome.append(roll_call(coordinator, 3, 0, 20)))
    first.start()
    # Somebody else; somebody who is cut short; process 1, which is then started again.
    for line in (b"PRI * HTTP/2.0\r\n\r\n", b"jaxpaint 2 of 3", b"jaxpaint 1 of 3\n"):
        while True:
            try:
                with socket.create_connection(address, timeout=5) as stranger:
                    stranger.sendall(line)
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
    second = threading.Thread(target=roll_call, args=(coordinator, 3, 1, 20))
    second.start()
    second.join(0.2)
    assert first.is_alive() and second.is_alive(), "process 2 is not here yet"
    roll_call(coordinator, 3, 2, 20)
    first.join(20)
    second.join(20)
    assert outcome == [None]


def test_a_missing_host_is_an_error_and_not_a_hang():
    """The command line of one process of two whose other one never starts."""
    code = (
        "import sys\n"
        "from jaxpaint.parallel.hosts import Hosts, leave, start\n"
        "from jaxpaint.types import InputError\n"
        "try:\n"
        f"    start(Hosts(coordinator={free_port()!r}, processes=2, process=0, timeout=2))\n"
        "except InputError as error:\n"
        "    print(error, file=sys.stderr)\n"
        "    sys.exit(leave(2))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "1 of 2 processes came to 127.0.0.1:" in done.stderr and "missing: 1" in done.stderr
    assert "Traceback" not in done.stderr and "check failure" not in done.stderr.lower()
