"""What `beside_original.py` measures, and the loop of a side's own process."""

import ctypes
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple


class Case(NamedTuple):
    """One thing to measure.

    kind:      "train" (a step of both players), "inpaint", "attention" or "attention_grad" (forward and backward)
    size:      height and width of the picture; the attention sees an eighth of it, after a halving of its own
    batch:     pictures
    precision: "fp32", "tf32" (float32 arrays, products in TF32) or "bf16" (activations; parameters are float32)
    width:     filters of the generator's first layer, before the split into features and gates
    """

    kind: str
    size: int
    batch: int
    precision: str
    width: int


class Prepared(NamedTuple):
    """A case, ready to be timed.

    run:    does the case so many times, and returns when the device is done
    memory: () -> peak MiB of a run, None where the growth of the process has to tell it (torch on a CPU)
    gflop:  of one run as the side counts them, 0 where it does not
    """

    run: Callable[[int], None]
    memory: Callable[[], float] | None
    gflop: float = 0.0


def seconds(run: Callable[[int], None], times: int) -> float:
    """Wall time of one of `times` runs."""
    started = time.perf_counter()
    run(times)
    return (time.perf_counter() - started) / times


def serve(connection: Connection, prepare: Callable[..., Prepared], extra: dict[str, Callable]) -> None:
    """Answers the main process until it hangs up. Every answer is ("done", value) or ("failed", traceback).

    Args:
      prepare: (case, variant) -> Prepared
      extra: further requests by name, called with the request's arguments
    """
    ready: dict[str, Prepared] = {}

    def begin(case: Case, variant: str) -> dict[str, float]:
        before = resident("VmRSS")
        started = time.perf_counter()
        ready[variant] = prepared = prepare(case, variant)
        prepared.run(1)
        compiling = time.perf_counter() - started
        prepared.run(2)  # what tunes itself at the first calls has done so
        reset_peak()
        once = seconds(prepared.run, 1)
        memory = prepared.memory() if prepared.memory else resident("VmHWM") - before
        return {"prepare_s": compiling, "once_s": once, "memory_mib": memory, "gflop": prepared.gflop}

    answers = {
        "prepare": begin,
        "measure": lambda variant, times: seconds(ready[variant].run, times),
        "drop": ready.clear,
        **extra,
    }
    while True:
        try:
            name, *arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("done", answers[name](*arguments)))
        except Exception:  # the main process says which case failed, and why
            connection.send(("failed", traceback.format_exc()))


def reset_peak() -> None:
    """Gives unused memory back to the system, and lets the process's peak start anew (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def resident(field: str) -> float:
    """Memory of this process in MiB: ``VmRSS`` (now) or ``VmHWM`` (peak)."""
    if field == "VmRSS":
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) / 1024
