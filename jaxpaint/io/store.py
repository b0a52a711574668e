"""Frames on disk for the time of a computation: what has to be read again and again, in any order, but not kept in
memory."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

from jaxpaint.types import InputError


class Store:
    """Frames of one size and type, written once in order, read by number: ``store[[4, 0, 4]]``.

    They lie in a temporary file without a name (in the folder that TMPDIR says), which goes when the store is closed or
    the program ends. Frames that were read lately are in the operating system's cache, which gives way to anybody who
    needs the memory.

    shape: t h w c
    dtype: of the frames

    Raises:
      InputError: the folder has not that much room, or has not any more when a frame is put.
    """

    def __init__(self, shape: tuple[int, int, int, int], dtype: np.dtype | type = np.uint8):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._row = shape[2] * shape[3] * self.dtype.itemsize
        self._written = 0
        with self._told():
            free = shutil.disk_usage(tempfile.gettempdir()).free
            if free < self._size():
                raise OSError(f"{free:,} are free")
            # Without a buffer: what could not be written is no matter of `close` any more.
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 closed by `close`

    @classmethod
    def of(cls, frames: Iterable[np.ndarray], shape: tuple[int, int, int, int], dtype: np.dtype | type = np.uint8):
        """A store of frames, each h w c, as many as `shape` says."""
        store = cls(shape, dtype)
        for frame in frames:
            store.put(frame)
        if store._written != shape[0]:
            raise InputError(f"{store._written} frames were given for a store of {shape[0]}")
        return store

    def put(self, frame: np.ndarray) -> None:
        """Writes the next frame.

        Raises:
          InputError: it has another shape or type, or there are enough; the disk is full.
        """
        if frame.shape != self.shape[1:] or frame.dtype != self.dtype or self._written == self.shape[0]:
            raise InputError(
                f"frame {self._written} for a store of {self.dtype} {self.shape} is {frame.dtype} {frame.shape}"
            )
        left = memoryview(np.ascontiguousarray(frame)).cast("B")
        with self._told():
            self._file.seek(self._written * self.shape[1] * self._row)
            while left:
                left = left[self._file.write(left) :]
        self._written += 1

    def _size(self) -> int:
        return self.shape[0] * self.shape[1] * self._row

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Inside, what the system refuses is an InputError that says how much room is needed, and where."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self._size():,} bytes of frames cannot be kept in {tempfile.gettempdir()} "
                f"({error.strerror or error}): set TMPDIR to a folder with more room"
            ) from error

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers) -> np.ndarray:
        """Frames by number: one h w c for a whole number, n h w c for several."""
        if np.ndim(numbers) == 0:
            return self.window(int(numbers), 0, 0, *self.shape[1:3])
        return np.stack([self[number] for number in np.asarray(numbers)])

    def window(self, number: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A part of a frame, height width c: its rows alone are read."""
        t, h, w, c = self.shape
        inside = 0 <= top <= top + height <= h and 0 <= left <= left + width <= w
        if not 0 <= number < t or not inside:
            raise InputError(f"{height}x{width} at ({top}, {left}) of frame {number}: the store is {self.shape}")
        if number >= self._written:
            raise InputError(f"frame {number} of a store was not written yet: there are {self._written}")
        self._file.seek((number * h + top) * self._row)
        rows = np.frombuffer(self._file.read(height * self._row), self.dtype).reshape(height, w, c)
        return rows[:, left : left + width]

    def close(self) -> None:
        """Removes the file."""
        self._file.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error) -> None:
        self.close()
