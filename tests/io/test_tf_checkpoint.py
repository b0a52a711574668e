"""Reading TensorFlow checkpoints that TensorFlow wrote."""

import os
from pathlib import Path

import numpy as np
import pytest

from jaxpaint.io import tf_checkpoint
from jaxpaint.types import InputError

STORED = {
    "net/conv1/kernel": np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2),
    "net/conv1/kernel/Adam": np.zeros((2, 2, 3, 2), np.float32),
    "global_step": np.int64(12),
    "half": np.float16([1.5, 2.5]),
}


def write(folder: Path, name: str = "snap-0") -> Path:
    import tensorflow as tf

    folder.mkdir(exist_ok=True)
    stored = {**STORED, "_GRAPH": np.array(b"text")}
    tf.raw_ops.SaveV2(
        prefix=str(folder / name),
        tensor_names=list(stored),
        shape_and_slices=[""] * len(stored),
        tensors=[tf.constant(value) for value in stored.values()],
    )
    return folder


def test_reads_every_numeric_variable(tmp_path):
    folder = write(tmp_path / "release")
    for path in (folder, folder / "snap-0", folder / "snap-0.index", str(folder / "snap-0.data-00000-of-00001")):
        assert tf_checkpoint.is_checkpoint(path)
        read = tf_checkpoint.read(path)
        assert set(read) == set(STORED)
        for name, value in STORED.items():
            np.testing.assert_array_equal(read[name], value, strict=True)


def test_the_checkpoint_file_says_which(tmp_path):
    write(tmp_path, "snap-0")
    write(tmp_path, "snap-10")
    with pytest.raises(InputError, match=r"several TensorFlow checkpoints \(snap-0, snap-10\)"):
        tf_checkpoint.find(tmp_path)
    for pointer in ("snap-10", "/home/someone/logs/snap-10", r"C:\logs\snap-10"):
        (tmp_path / "checkpoint").write_text(
            f'model_checkpoint_path: "{pointer}"\nall_model_checkpoint_paths: "snap-0"\n'
        )
        assert tf_checkpoint.find(tmp_path) == os.path.join(tmp_path, "snap-10")
        assert tf_checkpoint.find(tmp_path / "checkpoint") == os.path.join(tmp_path, "snap-10")


def test_what_is_missing_or_damaged_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \.index file"):
        tf_checkpoint.read(tmp_path / "empty")
    with pytest.raises(InputError, match=r"absent\.index is missing"):
        tf_checkpoint.read(tmp_path / "absent")

    data = write(tmp_path / "cut") / "snap-0.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged or truncated"):
        tf_checkpoint.read(data.parent)
    flipped = bytearray(whole)
    flipped[whole.index(STORED["net/conv1/kernel"].tobytes()) + 5] ^= 4
    data.write_bytes(flipped)
    with pytest.raises(InputError, match="damaged or truncated"):
        tf_checkpoint.read(data.parent)
    data.unlink()
    with pytest.raises(InputError, match=r"no snap-0\.data"):
        tf_checkpoint.read(data.parent)

    index = write(tmp_path / "index") / "snap-0.index"
    index.write_bytes(index.read_bytes()[:40])
    with pytest.raises(InputError, match="damaged or truncated"):
        tf_checkpoint.read(index.parent)


def test_a_torch_file_is_no_checkpoint(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"PK")
    assert not tf_checkpoint.is_checkpoint(path)
