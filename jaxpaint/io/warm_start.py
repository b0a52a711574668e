"""A new run from old weights: takes what fits, leaf by leaf, and says what did not (``--init-from``)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.io.fingerprint import named_leaves
from jaxpaint.types import InputError, PyTree


class Misshaped(NamedTuple):
    """A leaf that both sides have, in different shapes or in types that do not convert."""

    name: str
    loaded: str
    expected: str

    def __str__(self) -> str:
        return f"{self.name} is {self.loaded} in the checkpoint, {self.expected} here"


class Report(NamedTuple):
    """What became of every leaf.

    matched:    taken from the checkpoint
    missing:    not in the checkpoint: kept as freshly initialised
    unexpected: in the checkpoint only: not used
    misshaped:  in both, and not fitting: kept as freshly initialised
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    misshaped: list[Misshaped]

    @property
    def complete(self) -> bool:
        """Whether both sides have the same leaves."""
        return not (self.missing or self.unexpected or self.misshaped)

    def text(self, most: int | None = 10) -> str:
        """A summary, with at most so many names of a kind (None: all)."""
        total = len(self.matched) + len(self.missing) + len(self.misshaped)
        lines = [f"{len(self.matched)} of {total} arrays taken from the checkpoint"]
        for title, group in (
            ("missing there, kept as initialised", self.missing),
            ("mis-shaped, kept as initialised", self.misshaped),
            ("unexpected, not used", self.unexpected),
        ):
            if group:
                lines.append(f"  {len(group)} {title}:")
                lines += [f"    {name}" for name in group[:most]]
                lines += [f"    and {len(group) - most} more"] if most is not None and len(group) > most else []
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def warm_start(template: PyTree, loaded: PyTree, *, strict: bool = False) -> tuple[PyTree, Report]:
    """Fills a tree with the leaves of another one that have the same name and shape.

    Args:
      template: freshly initialised arrays. Names and places count, not kinds of containers: a
        ``Weights`` record matches the nested dicts of `restore_weights`.
      loaded: arrays of any size of tree, usually ``restore_weights(path).weights``.
      strict: raise unless every leaf of either side matched.

    Returns:
      The tree, of the template's structure, types and shardings, and what became of every leaf.
      Floating-point types convert into each other; other types must be equal.

    Raises:
      InputError: nothing matched, or `strict` and not everything did; the message lists it.
    """
    here, there = named_leaves(template), named_leaves(loaded)
    report = Report([], [], sorted(set(there) - set(here)), [])
    filled = []
    for name, leaf in here.items():
        if name not in there:
            report.missing.append(name)
        elif not _fits(there[name], leaf):
            report.misshaped.append(Misshaped(name, _kind(there[name]), _kind(leaf)))
        else:
            report.matched.append(name)
            leaf = _like(there[name], leaf)
        filled.append(leaf)
    if not report.matched:
        raise InputError(
            f"no array of the checkpoint fits this system: is it another system's?\n{report}\n"
            f"The checkpoint has, for example: {', '.join(sorted(there)[:5]) or 'nothing'}"
        )
    if strict and not report.complete:
        raise InputError(
            f"the checkpoint does not fit this system, and a strict start was asked for:\n{report.text(None)}"
        )
    return jax.tree.unflatten(jax.tree.structure(template), filled), report


def _fits(loaded: np.ndarray | jax.Array, leaf: jax.Array) -> bool:
    floats = jnp.issubdtype(loaded.dtype, jnp.floating) and jnp.issubdtype(leaf.dtype, jnp.floating)
    return loaded.shape == leaf.shape and (floats or loaded.dtype == leaf.dtype)


def _like(loaded: np.ndarray | jax.Array, leaf: jax.Array) -> jax.Array | np.ndarray:
    """`loaded` in the type and on the devices of `leaf`; always a copy, as the result may be donated."""
    if not isinstance(leaf, jax.Array):
        return np.array(loaded, leaf.dtype)
    host = np.asarray(loaded)
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: np.array(host[index], leaf.dtype))


def _kind(x: np.ndarray | jax.Array) -> str:
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"
