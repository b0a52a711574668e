"""Which picture is the example at a position, and how it is cut: pure functions of (seed, position, count)."""

import threading
from typing import NamedTuple

import numpy as np

from jaxpaint.data import draws
from jaxpaint.data.config import Data
from jaxpaint.data.geometry import Window, window
from jaxpaint.types import InputError


class Examples(NamedTuple):
    """The examples of one process in one step, each field with a leading axis b."""

    position: np.ndarray  # int64: number in the global stream
    index: np.ndarray  # int64: the picture's number in the source
    down: np.ndarray  # float64 in [0, 1): where the window lies, see `geometry.window`
    right: np.ndarray
    flip: np.ndarray  # bool


class Plan:
    """The order of the pictures, epoch after epoch, and the draws of every example.

    Args:
      data: `shuffle`, `flip`, `fit`, `size` are read.
      count: pictures in the source.
      batch: examples of a step, over all processes.
      seed: any integer.
      process, processes: this one's number, and how many there are. Process k makes the k-th part of each batch.

    Raises:
      InputError: the batch cannot be divided evenly, or process is not one of the processes.
    """

    def __init__(self, data: Data, count: int, *, batch: int, seed: int, process: int = 0, processes: int = 1):
        if processes < 1 or not 0 <= process < processes:
            raise InputError(f"process {process} of {processes}: processes are numbered from 0 to processes - 1")
        if batch < 1 or batch % processes:
            below, above = batch // processes * processes, -(-max(batch, 1) // processes) * processes
            near = f"{below} or {above}" if below > 0 else f"{above}"
            raise InputError(
                f"a batch of {batch} cannot be divided among {processes} processes: "
                f"the batch must be a positive multiple of {processes}, for example {near}"
            )
        self.data, self.count, self.seed, self.batch = data, count, seed, batch
        self.share = batch // processes
        self._first = process * self.share
        self._orders: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self.skipped: set[int] = set()
        """Pictures that are broken as a whole: the next one that is not takes their place."""

    def step(self, step: int) -> Examples:
        """This process's examples of a step. Step 10 million costs what step 0 costs."""
        position = step * self.batch + self._first + np.arange(self.share, dtype=np.int64)
        flip = draws.uniform(self.seed, draws.FLIP, position) < 0.5 if self.data.flip else np.zeros(self.share, bool)
        return Examples(
            position,
            self._index(position),
            draws.uniform(self.seed, draws.DOWN, position),
            draws.uniform(self.seed, draws.RIGHT, position),
            flip,
        )

    def next(self, index: int) -> int:
        """The picture that takes the place of a broken one."""
        for ahead in range(1, self.count):
            if (index + ahead) % self.count not in self.skipped:
                return (index + ahead) % self.count
        raise InputError(f"all {self.count} pictures are broken")

    def window(self, height: int, width: int, down: float, right: float) -> Window:
        """Where the example lies in a picture of this height and width."""
        return window(height, width, self.data.size, self.data.fit, down, right)

    def _index(self, position: np.ndarray) -> np.ndarray:
        epochs, places = np.divmod(position, self.count)
        if self.data.shuffle:
            index = np.empty_like(position)
            for epoch in np.unique(epochs):
                index[epochs == epoch] = self._order(int(epoch))[places[epochs == epoch]]
        else:
            index = places
        if self.skipped:
            index = np.array([self.next(i) if i in self.skipped else i for i in index.tolist()], np.int64)
        return index

    def _order(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._orders:
                while len(self._orders) >= 2:  # a batch spans two epochs at the seam
                    del self._orders[min(self._orders)]
                self._orders[epoch] = draws.order(self.seed, epoch, self.count)
            return self._orders[epoch]
