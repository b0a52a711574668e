"""Several processes, one run: how they find each other, and how they part.

Under SLURM (``srun``), Open MPI (``mpirun``) and on Cloud TPU slices (GKE and VMs) the same command on every host is
enough: the launcher says who is who, and JAX knows how to read it. Anywhere else name the first process' address:

    train.py … --config.hosts.coordinator=10.0.0.1:1234 --config.hosts.processes=2 --config.hosts.process=0

or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. One process is joined to nobody.

What becomes of a run when one of its processes dies: the others wait for it in the middle of a step until JAX misses
its heartbeat and aborts them (exit status 134), or at once with an error where the network says that it has gone. The
launcher's task is to start all of them again; they go on from the newest good checkpoint.
"""

import dataclasses
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax

from jaxpaint.parallel.roll_call import roll_call
from jaxpaint.types import InputError

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that a process which failed waits for the others to end in order."""


@dataclasses.dataclass
class Hosts:
    """The processes of a run: the config group ``hosts``.

    mode:        auto, or off: one process, whatever the environment says
    coordinator: ADDRESS:PORT of process 0, on which it listens; "" = as the environment says
    processes:   how many there are; 0 = as the environment says
    process:     which of them this one is, from 0; -1 = as the environment says
    timeout:     seconds that the processes wait for each other at the start
    heartbeat:   seconds without a sign of life after which a process counts as dead and the others are aborted
    """

    mode: Literal["auto", "off"] = "auto"
    coordinator: str = ""
    processes: int = 0
    process: int = -1
    timeout: int = 300
    heartbeat: int = 100


class Place(NamedTuple):
    """Where this process stands.

    coordinator: ADDRESS:PORT of process 0
    processes:   how many there are
    process:     which one this is
    devices:     numbers of the devices of this machine that it takes; () = all that it sees
    """

    coordinator: str
    processes: int
    process: int
    devices: tuple[int, ...] = ()


def start(hosts: Hosts) -> Place | None:
    """Joins the processes of a run, before anything asks JAX for devices; does nothing for one process.

    Returns:
      Where this process stands; None for one process, and where the caller has joined JAX's processes already.

    Raises:
      InputError: a config or environment that contradicts itself, or a process that did not come in time.
    """
    if jax.distributed.is_initialized():
        return None
    place = plan(hosts, os.environ)
    if place is None:
        return None
    roll_call(place.coordinator, place.processes, place.process, hosts.timeout)
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        # None leaves it to JAX_LOCAL_DEVICE_IDS; no numbers at all means no restriction.
        local_device_ids=None if "JAX_LOCAL_DEVICE_IDS" in os.environ else list(place.devices),
        cluster_detection_method="deactivate",  # `plan` has asked
        initialization_timeout=hosts.timeout,
        heartbeat_timeout_seconds=hosts.heartbeat,
    )
    log.info("process %d of %d, coordinator %s", place.process, place.processes, place.coordinator)
    return place


def leave(status: int) -> int:
    """Ends a process that failed with its own exit status; returns the status where there is one process.

    An orderly end waits until every process is there, which takes minutes when only this one failed, and then aborts
    it. So after a few seconds the process just ends, and JAX ends the others.
    """
    if not jax.distributed.is_initialized():
        return status
    # All have failed alike more often than not: then they part in order, and none is aborted.
    parting = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    parting.start()
    parting.join(PATIENCE)
    if parting.is_alive():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def plan(
    hosts: Hosts, environ: Mapping[str, str], detect: Callable[[str, int], Place | None] | None = None
) -> Place | None:
    """Where this process stands by the config, or else by the environment; None for one process.

    Args:
      hosts: the config; what it sets counts more than the environment
      environ: environment variables
      detect: (launcher, timeout) -> what JAX reads from that launcher's variables

    Raises:
      InputError: something is missing, or contradicts the rest.
    """
    if hosts.timeout < 1 or hosts.heartbeat < 1:
        raise InputError(
            f"hosts.timeout is {hosts.timeout} s and hosts.heartbeat {hosts.heartbeat} s: both are at least 1"
        )
    if hosts.mode == "off":
        return None
    launcher, counts = _launcher(environ)
    coordinator = hosts.coordinator or environ.get("JAX_COORDINATOR_ADDRESS", "")
    processes = hosts.processes or _number(environ, "JAX_NUM_PROCESSES", 0)
    process = hosts.process if hosts.process >= 0 else _number(environ, "JAX_PROCESS_ID", -1)
    if coordinator:
        processes = processes or counts[0]
        process = process if process >= 0 else counts[1]
        return _checked(coordinator, processes, process)
    if processes > 1 or process > 0:
        raise InputError(
            f"{processes or 'several'} processes, and this is number {process}, but nothing says where process 0 is: "
            "set --config.hosts.coordinator=ADDRESS:PORT, the same for all, or JAX_COORDINATOR_ADDRESS"
        )
    if not launcher or processes == 1:
        return None
    found = (detect or _detect)(launcher, hosts.timeout)
    if found is None and launcher == "gcetpu":  # TPU chips on a machine that no slice knows of
        return None
    if found is None:
        raise InputError(
            f"{launcher} has started several processes ({counts[0] or 'how many, is not said'}), but JAX cannot tell "
            "where process 0 is: set --config.hosts.coordinator=ADDRESS:PORT, the same for all; or, if this process is "
            "to run alone, --config.hosts.mode=off"
        )
    if found.processes == 1:
        return None
    place = _checked(*found[:3])
    return place._replace(devices=_devices(launcher, environ, found.devices))


def _checked(coordinator: str, processes: int, process: int) -> Place | None:
    """What config or environment say, if it makes sense."""
    given = f"the coordinator is {coordinator!r}, hosts.processes {processes or 'not set'}, hosts.process "
    given += str(process) if process >= 0 else "not set"
    port = coordinator.rpartition(":")[2]
    if ":" not in coordinator or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(f"{given}: expected the coordinator as ADDRESS:PORT, such as 10.0.0.1:1234")
    if processes < 1:
        raise InputError(f"{given}: say how many processes there are, --config.hosts.processes=N or JAX_NUM_PROCESSES")
    if processes == 1 and process <= 0:
        return None
    if not 0 <= process < processes:
        raise InputError(
            f"{given}: say which of them this process is, from 0 to {processes - 1}, another number for each: "
            "--config.hosts.process=I or JAX_PROCESS_ID"
        )
    return Place(coordinator, processes, process)


def _launcher(environ: Mapping[str, str]) -> tuple[str, tuple[int, int]]:
    """(launcher that has started several processes, (how many, which)); ("", (0, -1)) if there is none.

    The names are those by which JAX knows them. Open MPI comes first: under mpirun in a SLURM job, SLURM's variables
    count the machines.
    """
    tasks = _number(environ, "OMPI_COMM_WORLD_SIZE", 0), _number(environ, "OMPI_COMM_WORLD_RANK", -1)
    if tasks[0] > 1:
        return "ompi", tasks
    # A batch script that does not use srun has SLURM's other variables, and is one process.
    tasks = _number(environ, "SLURM_NTASKS", 0), _number(environ, "SLURM_PROCID", -1)
    if tasks[0] > 1 and "SLURM_STEP_NODELIST" in environ:
        return "slurm", tasks
    workers = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES")
    if workers or "TPU_PROCESS_ADDRESSES_PATH" in environ:
        several = "," in (workers or ",") or _number(environ, "MEGASCALE_NUM_SLICES", 1) > 1
        return ("gketpu" if several else ""), (0, -1)
    # Set by JAX when it is imported where there are TPU chips; a virtual machine asks its metadata server for the rest.
    if "TPU_ML_PLATFORM" in environ and "TPU_SKIP_MDS_QUERY" not in environ:
        return "gcetpu", (0, -1)
    return "", (0, -1)


def _detect(launcher: str, timeout: int) -> Place | None:
    """What JAX reads from a launcher's variables; None if it knows nothing of it."""
    # What jax.distributed.initialize() asks; there is no public name for it.
    from jax._src.clusters import ClusterEnv

    try:
        coordinator, processes, process, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, launcher, timeout
        )
    except Exception as error:  # whatever a launcher's variables or a metadata server can do
        raise InputError(
            f"JAX cannot find the other processes that {launcher} has started: {type(error).__name__}: {error}. "
            "Set --config.hosts.coordinator, .processes and .process; or, if this process is to run alone, "
            "--config.hosts.mode=off"
        ) from error
    return None if coordinator is None else Place(coordinator, processes, process, tuple(devices or ()))


def _devices(launcher: str, environ: Mapping[str, str], local: tuple[int, ...]) -> tuple[int, ...]:
    """The devices of a process: all that it sees, or one of several that the processes of its machine all see.

    JAX gives a process under SLURM or Open MPI one device even where it is alone on a machine with eight.
    """
    if launcher == "slurm":
        alone = environ.get("SLURM_NTASKS") == environ.get("SLURM_STEP_NUM_NODES")
    else:
        alone = environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
    bound = "," not in environ.get("CUDA_VISIBLE_DEVICES", ",")  # by the launcher, to one device
    return () if alone or bound else local


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if text is None:
        return default
    if not text.strip().isdecimal():
        raise InputError(f"the environment variable {name} is {text!r}: expected a whole number")
    return int(text)
