"""TPU slices that are not there: devices to compile for, by libtpu's compiler, which runs on any Linux machine."""

import importlib.util
import os
import sys
from typing import Any

import jax

from jaxpaint.types import InputError

EXAMPLES = "v4:2x2x1 v5e:1x1 v5e:2x2 v5e:4x4 v5e:16x16 v5p:2x2x1 v5p:8x8x8 v6e:1x1 v6e:4x4 tpu7x:2x2x1"
"""Some names that libtpu knows: generation, and chips along each side of the slice."""

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # nothing runs on a TPU, were there one
    "TPU_SKIP_MDS_QUERY": "1",  # this and the next two: libtpu is not to ask which TPU the machine is
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else a lock file lets one program at a time use it
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
"""What libtpu wants where there is no TPU; `prepare_process` sets what is not set."""


def check_libtpu() -> None:
    """Raises:
    InputError: libtpu is not installed.
    """
    found = importlib.util.find_spec("libtpu")
    if found is None or found.origin is None:  # an empty folder of that name would be found, too
        raise InputError("compiling for a TPU needs its compiler, libtpu: pip install 'jaxpaint[tpu]' (Linux, x86-64)")


def prepare_process() -> None:
    """Starts this program once more, from its beginning, with the environment and the stack that libtpu wants.

    On the usual stack of 8 MiB its compiler crashes (signal 11) on large programs for v6e and tpu7x.
    """
    import resource  # not on Windows

    missing = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if missing or soft != hard:
        resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})


def topology(name: str, slices: int = 1) -> list[jax.Device]:
    """The devices of one or several TPU slices.

    Args:
      name: generation and chips along each side, "v5e:4x4"
      slices: how many such slices, joined by the data centre's network

    Raises:
      InputError: libtpu knows no such slice.
    """
    from jax.experimental import topologies

    options: dict[str, Any] = {"num_slices": slices} if slices > 1 else {}
    sides = [int(side) for side in name.partition(":")[2].split("x") if side.isdecimal()]
    if len(sides) > 1 and 1 in sides[:2]:
        # A host has 2x2 chips unless one says otherwise.
        options["chips_per_host_bounds"] = (min(2, sides[0]), min(2, sides[1]), 1)
    if name.startswith("v4"):
        options["chip_config_name"] = "megacore"  # both cores of a chip as one device, as on the machine itself
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices)
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            f"topology {name!r}: libtpu knows no such slice ({str(error).strip()}). Names that work: {EXAMPLES}"
        ) from error


def out_of_memory(message: str) -> bool:
    """Whether a compiler's message says that HBM is too small (and not the small memories inside a core)."""
    return "Ran out of memory" in message and "hbm" in message.lower()
