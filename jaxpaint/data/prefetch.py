"""A thread that makes the next few items while the last one is used."""

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any


class Prefetch:
    """Iterator over ``make(start), make(start + 1), ...``, made ahead by one thread.

    What `make` raises is raised to the consumer, in its turn. The thread ends when the iterator is closed or
    collected.

    Args:
      make: runs in the thread.
      start: the first number.
      ahead: how many items may wait.
    """

    def __init__(self, make: Callable[[int], Any], start: int, ahead: int = 2):
        self._items: queue.Queue = queue.Queue(ahead)
        stop = threading.Event()
        # The thread knows the queue and the event but not this object, which can therefore be collected.
        thread = threading.Thread(target=_fill, args=(make, start, self._items, stop), name="prefetch", daemon=True)
        self.close = weakref.finalize(self, _close, self._items, stop, thread)
        thread.start()

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        if not self.close.alive:
            raise StopIteration
        item, error = self._items.get()
        if error is not None:
            self.close()
            raise error
        return item


def _fill(make: Callable[[int], Any], number: int, items: queue.Queue, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            items.put((make(number), None))
        except Exception as error:  # carried over to the consumer
            items.put((None, error))
            return
        number += 1


def _close(items: queue.Queue, stop: threading.Event, thread: threading.Thread) -> None:
    stop.set()
    while thread.is_alive() and thread is not threading.current_thread():
        try:  # makes room for a put that waits
            items.get_nowait()
        except queue.Empty:
            thread.join(0.01)
