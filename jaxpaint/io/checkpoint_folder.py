"""One checkpoint on disk: how it is written, read and checked.

A checkpoint is a folder that Orbax writes under a temporary name and renames when it is complete. Items:

``weights``  {"params", "extra", "ema"}, nested dicts of arrays
``train``    {"opt", "step", "rng"}; absent from published and converted weights
``config``   JSON
``record``   JSON: the step, the fingerprint of every leaf, a hash of the config, metrics (`Record`)

The record is an item of its own because reading it takes milliseconds; Orbax' metadata take as long as
the arrays of a small network.
"""

import functools
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from jaxpaint.io.fingerprint import Leaf, describe, fingerprint
from jaxpaint.types import InputError, PyTree

TEMPORARY = ".orbax-checkpoint-tmp"
"""In the name of a folder that Orbax has not finished."""

COMPLETE = "_CHECKPOINT_METADATA"
"""A file that every checkpoint has."""

# What goes wrong in the machine rather than in a checkpoint: never a reason to go back to an older step.
MACHINE_TROUBLE = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "getpwuid()")


class CheckpointError(RuntimeError):
    """The machine failed to store or fetch a checkpoint: a full disk, no permission, no memory."""


class Broken(Exception):
    """The checkpoint is incomplete or damaged; the message is the reason."""


class Record(NamedTuple):
    """What we keep beside the arrays.

    step:    of the run; 0 for weights that no run of ours has made
    leaves:  by item, by leaf name
    config:  SHA-256 of the config's JSON
    metrics: by name; None where the number was not finite
    """

    step: int
    leaves: dict[str, dict[str, Leaf]]
    config: str
    metrics: dict[str, float | None]


def write(path: epath.Path, step: int, items: Mapping[str, PyTree], config: dict, metrics: Mapping | None = None):
    """Starts to write a checkpoint; the arrays may be donated as soon as this returns.

    Returns:
      A response whose ``result()`` waits until the checkpoint is complete and raises what went wrong.
    """
    try:
        config = json.loads(json.dumps(config))  # as it will be read: lists for tuples, strings for keys
    except TypeError as error:
        raise InputError(f"the config cannot be written as JSON: {error}") from error
    items = {name: jax.tree.map(_as_array, tree) for name, tree in items.items()}
    leaves = {name: fingerprint(tree) for name, tree in items.items()}
    empty = [f"{item}/{name}" for item, group in leaves.items() for name, x in group.items() if 0 in x.shape]
    if empty:
        raise InputError(f"Orbax cannot save arrays without elements: {_some(empty)}")
    note = {
        "step": step,
        "leaves": {
            item: {n: [list(x.shape), x.dtype, x.sum] for n, x in group.items()} for item, group in leaves.items()
        },
        "config": _sha(json.dumps(config, sort_keys=True)),
        "metrics": finite(metrics or {}),
    }
    note["check"] = _sha(json.dumps(note, sort_keys=True))
    with _context():
        return ocp.save_checkpointables_async(path, {**items, "config": config, "record": note})


