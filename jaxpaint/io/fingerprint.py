"""Fingerprints of arrays: what tells a restored checkpoint from the one that was saved.

Orbax keeps checksums of its index, not of array data: a flipped bit in a weight is loaded without an
error. So one 32-bit number a leaf is computed on the devices before a save and again after a restore.
It is a sum, modulo 2^32, over the leaf's words, each mixed with its place in the array. A sum has no
order, hence the number is the same on one device and under any sharding over any number of processes;
mixing is one-to-one for every place, hence a single changed word always changes it.

The mixing is MurmurHash3's 32-bit finaliser (Appleby, public domain).
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.types import PyTree, leaf_name


class Leaf(NamedTuple):
    """One array of a checkpoint: its shape, its dtype by name, the fingerprint of its contents."""

    shape: tuple[int, ...]
    dtype: str
    sum: int

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def named_leaves(tree: PyTree) -> dict[str, jax.Array | np.ndarray]:
    """The leaves of a tree by name, in the tree's order."""
    return {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def describe(tree: PyTree) -> dict[str, Leaf]:
    """Shapes and dtypes of a tree of arrays or of ``jax.ShapeDtypeStruct``; the sums are 0."""
    return {name: Leaf(tuple(x.shape), str(x.dtype), 0) for name, x in named_leaves(tree).items()}


def fingerprint(tree: PyTree) -> dict[str, Leaf]:
    """Shapes, dtypes and fingerprints of a tree of JAX or NumPy arrays, by leaf name.

    Waits for the arrays. Compiles once a shape, not once a tree: networks repeat their shapes, and
    leaves may live on different devices. On many processes, all must call it.
    """
    leaves = named_leaves(tree)
    # One after the other: of divided arrays every sum travels, and programs that exchange something must not overtake
    # each other on different processes.
    sums = {name: int(_leaf_sum(x)) if isinstance(x, jax.Array) else _host_sum(x) for name, x in leaves.items()}
    return {name: leaf._replace(sum=sums[name]) for name, leaf in describe(tree).items()}


def digest(leaves: Mapping[str, Leaf]) -> str:
    """One short name, 16 hexadecimal digits, for the contents of all leaves together."""
    text = "\n".join(f"{name} {leaf} {leaf.sum}" for name, leaf in sorted(leaves.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _host_sum(x: np.ndarray, part: int = 2**20) -> int:
    """`_leaf_sum` in NumPy, a part at a time: nothing to compile, no 64-bit array narrowed by JAX."""
    words = np.ascontiguousarray(x).reshape(-1).view(f"u{min(x.dtype.itemsize, 4)}")
    total = 0
    for start in range(0, words.size, part):
        place = np.arange(start, min(start + part, words.size)).astype(np.uint32)
        mixed = words[start : start + part].astype(np.uint32) ^ (place * np.uint32(0x9E3779B1))
        mixed = (mixed ^ (mixed >> 16)) * np.uint32(0x85EBCA6B)
        mixed = (mixed ^ (mixed >> 13)) * np.uint32(0xC2B2AE35)
        total += int(np.sum(mixed ^ (mixed >> 16), dtype=np.uint64))
    return total % 2**32


def _words(x: jax.Array) -> jax.Array:
    """The bits of an array as unsigned words of 8, 16 or 32 bits, in the order of its elements."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint8)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag], axis=-1)
    word = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(x, word)


@jax.jit
def _leaf_sum(x: jax.Array) -> jax.Array:
    words = _words(x).astype(jnp.uint32)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    mixed = words ^ (place * jnp.uint32(0x9E3779B1))
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)
