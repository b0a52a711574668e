"""One turn of the training loop, and where the host's time goes in it: what training runs and the benchmark measures.

A turn is one dispatch: one step, or several. The order hides the host behind the devices: while they work on the
dispatch of the turn before, the next batch is fetched and sent, the next dispatch is queued, and only then are the
metrics of the one before read.
"""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxpaint.parallel.compile import Program
from jaxpaint.types import PyTree


class Times:
    """Seconds of the host since `clear`, by what it did.

    input:    waiting for host batches. The devices may be busy all the while: an upper bound of what input costs
    place:    sending batches to the devices
    dispatch: queueing steps (on a CPU, a part of the step itself)
    read:     waiting for metrics, that is for the devices
    all:      everything, whatever else happened between turns included
    """

    PARTS = ("input", "place", "dispatch", "read")

    def __init__(self):
        self.clear()

    def clear(self) -> None:
        self.input = self.place = self.dispatch = self.read = 0.0
        self._since = time.perf_counter()

    @property
    def all(self) -> float:
        return time.perf_counter() - self._since

    def per(self, updates: int) -> dict[str, float]:
        """Seconds an update, by part; ``between`` is what none of the parts explains, ``all`` is their sum."""
        whole = self.all
        parts = {name: getattr(self, name) for name in self.PARTS}
        parts = {**parts, "between": whole - sum(parts.values()), "all": whole}
        return {name: seconds / updates for name, seconds in parts.items()}


def turn(program: Program, state: PyTree, batches: Iterator, steps: int, times: Times) -> tuple[PyTree, Any]:
    """Queues one dispatch on the next batches.

    Args:
      program: of `compile_step`
      state: is donated
      batches: host batches, this process's share of each
      steps: as many batches as the program takes at once
      times: is added to

    Returns:
      (new state, metrics), neither of which is ready: see `read`.
    """
    started = time.perf_counter()
    host = list(itertools.islice(batches, steps))
    fetched = time.perf_counter()
    batch = program.place(*host)
    placed = time.perf_counter()
    state, metrics = program.step(state, batch)
    queued = time.perf_counter()
    times.input += fetched - started
    times.place += placed - fetched
    times.dispatch += queued - placed
    return state, metrics


def read(metrics: Any, times: Times) -> dict[str, np.ndarray]:
    """The metrics of a dispatch when it is done: by name, a value for each of its steps."""
    started = time.perf_counter()
    values = {name: np.atleast_1d(column) for name, column in jax.device_get(metrics).items()}
    times.read += time.perf_counter() - started
    return values
