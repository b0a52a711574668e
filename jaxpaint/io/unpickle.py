"""An interpreter of pickles that cannot run code.

A pickle is a program: it may name any function of any module and call it. Python's own unpickler does so, and an
unpickler that only restricts names still lets a file write attributes of what it may name. This one interprets the
instructions itself. It builds plain values (numbers, text, bytes, tuples, lists, dicts, sets); a name is looked up
in a table that the caller gives and nowhere else, nothing is imported, and the only functions that run are those in
the table, each of which checks its arguments. Anything else is an `InputError` that says what the file named.
"""

import dataclasses
import pickletools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from jaxpaint.types import InputError


@dataclasses.dataclass(frozen=True)
class Named:
    """A name in a pickle that was allowed: inert, ``Named("collections.OrderedDict")``."""

    name: str


@dataclasses.dataclass(eq=False)
class Inert:
    """What stands for an object of a class that the caller asked to have replaced: it holds, and does nothing.

    name:     of the class
    contents: what the pickle gave it: arguments, state and items, in that order
    """

    name: str
    contents: list = dataclasses.field(default_factory=list)


class Unfinished:
    """What a table's function may return for an object whose content comes with a later instruction (BUILD).

    places: where the memo holds it: the object takes its place there, too
    """

    def __init__(self):
        self.places: list[int] = []

    def finish(self, state: Any) -> Any:
        """The object."""
        raise NotImplementedError


class _Mark:
    """Where a MARK instruction was."""


_MARK = _Mark()

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set}
_LITERAL = r"(BIN|SHORT_BIN)?(INT|STRING|UNICODE|BYTES)[128]?|LONG[14]?|(BIN)?FLOAT|BYTEARRAY8"
_LITERALS = frozenset(code.name for code in pickletools.opcodes if re.fullmatch(_LITERAL, code.name))
"""Instructions that push their argument."""
_KEYS = (str, bytes, int, float, complex, bool, type(None), Named)


def unpickle(
    stream: BinaryIO,
    where: str,
    *,
    calls: Mapping[str, Callable[..., Any]],
    names: Mapping[str, Any] | None = None,
    persistent: Callable[[Any], Any] | None = None,
    stub: Sequence[str] = (),
) -> Any:
    """Reads one pickle and leaves the stream behind its end.

    Args:
      stream: where to read; over memory, not over a file (a length in a damaged file is asked for at once)
      where: the file's name, for messages
      calls: "module.name" -> the function that stands for it when the pickle calls it
      names: "module.name" -> the value that stands for the name itself (a data type)
      persistent: makes the value of a persistent id
      stub: names of classes to replace by `Inert`: "module.Class", or "package." for all below a package

    Raises:
      InputError: if the pickle names anything else, or is damaged.
    """
    machine = _Machine(where, calls, names or {}, persistent, tuple(stub))
    try:
        return machine.run(stream)
    except InputError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError, MemoryError) as error:
        raise InputError(
            f"{where}: its pickle is damaged or truncated ({type(error).__name__}: {error}): download the file again"
        ) from error


