"""What a torch pickle may name, and how its tensors are built: the table for `jaxpaint.io.unpickle`."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxpaint.io.unpickle import Named, Unfinished, checked_key, unpickle
from jaxpaint.types import InputError

_LIMIT = 2**62
_RANK = 32


@dataclasses.dataclass
class Storage:
    """One block of elements, on which tensors are views.

    data:  its bytes
    dtype: of its elements; None before a tensor said so (and for an untyped storage, whose elements are bytes)
    item:  bytes an element, as the file counts them
    """

    data: np.ndarray
    dtype: np.dtype | None = None
    item: int = 1

    def typed(self, dtype: np.dtype) -> "Storage":
        """The same block as elements of a type."""
        self.item = dtype.itemsize
        return Storage(self.data, dtype, dtype.itemsize)

    def part(self, view: Any) -> "Storage":
        """The part that a legacy file's (key, first element, number of elements) describes."""
        _, first, number = view
        first, number = _whole(first), _whole(number)
        if (first + number) * self.item > self.data.size:
            raise InputError(f"a storage of {self.data.size // self.item} elements is asked for {first} + {number}")
        return Storage(self.data[first * self.item : (first + number) * self.item], self.dtype, self.item)


DTYPES: dict[str, np.dtype] = {
    **{name: np.dtype(name) for name in ("float64", "float32", "float16", "complex64", "complex128", "bool")},
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    **{
        f"float8_{kind}": np.dtype(getattr(ml_dtypes, f"float8_{kind}"))
        for kind in ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz")
    },
}

STORAGES: dict[str, str] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
"""Torch's classes of storages -> the type of their elements."""


@dataclasses.dataclass(frozen=True)
class StorageType:
    """A class of storages that a pickle named."""

    dtype: str


NAMES: dict[str, Any] = {
    **{
        f"{module}.{name}": StorageType(dtype)
        for name, dtype in STORAGES.items()
        for module in ("torch", "torch.cuda", "torch.storage")
    },
    **{f"torch.{name}": f"torch.{name}" for name in DTYPES},
    **{
        f"torch.{name}": f"torch.{name}"
        for name in ("strided", "contiguous_format", "channels_last", "preserve_format")
    },
}
"""Names that stand for a value: storages' classes; data types and memory formats, as text."""


def _whole(value: Any) -> int:
    """A count that the file gives."""
    if type(value) is not int or not 0 <= value < _LIMIT:
        raise TypeError(f"expected a whole number from 0, got a {type(value).__name__}")
    return value


def rebuild(storage: Any, offset: Any, sizes: Any, strides: Any, *unused: Any) -> np.ndarray:
    """A view of a storage; everything counted in elements. Whether gradients flow, and hooks, are left out."""
    del unused
    if not isinstance(storage, Storage) or not isinstance(sizes, tuple) or not isinstance(strides, tuple):
        raise TypeError("expected a storage, a number and two tuples of numbers")
    offset, sizes, strides = _whole(offset), tuple(map(_whole, sizes)), tuple(map(_whole, strides))
    if len(sizes) != len(strides) or len(sizes) > _RANK:
        raise TypeError(f"{len(sizes)} sizes and {len(strides)} strides")
    dtype, item = storage.dtype, storage.item
    if math.prod(sizes) == 0:
        return np.zeros(sizes, dtype) if max(sizes) < _LIMIT // 2**30 else _too_large(sizes)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    held = storage.data.size // item
    if last >= held:
        raise InputError(
            f"a tensor of sizes {sizes}, strides {strides}, offset {offset} needs {last + 1} elements, "
            f"its storage has {held}: the file is damaged"
        )
    steps = tuple(stride * item for stride in strides)
    return np.ndarray(sizes, dtype, storage.data, offset * item, steps)


def _too_large(sizes: tuple[int, ...]) -> np.ndarray:
    raise InputError(f"an empty tensor of sizes {sizes}: the file is damaged")


def _rebuild_v3(storage, offset, sizes, strides, grad, hooks, dtype, *unused):
    """A tensor over an untyped storage, of the type named."""
    if not isinstance(storage, Storage) or not isinstance(dtype, str) or dtype.removeprefix("torch.") not in DTYPES:
        raise TypeError("expected a storage and a data type")
    kind = DTYPES[dtype.removeprefix("torch.")]
    return rebuild(Storage(storage.data, kind, kind.itemsize), offset, sizes, strides)


def _parameter(data, *unused):
    if not isinstance(data, np.ndarray):
        raise TypeError("expected a tensor")
    return data


def _from_type(function, kind, arguments, *state):
    """A tensor with Python attributes, which are left out."""
    if not isinstance(function, Named) or function.name not in REBUILDS or not isinstance(arguments, tuple):
        raise TypeError("expected a function that rebuilds a tensor")
    return REBUILDS[function.name](*arguments)


def _dict(pairs=()):
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise TypeError("expected pairs")
    return {checked_key(key): value for key, value in pairs}


