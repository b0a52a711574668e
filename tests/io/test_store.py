"""Frames on disk come back as they were put, in any order, whole or in part."""

import collections
import resource
import shutil
import signal
import tempfile

import numpy as np
import pytest

from jaxpaint.io.store import Store
from jaxpaint.types import InputError


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_frames_come_back(dtype):
    frames = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 3)).astype(dtype)
    with Store.of(frames, frames.shape, dtype) as store:
        assert store.shape == frames.shape and len(store) == 4
        np.testing.assert_array_equal(store[[3, 0, 3]], frames[[3, 0, 3]])
        np.testing.assert_array_equal(store[np.int32(2)], frames[2])
        np.testing.assert_array_equal(store.window(1, 2, 3, 3, 4), frames[1, 2:5, 3:7])


def test_frames_can_be_read_while_others_are_put():
    frames = np.arange(3 * 2 * 2 * 1, dtype=np.uint8).reshape(3, 2, 2, 1)
    store = Store(frames.shape)
    for number, frame in enumerate(frames):
        store.put(frame)
        np.testing.assert_array_equal(store[range(number + 1)], frames[: number + 1])


def test_what_cannot_be():
    store = Store((2, 3, 4, 3))
    with pytest.raises(InputError, match="is float64"):
        store.put(np.zeros((3, 4, 3)))
    store.put(np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(InputError, match="not written yet"):
        store[1]
    with pytest.raises(InputError, match="the store is"):
        store[2]
    with pytest.raises(InputError, match="the store is"):
        store.window(0, 2, 0, 2, 4)
    with pytest.raises(InputError, match="1 frames were given"):
        Store.of([np.zeros((3, 4, 3), np.uint8)], (2, 3, 4, 3))


def test_room_is_looked_for_at_once(monkeypatch):
    free = collections.namedtuple("Usage", "free")(2 * 3 * 4 * 3 - 1)
    monkeypatch.setattr(shutil, "disk_usage", {tempfile.gettempdir(): free}.__getitem__)
    with pytest.raises(InputError, match=rf"72 bytes .* {tempfile.gettempdir()} \(71 are free\): set TMPDIR"):
        Store((2, 3, 4, 3))
    Store((1, 3, 4, 3))


def test_a_disk_that_gets_full():
    """What was kept before can be read, and closed."""
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    frame = np.full((50, 50, 3), 7, np.uint8)
    with Store((2, 50, 50, 3)) as store:
        store.put(frame)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        try:
            with pytest.raises(InputError, match=r"15,000 bytes .* \(File too large\): set TMPDIR"):
                store.put(frame)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        np.testing.assert_array_equal(store[0], frame)
