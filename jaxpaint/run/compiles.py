"""Counts what XLA compiles, and says why something is compiled again when nothing should be.

A training step is compiled ahead and cannot be compiled again. What can are the functions around it (validation,
samples, pictures of other sizes), and a program that is made anew every time costs more than the steps between.

    with Compiles(say) as compiles:
        ...                                   # warming up: counted, and silent
        compiles.steady()
        for step in ...:
            ...                               # a warning for each compilation, with its reason
            with compiles.first("samples"):   # silent when it is entered for the first time
                ...
"""

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
FROM_CACHE = "/jax/compilation_cache/cache_hits"
LOGGER = "jax._src.interpreters.pxla"
"""Where JAX says, at level DEBUG, what it compiles for which arguments. Events carry the function's name alone."""

WARNINGS = 5
"""Warnings about one function; after that it is only counted."""
SHOWN = 4
"""Arguments that changed, as many as a warning names."""


class Signature(NamedTuple):
    """For which arguments a function was compiled. Both as text, an entry an argument, in flattened order."""

    types: tuple[str, ...]
    shardings: tuple[str, ...]


class Compiled(NamedTuple):
    """One program: the name of its function, ``jit(step)``; what it took; whether it came from the persistent cache."""

    name: str
    seconds: float
    cached: bool


class Compiles:
    """A context manager; outside it nothing is counted, and nothing of JAX's settings is left changed.

    count:     programs compiled, those that came from the persistent cache among them
    cached:    of these, those that came from the persistent cache
    late:      of these, those that were compiled when nothing should be
    seconds:   what compiling (or loading) took
    functions: programs by name of the function
    last:      the last program

    Args:
      say: where warnings go.
    """

    def __init__(self, say: Callable[[str], None] = print):
        self.count = self.cached = self.late = 0
        self.seconds = 0.0
        self.last: Compiled | None = None
        self.functions: Counter[str] = Counter()
        self._say = say
        self._warned: Counter[str] = Counter()
        self._known: dict[str, list[Signature]] = {}
        self._announced: dict[tuple[int, str], Signature] = {}
        self._loaded: set[int] = set()
        self._steady = self._entered = False
        self._begun: set[str] = set()

    def steady(self) -> None:
        """From here on nothing should be compiled: a warning for each program that is."""
        self._steady = True

    @contextlib.contextmanager
    def first(self, name: str) -> Iterator[None]:
        """What is compiled inside is silent when `name` is entered for the first time: it warms up here."""
        before = self._steady
        self._steady = before and name in self._begun
        self._begun.add(name)
        try:
            yield
        finally:
            self._steady = before

    def __enter__(self) -> "Compiles":
        if self._entered:
            raise RuntimeError("a Compiles is entered once: make another one")
        self._entered = True
        logger = logging.getLogger(LOGGER)
        self._level, self._effective = logger.level, logger.getEffectiveLevel()
        logger.addFilter(self._overhear)
        logger.setLevel(min(logging.DEBUG, self._effective))
        jax.monitoring.register_event_duration_secs_listener(self._compiled)
        jax.monitoring.register_event_listener(self._event)
        return self

    def __exit__(self, *error) -> None:
        jax.monitoring.unregister_event_duration_listener(self._compiled)
        jax.monitoring.unregister_event_listener(self._event)
        logger = logging.getLogger(LOGGER)
        logger.removeFilter(self._overhear)
        logger.setLevel(self._level)

    def _overhear(self, record: logging.LogRecord) -> bool:
        """Notes for which arguments JAX is about to compile; passes on what would have been passed on without us."""
        if str(record.msg).startswith("Compiling") and isinstance(record.args, tuple) and len(record.args) == 3:
            name, types, shardings = record.args
            signature = Signature(tuple(map(str, types)), tuple(map(str, shardings)))
            self._announced[threading.get_ident(), str(name)] = signature
        return record.levelno >= self._effective

    def _event(self, event: str, **about) -> None:
        del about
        if event == FROM_CACHE:  # the event of the program itself follows, in the same thread
            self._loaded.add(threading.get_ident())

    def _compiled(self, event: str, seconds: float, *, fun_name: str = "a function", **about) -> None:
        del about
        if event != COMPILED:
            return
        thread = threading.get_ident()
        self.last = Compiled(fun_name, seconds, thread in self._loaded)
        self._loaded.discard(thread)
        self.count += 1
        self.cached += self.last.cached
        self.seconds += seconds
        self.functions[fun_name] += 1
        signature = self._announced.pop((thread, fun_name), None)
        known = self._known.setdefault(fun_name, [])
        if self._steady:
            self.late += 1
            self._warned[fun_name] += 1
            if self._warned[fun_name] <= WARNINGS:
                times = self.functions[fun_name]
                last = "; no more of these warnings for it" if self._warned[fun_name] == WARNINGS else ""
                self._say(
                    f"warning: {fun_name} was compiled in the middle of the run, in {seconds:.1f} s "
                    f"(program {times} of this function): {reason(signature, known)}{last}"
                )
        if signature is not None:
            known.append(signature)


def reason(now: Signature | None, known: list[Signature]) -> str:
    """Why a program was needed, beside those that there were: what differs from the one that is most alike."""
    if now is None:
        return "JAX did not say for which arguments"
    if not known:
        return "it was never compiled before, for " + _listed(list(now.types))
    before = min(known, key=lambda one: _distance(one, now))
    if len(before.types) != len(now.types):
        return f"it has {len(now.types)} arguments, and had {len(before.types)}"
    for kind, was, is_ in (
        ("", before.types, now.types),
        (" on the devices", before.shardings, now.shardings),
    ):
        pairs = zip(was, is_, strict=True)
        changes = [f"argument {n}{kind}: {a} -> {b}" for n, (a, b) in enumerate(pairs) if a != b]
        if changes:
            return _listed(changes)
    return (
        "its arguments have the same shapes, types and places: a static argument changed, or the function is a new "
        "object every time (a lambda or a partial inside a loop)"
    )


def _distance(one: Signature, other: Signature) -> tuple[int, int, int]:
    """How unlike two signatures are: in their number of arguments, their types, their places."""
    differ = [sum(a != b for a, b in zip(*pair, strict=False)) for pair in zip(one, other, strict=True)]
    return (abs(len(one.types) - len(other.types)), *differ)


def _listed(parts: list[str]) -> str:
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return ", ".join(parts[:SHOWN]) + more if parts else "no arguments"