def _defaultdict(factory=None):
    if factory is not None and not isinstance(factory, Named):
        raise TypeError("expected a type")
    return {}


def _set(values=()):
    return {checked_key(value) for value in _list(values)}


def _frozenset(values=()):
    return frozenset(_set(values))


def _list(values=()):
    if not isinstance(values, list | tuple):
        raise TypeError("expected a list")
    return list(values)


def _size(sizes=()):
    return tuple(map(_whole, sizes))


def _device(kind, index=None):
    if not isinstance(kind, str):
        raise TypeError("expected a device's name")
    return kind if index is None else f"{kind}:{_whole(index)}"


def _encode(text, encoding):
    """How Python 3 writes bytes in protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise TypeError("expected text in latin1")
    return text.encode("latin-1")


def _not_called(name: str) -> Callable:
    def refuse(*arguments):
        raise TypeError(f"{name} is a name only")

    return refuse


class _Dtype(Unfinished):
    """A NumPy data type: its byte order comes later."""

    def __init__(self, code: str):
        super().__init__()
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?([biufc](1|2|4|8|16)|\?)", code):
            raise TypeError("expected a numeric NumPy data type")
        self.dtype = np.dtype(code)

    def finish(self, state):
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise TypeError("a NumPy data type of an unknown kind")
        return self.dtype.newbyteorder(state[1])


def _numpy_dtype(code, *flags):
    return _Dtype(code)


def _numpy_type(dtype: Any) -> np.dtype:
    if isinstance(dtype, _Dtype):  # one-byte types have no byte order to come
        dtype = dtype.dtype
    if not isinstance(dtype, np.dtype):
        raise TypeError("expected a NumPy data type")
    return dtype


def _bytes(value: Any) -> bytes:
    """Python 2 wrote bytes as text."""
    if isinstance(value, str):
        value = value.encode("latin-1")
    if not isinstance(value, bytes | bytearray):
        raise TypeError("expected bytes")
    return bytes(value)


class _Array(Unfinished):
    """A NumPy array whose content comes later."""

    def finish(self, state):
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[1], tuple):
            raise TypeError("expected the state of a NumPy array")
        shape, dtype, data = tuple(map(_whole, state[1])), _numpy_type(state[2]), _bytes(state[4])
        if len(shape) > _RANK or math.prod(shape) * dtype.itemsize != len(data):
            raise InputError(f"a NumPy array of shape {shape} with {len(data)} bytes: the file is damaged")
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if state[3] else "C")
        return array.astype(dtype.newbyteorder("="), copy=False)


def _reconstruct(kind, shape, code):
    if kind != Named("numpy.ndarray"):
        raise TypeError("expected numpy.ndarray")
    return _Array()


def _scalar(dtype, data):
    dtype, data = _numpy_type(dtype), _bytes(data)
    if len(data) != dtype.itemsize:
        raise TypeError(f"{len(data)} bytes for one {dtype}")
    return np.frombuffer(data, dtype)[0].astype(dtype.newbyteorder("="))


REBUILDS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": rebuild,
    "torch._utils._rebuild_tensor_v2": rebuild,
    "torch._utils._rebuild_tensor_v3": _rebuild_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}

CALLS: dict[str, Callable[..., Any]] = {
    **REBUILDS,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": _size,
    "torch.device": _device,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _defaultdict,
    "builtins.dict": _dict,
    "builtins.list": _list,
    "builtins.set": _set,
    "builtins.frozenset": _frozenset,
    "_codecs.encode": _encode,
    "numpy.dtype": _numpy_dtype,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray.scalar": _scalar,
    # Named as arguments of the above, never called.
    **{name: _not_called(name) for name in ("numpy.ndarray", "torch.Tensor", "torch.nn.parameter.Parameter")},
    **{f"builtins.{name}": _not_called(name) for name in ("int", "long", "float", "str", "bool", "tuple")},
}
"""Everything that a torch file's pickle may call."""


def load(
    stream: BinaryIO,
    where: str,
    storage: Callable[[str, np.dtype, int, Any], Storage] | None,
    stub: Sequence[str],
) -> Any:
    """One pickle of a torch file.

    Args:
      stream: over memory, at its beginning
      where: the file's name, for messages
      storage: (key, type of elements, number of elements, view of a legacy file or None) -> the storage
      stub: see `jaxpaint.io.torch_file.read`
    """

    def persistent(identity: Any) -> Storage:
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise TypeError("a persistent id that is no storage")
        _, kind, key, _, elements, *view = identity
        if not isinstance(kind, StorageType) or not isinstance(key, str | int):
            raise TypeError("a storage of an unknown kind")
        return storage(str(key), DTYPES[kind.dtype], _whole(elements), view[0] if view else None)

    try:
        return unpickle(stream, where, calls=CALLS, names=NAMES, persistent=persistent if storage else None, stub=stub)
    except InputError as error:
        if str(error).startswith(where):
            raise
        raise InputError(f"{where}: {error}") from error
