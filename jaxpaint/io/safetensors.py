"""Reads safetensors files: eight bytes of header length, a JSON header, the tensors' bytes, little-endian."""

import json
import math
import os
from typing import Any

import ml_dtypes
import numpy as np

from jaxpaint.types import InputError

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "C64": np.dtype("<c8"),
    "BOOL": np.dtype(bool),
    **{f"{sign}{bits}": np.dtype(f"<{sign.lower()}{bits // 8}") for sign in "IU" for bits in (8, 16, 32, 64)},
}


def looks_like(head: bytes) -> bool:
    """Whether a file that begins like this is one: a header's length, then a JSON object."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**27


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """{name: array}, read-only views of the file.

    Raises:
      InputError: if the header is damaged, or a tensor reaches beyond the file.
    """
    where, size = os.fspath(path), os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > size:
            raise InputError(f"{where} is truncated: its header needs {8 + length} bytes, the file has {size}")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is damaged: its header is no JSON ({error}); download it again") from error
    data = np.memmap(path, np.uint8, "r", offset=8 + length) if size > 8 + length else np.zeros(0, np.uint8)
    return {name: _tensor(where, name, entry, data) for name, entry in header.items() if name != "__metadata__"}


def _tensor(where: str, name: str, entry: Any, data: np.ndarray) -> np.ndarray:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} is damaged: the entry of {name!r} in its header; download it again") from error
    if dtype not in DTYPES:
        raise InputError(f"{where}: {name} has elements of type {dtype!r}: expected one of {', '.join(DTYPES)}")
    if not whole or len(shape) > 32 or end - begin != math.prod(shape) * DTYPES[dtype].itemsize:
        raise InputError(f"{where} is damaged: {name} of shape {shape} in bytes {begin} to {end}; download it again")
    if end > data.size:
        raise InputError(f"{where} is truncated: {name} ends at byte {end} of the data, {data.size} are there")
    return data[begin:end].view(DTYPES[dtype]).reshape(shape)
