"""Reads checkpoint files without the library that wrote them: torch's (both formats) and safetensors.

``read`` gives nested dicts and lists of NumPy arrays and plain Python values. Pickles are interpreted by
`jaxpaint.io.unpickle`, which runs no code; sizes are checked against the file before memory is asked for.

Formats, as torch 2 writes and reads them:

- zip (torch >= 1.6): ``NAME/data.pkl`` is the pickle; a storage is the record ``NAME/data/KEY``, uncompressed;
  ``NAME/byteorder`` says "little" or "big".
- legacy: five pickles in a row (a magic number, the protocol 1001, the writer's type sizes, the object, the keys of
  its storages), then for each key the number of elements (int64) and the elements, little-endian.

A tensor is a storage, an offset, sizes and strides, counted in elements. bfloat16 and the eight-bit floats come back
as `ml_dtypes` arrays. Tensors that share a storage share memory here, too.
"""

import io
import mmap
import os
import struct
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxpaint.io import safetensors
from jaxpaint.io.torch_pickle import Storage, load
from jaxpaint.types import InputError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

_DAMAGED_ZIP = (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, LookupError, struct.error)
"""What zipfile raises for a damaged file, depending on which byte is wrong."""

_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"),
    (b"\x89HDF", "an HDF5 file (Keras)"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"<", "a web page, not the file: the download was refused or asks for a click; download it in a browser"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80", "a plain Python pickle that torch.save did not write"),
)


def read(path: str | os.PathLike, *, stub: Sequence[str] = ()) -> Any:
    """The content of a checkpoint file; the format is told by the content, not by the name.

    Args:
      path: the file
      stub: classes to replace by inert objects where the pickle names them, "module.Class" or, for all below a
        package, "package." ("pytorch_lightning." for the training state in a Lightning checkpoint). Nothing of
        these packages is imported or run.

    Returns:
      What was saved: tensors as arrays (a parameter is its tensor), an OrderedDict or defaultdict as a dict, a device
      as text. A safetensors file is a dict of arrays. Arrays may be read-only, and views of one another.

    Raises:
      InputError: if the file cannot be read, is of another format, truncated or damaged, or if its pickle names
        anything that is not a tensor or a plain container.
    """
    where = os.fspath(path)
    if os.path.isdir(where):
        raise InputError(f"{where} is a folder: expected a file that torch.save or safetensors wrote")
    if not os.path.exists(where):
        raise InputError(f"{where} does not exist")
    size = os.path.getsize(where)
    if size == 0:
        raise InputError(f"{where} is empty: download it again")
    try:
        with open(where, "rb") as file:
            head = file.read(512)
            if head.startswith(b"PK\x03\x04"):
                return _read_zip(file, where, size, stub)
            if head.startswith(_LEGACY):
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
                    return _read_legacy(memory, where, size, stub)
            if safetensors.looks_like(head):
                return safetensors.read(where)
    except OSError as error:
        raise InputError(f"{where} cannot be read: {error.strerror or error}") from error
    raise InputError(f"{where} is {_what(head, size)}; expected a file that torch.save or safetensors wrote")


def _what(head: bytes, size: int) -> str:
    if _LEGACY.startswith(head):
        return f"truncated after {size} bytes"
    if head[257:262] == b"ustar":
        return "a tar file, the format of torch before 0.2: load it with an old torch and save it again"
    return next(
        (text for start, text in _OTHERS if head.lstrip().startswith(start)), f"of an unknown format ({head[:8]!r})"
    )


def _read_zip(file, where: str, size: int, stub: Sequence[str]) -> Any:
    try:
        archive = zipfile.ZipFile(file)
    except _DAMAGED_ZIP as error:
        raise InputError(
            f"{where} is truncated or damaged: it begins like a zip file but its directory, at the end, is missing "
            f"or wrong ({error}); {size} bytes are there: download it again"
        ) from error
    entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InputError(f"{where} is a zip file without one NAME/data.pkl in it: torch.save did not write it")
    folder = pickles[0].removesuffix("data.pkl")
    left = size

    def record(name: str, expected: int | None = None) -> bytes:
        """The bytes of a record, no more of them in all than the file has."""
        nonlocal left
        entry = entries.get(folder + name)
        if entry is None:
            raise InputError(f"{where} is damaged: the record {folder}{name} is missing; download it again")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise InputError(
                f"{where}: the record {entry.filename} is compressed, which torch.save never does: refused"
            )
        if expected is not None and entry.file_size != expected:
            raise InputError(f"{where}: {entry.filename} holds {entry.file_size} bytes, its tensors need {expected}")
        left -= entry.file_size
        if left < 0:
            raise InputError(f"{where}: the records claim more than the {size} bytes of the file: truncated or damaged")
        try:
            data = archive.read(entry)  # compares the checksum, too
        except _DAMAGED_ZIP as error:
            raise InputError(f"{where} is damaged at {entry.filename} ({error}): download it again") from error
        if len(data) != entry.file_size:
            raise InputError(f"{where} is truncated: {entry.filename} has {len(data)} of {entry.file_size} bytes")
        return data

    order = record("byteorder").decode("ascii", "replace") if folder + "byteorder" in entries else "little"
    if order not in ("little", "big"):
        raise InputError(f"{where}: byte order {order!r}: expected 'little' or 'big'")
    storages: dict[str, Storage] = {}

    def storage(key: str, dtype: np.dtype, elements: int, view: Any) -> Storage:
        if key not in storages:
            data = np.frombuffer(record(f"data/{key}", elements * dtype.itemsize), np.uint8)
            storages[key] = Storage(data if order == "little" else swapped(data, dtype))
        return storages[key].typed(dtype)

    return load(io.BytesIO(record("data.pkl")), where, storage, stub)


def swapped(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bytes of big-endian elements -> bytes of little-endian ones."""
    unit = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
    return np.ascontiguousarray(data.reshape(-1, unit)[:, ::-1]).reshape(-1)


def _read_legacy(memory: mmap.mmap, where: str, size: int, stub: Sequence[str]) -> Any:
    storages: dict[str, Storage] = {}
    left = size

    def plain() -> Any:
        return load(memory, where, None, ())

    def storage(key: str, dtype: np.dtype, elements: int, view: Any) -> Storage:
        """Memory that is filled when the end of the pickles is reached: the elements come after them."""
        nonlocal left
        if key not in storages:
            needed = elements * dtype.itemsize
            left -= needed
            if left < 0:
                raise InputError(
                    f"{where} is truncated: its tensors need {size - left} bytes or more, the file has {size}: "
                    "download it again"
                )
            storages[key] = Storage(np.zeros(needed, np.uint8))
        whole = storages[key].typed(dtype)
        return whole if view is None else whole.part(view)

    magic, protocol, _ = plain(), plain(), plain()
    if magic != MAGIC or protocol != PROTOCOL:
        raise InputError(f"{where}: torch file of protocol {protocol}: expected {PROTOCOL}")
    content = load(memory, where, storage, stub)
    keys = plain()
    if not isinstance(keys, list) or set(map(str, keys)) != set(storages):
        raise InputError(f"{where} is damaged: the storages it lists are not those of its tensors; download it again")
    for key in map(str, keys):
        target = storages[key]
        count, data = memory.read(8), memory.read(target.data.size)
        complete = len(count) == 8 and len(data) == target.data.size
        if not complete or int.from_bytes(count, "little") * target.item != target.data.size:
            raise InputError(
                f"{where} is truncated or damaged: at byte {memory.tell()} of {size}, in the storage {key} of "
                f"{target.data.size} bytes: download it again"
            )
        target.data[:] = np.frombuffer(data, np.uint8)
    return content