def finite(metrics: Mapping) -> dict[str, float | None]:
    """Metrics as they are kept: plain numbers, None for what is not finite."""
    numbers = {name: float(value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def read_record(path: epath.Path) -> Record:
    """What is kept beside the arrays; reads a small file."""

    def read():
        note = _load(path, "record", None)
        if note.pop("check", None) != _sha(json.dumps(note, sort_keys=True)):
            raise Broken("it differs from what was saved")
        leaves = {
            item: {name: Leaf(tuple(shape), dtype, total) for name, (shape, dtype, total) in group.items()}
            for item, group in note["leaves"].items()
        }
        return Record(note["step"], leaves, note["config"], note["metrics"])

    if not any(path.iterdir()):
        raise Broken("the folder is empty")
    if not (path / COMPLETE).exists():
        raise Broken(f"the folder is incomplete: {COMPLETE} is missing")
    try:
        return _attempt(read)
    except Broken as error:
        raise Broken(f"record: {error}") from error


def read_index(path: epath.Path, item: str) -> PyTree:
    """The tree of an item, empty parts included, with ``shape`` and ``dtype`` at its leaves."""

    def read():
        with _context():
            tree = ocp.checkpointables_metadata(path).metadata.get(item)
        if tree is None:
            raise Broken("the index of the arrays cannot be read")
        return tree

    try:
        return _attempt(read)
    except Broken as error:
        raise Broken(f"{item}: {error}") from error


def read_config(path: epath.Path, record: Record) -> dict:
    """The config; `Broken` where it is not the one that was saved."""

    try:
        config = _attempt(lambda: _load(path, "config", None))
    except Broken as error:
        raise Broken(f"config: {error}") from error
    if _sha(json.dumps(config, sort_keys=True)) != record.config:
        raise Broken("the config differs from the one that was saved")
    return config


def read_items(path: epath.Path, record: Record, abstract: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Loads and checks items.

    Args:
      path: the checkpoint.
      record: from `read_record`.
      abstract: by item, a tree of ``jax.ShapeDtypeStruct`` with shardings (JAX arrays come back) or of
        NumPy arrays (NumPy arrays come back).

    Raises:
      InputError: the trees have other leaves than the checkpoint: all of them are listed.
      Broken: the contents are not those that were saved: the leaves are named.
    """
    compare(abstract, record.leaves, str(path))

    items, found = {}, {}
    for item, tree in abstract.items():  # one at a time, so that a reason can be told to belong to one
        try:
            items[item] = _attempt(functools.partial(_load, path, item, tree))
        except Broken as error:
            raise Broken(f"{item}: {error}") from error
        found[item] = fingerprint(items[item])
    wrong = [f"{item}/{name}" for item in abstract for name, x in record.leaves[item].items() if found[item][name] != x]
    if wrong:
        raise Broken(f"contents differ from what was saved: {_some(wrong)}")
    return items


def compare(abstract: Mapping[str, PyTree], saved: Mapping[str, Mapping[str, Leaf]], where: str) -> None:
    """Raises an InputError that lists every leaf in which a checkpoint and the trees to fill differ."""
    lines = []
    for item, tree in abstract.items():
        if item not in saved:
            lines.append(f"  missing from the checkpoint: all of {item!r}; it holds {', '.join(sorted(saved))} alone")
            continue
        wanted, there = describe(tree), saved[item]
        lines += [f"  missing from the checkpoint: {item}/{n} {wanted[n]}" for n in wanted if n not in there]
        lines += [f"  only in the checkpoint: {item}/{n} {there[n]}" for n in there if n not in wanted]
        lines += [
            f"  mis-shaped: {item}/{n} is {there[n]} in the checkpoint, {x} in this run"
            for n, x in wanted.items()
            if n in there and (there[n].shape, there[n].dtype) != (x.shape, x.dtype)
        ]
    if lines:
        shown = lines[:40] + ([f"  and {len(lines) - 40} more"] if len(lines) > 40 else [])
        raise InputError(
            f"{where} holds another network or another optimiser than this run has:\n" + "\n".join(shown) + "\n"
            "Resume with the configuration that wrote it, or start a new run from its weights with --init-from."
        )


def needed_bytes(items: Mapping[str, PyTree]) -> int:
    """Bytes of a checkpoint's arrays before compression, which gains little on weights."""
    return sum(
        math.prod(x.shape) * (8 if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x.dtype.itemsize)
        for x in jax.tree.leaves(jax.tree.map(_as_array, dict(items)))
    )


def free_bytes(folder: epath.Path) -> int | None:
    """Free space where a folder lies; None for remote storage, which does not say."""
    return None if remote(folder) else shutil.disk_usage(folder).free


def check_space(folder: epath.Path, items: Mapping[str, PyTree]) -> None:
    """Raises a CheckpointError where a checkpoint of these items has no room in a folder."""
    needed, free = needed_bytes(items), free_bytes(folder)
    # One answer for all processes: the first one's.
    short = everyone(free is not None and needed > free, of=0)
    if short:
        raise CheckpointError(
            f"no room for a checkpoint in {folder}: it needs {size(needed)}, {size(free or 0)} are free. "
            "Nothing was written and earlier checkpoints are untouched; free some space or keep fewer checkpoints."
        )


def reason(error: BaseException) -> str:
    """The innermost cause of an error in one line: Orbax wraps what happened several times."""
    while True:
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    text = " ".join(str(error).split())
    return text if isinstance(error, Broken) else f"{type(error).__name__}: {text[:400]}"


def everyone(flag: bool, *, of: int | None = None) -> bool:
    """True where `flag` holds on every process, or, with `of`, on that one. All processes must call it."""
    if jax.process_count() == 1:
        return bool(flag)
    flags = multihost_utils.process_allgather(np.asarray(flag))
    return bool(np.all(flags) if of is None else flags[of])


def wait_for_all(what: str) -> None:
    """A barrier over processes."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def absolute(path: str | epath.Path) -> epath.Path:
    """The path that Orbax wants: absolute, with ``~`` resolved; a bucket's address as it is."""
    return epath.Path(path) if remote(path) else epath.Path(os.path.abspath(os.path.expanduser(path)))


def remote(folder: str | epath.Path) -> bool:
    """Whether a folder lies in a bucket rather than in a file system."""
    return "://" in str(folder)


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.2f} MiB"


def _attempt(read: Callable[[], Any]) -> Any:
    """Runs a reading function on all processes: all succeed, or all raise the same kind of error."""
    result, trouble = None, None
    try:
        result = read()
    except Exception as error:
        trouble = error
    if everyone(trouble is None):
        return result
    why = reason(trouble) if trouble is not None else "another process could not read it"
    if isinstance(trouble, MemoryError | PermissionError) or any(word in why for word in MACHINE_TROUBLE):
        if "getpwuid()" in why:
            why += " (this process' user id has no entry in /etc/passwd, and Orbax looks it up: add one)"
        raise CheckpointError(f"this machine cannot read the checkpoint: {why}") from trouble
    raise Broken(why) from trouble


def _load(path: epath.Path, item: str, abstract: PyTree) -> PyTree:
    context = _context()
    if jax.process_count() > 1:
        # Every process reads what its own devices need. Without this a process that finds damage leaves
        # the others waiting for it, for minutes; `_attempt` is where they agree.
        context.multiprocessing.primary_host = jax.process_index()
        context.multiprocessing.active_processes = {jax.process_index()}
        context.multiprocessing.barrier_sync_key_prefix = f"process_{jax.process_index()}"
    with context:
        return ocp.load_checkpointables(path, {item: abstract})[item]


def _context() -> ocp.Context:
    """How Orbax is used here: config and record are plain JSON, readable with any editor."""
    context = ocp.Context()
    registry = ocp.handlers.local_registry(include_global_registry=True)
    for item in ("config", "record"):
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=item)
    context.checkpointables.registry = registry
    return context


def _as_array(x: Any) -> jax.Array | np.ndarray:
    return x if isinstance(x, jax.Array | jax.ShapeDtypeStruct) else np.asarray(x)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
