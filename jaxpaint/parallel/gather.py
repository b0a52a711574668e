"""Plain values from every process to every process: what each has measured, and whether each is still well.

All processes have to make the same calls in the same order. With one process nothing is sent.
"""

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxpaint.types import InputError

_ARRAY = "array\0"
"""The key that stands for an array in the JSON: no dict of ours has it."""


class PeerError(RuntimeError):
    """Another process of the run has failed; the message says which and why."""


def share(count: int) -> range:
    """This process's part of so many things: contiguous, in the order of processes; sizes differ by 1 at most."""
    process, processes = jax.process_index(), jax.process_count()
    return range(process * count // processes, (process + 1) * count // processes)


def gather(value: Any) -> list:
    """The values of all processes, in the order of processes.

    Args:
      value: lists, tuples and dicts (keys are strings) of None, bool, int (of any size), float, str and NumPy arrays.
        Tuples become lists. Numbers and arrays come back to the last bit.
    """
    if jax.process_count() == 1:
        return [_decode(_encode(value))]  # so that a mistake shows on one process, too
    mine = np.frombuffer(_encode(value), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(mine), np.int32)).ravel()
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(mine)] = mine
    rows = multihost_utils.process_allgather(padded).reshape(len(lengths), -1)
    return [_decode(np.asarray(row[:length]).tobytes()) for row, length in zip(rows, lengths, strict=True)]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Where the code inside fails on one process, it fails on all: nobody waits for one that has gone.

    Raises:
      InputError: another process had one; the first one's, which names the same picture as one process would.
      PeerError: another process failed in another way.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() > 1:
            gather([isinstance(error, InputError), f"{error}" or type(error).__name__])
        raise
    if jax.process_count() == 1:
        return
    for process, failure in enumerate(gather(None)):
        if failure is not None:
            ours, message = failure
            if ours:
                raise InputError(message)
            raise PeerError(f"process {process} of {jax.process_count()} failed: {message}")


def _encode(value: Any) -> bytes:
    """One npz file: the structure and the plain values as JSON, the arrays beside it."""
    arrays: list[np.ndarray] = []

    def plain(x: Any) -> Any:
        if isinstance(x, dict):
            if not all(isinstance(key, str) for key in x):
                raise TypeError(f"a dict with the keys {list(x)} cannot be sent to other processes: use strings")
            return {key: plain(y) for key, y in x.items()}
        if isinstance(x, list | tuple):
            return [plain(y) for y in x]
        if isinstance(x, np.ndarray):
            arrays.append(x)
            return {_ARRAY: len(arrays) - 1}
        return x.item() if isinstance(x, np.generic) else x

    file = io.BytesIO()
    text = np.frombuffer(json.dumps(plain(value)).encode(), np.uint8)
    np.savez(file, text=text, **{f"array{number}": array for number, array in enumerate(arrays)})
    return file.getvalue()


def _decode(data: bytes) -> Any:
    """The inverse of `_encode`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:

        def restored(x: Any) -> Any:
            if isinstance(x, dict):
                return file[f"array{x[_ARRAY]}"] if _ARRAY in x else {key: restored(y) for key, y in x.items()}
            return [restored(y) for y in x] if isinstance(x, list) else x

        return restored(json.loads(file["text"].tobytes()))
