"""Signals that ask a run to save and stop."""

import itertools
import signal

import jax
from jax.experimental import multihost_utils

_numbers = itertools.count(1)  # over all runs of this program: what JAX synchronises on only grows


class StopSignal:
    """SIGTERM and SIGINT ask the loop to save and stop; a second SIGINT interrupts at once.

    With several processes it is enough that one of them gets the signal: all stop after the same step, and save it
    together. There SIGTERM is JAX's own (its preemption service listens for it since the processes were joined, and a
    handler of ours would take it away), and the first SIGINT is passed on as SIGTERM.
    """

    def __init__(self):
        self._together = jax.process_count() > 1
        self._requested = ""
        caught = (signal.SIGINT,) if self._together else (signal.SIGTERM, signal.SIGINT)
        try:
            self._before = {s: signal.signal(s, self._ask) for s in caught}
        except ValueError:  # Not the main thread: the caller's own handlers stay.
            self._before = {}

    def reached(self) -> str:
        """Whether to save and stop now: the name of the signal, or "". Call it once after every step.

        With several processes all of them must; it then becomes true for all after the same call.
        """
        if self._together and multihost_utils.reached_preemption_sync_point(next(_numbers)):
            return self._requested or signal.SIGTERM.name
        return "" if self._together else self._requested

    def restore(self) -> None:
        """Gives the signals back to the handlers from before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        del frame
        if self._requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._requested = signal.Signals(number).name
        if self._together:
            signal.raise_signal(signal.SIGTERM)
