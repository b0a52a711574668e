"""Reads TensorFlow checkpoints (TF1 variables or TF2 objects) into NumPy arrays. TensorFlow is imported on use."""

import os
import re
from pathlib import Path

import numpy as np

from jaxpaint.types import InputError

_SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def is_checkpoint(path: str | os.PathLike) -> bool:
    """Whether a path looks like a TensorFlow checkpoint: a folder, a prefix, or one of a checkpoint's files."""
    path = Path(path)
    if path.is_dir():
        return True
    return bool(_SUFFIX.search(path.name)) or path.name == "checkpoint" or _index(path).is_file()


def find(path: str | os.PathLike) -> str:
    """The prefix of a checkpoint's files (``folder/snap-0``).

    Args:
      path: a folder, the ``checkpoint`` file in it, a prefix, or one of the prefix's files. In a folder the
        ``checkpoint`` file says which one; where that points elsewhere (it often holds the path of another machine),
        the same name in this folder is taken; without such a file there must be exactly one checkpoint.

    Raises:
      InputError: if there is none, more than one, or a part of it is missing.
    """
    path = Path(path)
    if path.name == "checkpoint" and path.is_file():
        path = path.parent
    path = _in_folder(path) if path.is_dir() else path.with_name(_SUFFIX.sub("", path.name))
    if not _index(path).is_file():
        raise InputError(
            f"{path}: no TensorFlow checkpoint, {_index(path).name} is missing: copy all files of the folder"
        )
    if not list(path.parent.glob(f"{_escaped(path.name)}.data-?????-of-?????")):
        raise InputError(f"{path}: the checkpoint has an index but no {path.name}.data-…: copy all files of the folder")
    return str(path)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All numeric variables of a checkpoint, by name, as stored (kernels H W I O). Text entries are left out.

    Raises:
      InputError: if there is no checkpoint, or it is damaged.
    """
    prefix = find(path)
    # TensorFlow greets on stderr: with its log level, and about oneDNN at every level while that is on.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(prefix)
        types = reader.get_variable_to_dtype_map()
        return {name: np.asarray(reader.get_tensor(name)) for name in sorted(types) if types[name] != tf.string}
    except (tf.errors.OpError, RuntimeError, ValueError, LookupError) as error:
        # For some kinds of damage the reader raises Python's own errors.
        raise InputError(
            f"{prefix}: the TensorFlow checkpoint is damaged or truncated ({error}): download it again"
        ) from error


def _in_folder(folder: Path) -> Path:
    prefixes = sorted(index.with_name(_SUFFIX.sub("", index.name)) for index in folder.glob("*.index"))
    pointer = folder / "checkpoint"
    if pointer.is_file():
        named = re.search(r'^model_checkpoint_path:\s*"([^"]*)"', pointer.read_text(errors="replace"), re.MULTILINE)
        if named:
            here = folder / re.split(r"[/\\]", named.group(1))[-1]
            if here in prefixes:
                return here
    if len(prefixes) == 1:
        return prefixes[0]
    if not prefixes:
        raise InputError(f"{folder}: no TensorFlow checkpoint in this folder, it has no .index file")
    names = ", ".join(prefix.name for prefix in prefixes)
    raise InputError(
        f"{folder}: several TensorFlow checkpoints ({names}) and no `checkpoint` file to say which: give one"
    )


def _index(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
