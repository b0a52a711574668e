"""Metrics of a whole set: one row of numbers a picture is kept, and the figure is made of all rows at the end.

A sum of float64 products depends on the order of the summands, so halves of a set, ratio buckets and hosts would not
merge to the figure of the whole. Here nothing is summed until the end: the state is the rows themselves, and before
the figure is made they are sorted by their bytes. Whatever way they came, the same numbers are then added in the
same order: merging is exact, and nothing was rounded for it. FID's rows are 16 KiB a picture (2048 float32 numbers of
the prediction and of the target): 100 MB for 6,000 pictures; below 4,096 pictures that is less than the covariances
would take.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxpaint.metrics.metric import Metric
from jaxpaint.types import InputError

SLOTS = 32
"""A state's arrays: slot k holds less than 2**k rows, hence two thousand million pictures at most."""

NOTHING = np.zeros((0, 0), np.float32)

State = tuple[np.ndarray, ...]


def metric_of_rows(
    measure: Callable[[Sequence, Sequence, Sequence], Mapping[str, np.ndarray]],
    names: Sequence[str],
    result: Callable[..., dict[str, Any]],
    about: str,
    *,
    better: str,
    unit: str = "",
) -> Metric:
    """A metric of the region "whole" that is made of all pictures' rows.

    Args:
      measure: gives a dict of arrays, n numbers each, one row a picture; metrics made around one such function can
        share its result
      names: the arrays that this metric needs, all of one shape; their rows of one picture stay together
      result: ``(array of each name, n numbers float32, in an order that does not depend on how they came) ->
        {"value": float or None, ...}``; it is not called for no pictures
    """

    def compute(state: State) -> dict[str, dict[str, Any]]:
        rows = _ordered(state)
        if not len(rows):
            return {"whole": {"value": None, "n": 0, "reason": "no pictures"}}
        return {"whole": {"n": len(rows), **result(*np.split(rows, len(names), axis=1))}}

    return Metric(about, better, unit, ("whole",), measure, _init, _update(tuple(names)), _merge, compute, of_set=True)


def _init() -> State:
    return (NOTHING,) * SLOTS


@functools.cache
def _update(names: tuple[str, ...]) -> Callable[[State, Mapping[str, np.ndarray]], State]:
    """The same function for the same names: metrics of one network's rows then share one state (see `Metric`)."""

    def update(state, measured):
        arrays = [check_rows(measured[name], name) for name in names]
        shapes = {name: array.shape for name, array in zip(names, arrays, strict=True)}
        if len(set(shapes.values())) > 1:
            raise InputError(f"arrays of the shapes {shapes}: one row a picture in each, of one network, is expected")
        return _with(state, np.concatenate(arrays, axis=1, dtype=np.float32))

    return update


def _merge(a: State, b: State) -> State:
    return functools.reduce(_with, b, a)


def check_rows(array: np.ndarray, name: str, *, like: np.ndarray | None = None) -> np.ndarray:
    """The array, if it is rows of finite numbers (as many a row as `like` has); InputError otherwise."""
    array = np.asarray(array)
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(f"{name}: the shape is {array.shape}, expected (pictures, numbers): one row a picture")
    if not np.isfinite(array).all():
        raise InputError(f"{name}: NaN or infinite numbers: nothing can be measured on them; look at the network")
    if like is not None and array.shape[1] != like.shape[1]:
        raise InputError(
            f"{name}: {array.shape[1]} numbers a picture, but {like.shape[1]} in the other set: "
            "compare features of one network only"
        )
    return array


def _with(state: State, rows: np.ndarray) -> State:
    """The state with more rows.

    As a binary counter does: rows go to the slot of their number's bits, and where that is taken, both go on together.
    So a row is copied once for each doubling of the set, not once for each batch after it.
    """
    if not len(rows):
        return state
    slots = list(state)
    for kept in slots:
        if len(kept) and kept.shape[1] != rows.shape[1]:
            raise InputError(
                f"rows of {rows.shape[1]} numbers for a set that has {kept.shape[1]} a picture: "
                "measure a set with one network only"
            )
    while len(slots[slot := len(rows).bit_length()]):
        rows = np.concatenate([slots[slot], rows])
        slots[slot] = NOTHING
    slots[slot] = rows
    return tuple(slots)


def _ordered(state: State) -> np.ndarray:
    """All rows, sorted by their bytes. Rows that are equal in all of them need no order."""
    rows = np.concatenate([kept for kept in state if len(kept)] or [np.zeros((0, 1), np.float32)])
    keys = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
    return rows[np.argsort(keys)]
