"""Signals that ask a run to save and stop."""

import signal


class StopSignal:
    """SIGTERM and SIGINT ask the loop to save and stop; a second SIGINT interrupts at once."""

    def __init__(self):
        self.requested = ""
        try:
            self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # Not the main thread: the caller's own handlers stay.
            self._before = {}

    def _ask(self, number, frame):
        del frame
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