class _Machine:
    """A stack, a memo, and one method an instruction where one line does not do."""

    def __init__(self, where, calls, names, persistent, stub):
        self.where, self.calls, self.names, self.persistent, self.stub = where, calls, names, persistent, stub
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return self.pop()
            self.step(opcode.name, argument)
        raise ValueError("it has no end")

    def step(self, code: str, argument: Any) -> None:
        stack = self.stack
        if code in _LITERALS:
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _EMPTY:
            stack.append(_EMPTY[code]())
        elif code in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.remember(argument)
        elif code == "MEMOIZE":
            self.remember(len(self.memo))
        elif code in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif code == "MARK":
            stack.append(_MARK)
        elif code in ("PROTO", "FRAME"):
            pass
        elif method := getattr(self, "do_" + code.lower(), None):
            method(argument)
        else:
            raise InputError(f"{self.where}: its pickle holds the instruction {code}: refused, checkpoints need none")

    def remember(self, place: int) -> None:
        self.memo[place] = value = self.top()
        if isinstance(value, Unfinished):
            value.places.append(place)

    def top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise ValueError("a value is missing")
        return self.stack[-1]

    def pop(self) -> Any:
        value = self.top()
        del self.stack[-1]
        return value

    def pop_to_mark(self) -> list:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("a mark is missing")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    # Containers.

    def do_pop(self, _):
        del self.stack[-1]

    def do_pop_mark(self, _):
        self.pop_to_mark()

    def do_dup(self, _):
        self.stack.append(self.top())

    def do_tuple(self, _):
        self.stack.append(tuple(self.pop_to_mark()))

    def do_tuple1(self, _):
        self.stack.append((self.pop(),))

    def do_tuple2(self, _):
        last = self.pop()
        self.stack.append((self.pop(), last))

    def do_tuple3(self, _):
        last, middle = self.pop(), self.pop()
        self.stack.append((self.pop(), middle, last))

    def do_list(self, _):
        self.stack.append(self.pop_to_mark())

    def do_dict(self, _):
        items, made = self.pop_to_mark(), {}
        self.stack.append(made)
        self.put_items(items)

    def do_frozenset(self, _):
        self.stack.append(frozenset(checked_key(value) for value in self.pop_to_mark()))

    def do_append(self, _):
        value = self.pop()
        self.extend([value])

    def do_appends(self, _):
        self.extend(self.pop_to_mark())

    def extend(self, values: list) -> None:
        target = self.top()
        if isinstance(target, Inert):
            target.contents.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise TypeError(f"items for a {type(target).__name__}")

    def do_additems(self, _):
        values, target = self.pop_to_mark(), self.top()
        if not isinstance(target, set):
            raise TypeError(f"items for a {type(target).__name__}")
        target.update(checked_key(value) for value in values)

    def do_setitem(self, _):
        value = self.pop()
        key = self.pop()
        self.put_items([key, value])

    def do_setitems(self, _):
        self.put_items(self.pop_to_mark())

    def put_items(self, items: list) -> None:
        target = self.top()
        if isinstance(target, Inert):
            target.contents.extend(zip(items[::2], items[1::2], strict=True))
        elif isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[checked_key(key)] = value
        else:
            raise TypeError(f"items for a {type(target).__name__}")

    # Names and calls.

    def do_global(self, argument):
        module, _, name = argument.partition(" ")
        self.name(module, name)

    def do_inst(self, argument):
        self.do_global(argument)
        function = self.pop()
        self.stack.append(self.call(function.name, tuple(self.pop_to_mark())))

    def do_stack_global(self, _):
        name, module = self.pop(), self.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is not text")
        self.name(module, name)

    def name(self, module: str, name: str) -> None:
        full = _modern(f"{module}.{name}")
        if full in self.names:
            self.stack.append(self.names[full])
        elif full in self.calls or self.stubbed(full):
            self.stack.append(Named(full))
        else:
            raise InputError(
                f"{self.where} names {module}.{name}: refused. A pickle may run anything that it names, so only "
                "tensors and plain containers are read; if you trust the file, load it with its own library and "
                "save its tensors alone"
            )

    def stubbed(self, full: str) -> bool:
        return any(full == known or (known.endswith(".") and full.startswith(known)) for known in self.stub)

    def do_reduce(self, _):
        arguments = self.pop()
        function = self.pop()
        if not isinstance(function, Named) or not isinstance(arguments, tuple):
            raise TypeError("a call of something that is no name")
        self.stack.append(self.call(function.name, arguments))

    do_newobj = do_reduce

    def call(self, full: str, arguments: tuple) -> Any:
        if self.stubbed(full):
            return Inert(full, list(arguments))
        try:
            return self.calls[full](*arguments)
        except TypeError as error:
            raise InputError(f"{self.where} calls {full} with arguments that do not fit ({error}): refused") from error

    def do_build(self, _):
        state, target = self.pop(), self.pop()
        if isinstance(target, Unfinished):
            made = target.finish(state)
            self.memo.update({place: made for place in target.places if self.memo[place] is target})
            self.stack.append(made)
        elif isinstance(target, Inert):
            target.contents.append(state)
            self.stack.append(target)
        elif isinstance(target, dict) and isinstance(state, dict):
            # Attributes of an OrderedDict: a state dict's `_metadata`, versions of modules. Nothing here needs them.
            self.stack.append(target)
        else:
            raise TypeError(f"state for a {type(target).__name__}")

    def do_binpersid(self, _):
        if self.persistent is None:
            raise InputError(f"{self.where}: its pickle refers to data outside itself: not a file of torch.save")
        self.stack.append(self.persistent(self.pop()))


def checked_key(key: Any) -> Any:
    """A key of a dict or a member of a set: a plain value or a flat tuple of those (hashing nests of them recurses)."""
    flat = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, _KEYS) for part in flat):
        raise TypeError("a key that is no plain value")
    return key


def _modern(full: str) -> str:
    """Old spellings: Python 2's builtins, NumPy 1's core."""
    for old, new in (("__builtin__.", "builtins."), ("numpy.core.", "numpy._core.")):
        if full.startswith(old):
            return new + full[len(old) :]
    return full
