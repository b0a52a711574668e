"""Fingerprints against a plain NumPy implementation, under shardings, and against every kind of damage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.io.fingerprint import digest, fingerprint
from jaxpaint.types import leaf_name


def numpy_sum(x: np.ndarray) -> int:
    """The definition, one word at a time, in Python integers."""
    word = f"u{min(x.dtype.itemsize, 4)}"
    total = 0
    for place, value in enumerate(np.frombuffer(x.tobytes(), word).tolist()):
        mixed = value ^ (place * 0x9E3779B1 % 2**32)
        mixed = (mixed ^ (mixed >> 16)) * 0x85EBCA6B % 2**32
        mixed = (mixed ^ (mixed >> 13)) * 0xC2B2AE35 % 2**32
        total += mixed ^ (mixed >> 16)
    return total % 2**32


def arrays():
    random = np.random.default_rng(0)
    values = random.standard_normal((3, 5, 7))
    types = (
        "float32",
        "float16",
        "int32",
        "uint8",
        "int8",
        "bool",
        "complex64",
        "float64",
        "int64",
        jnp.bfloat16,
    )
    return {str(np.dtype(t)): (values * 9).astype(t) for t in types} | {"scalar": np.float32(2.5)}


def test_equals_the_definition():
    tree = {name: np.asarray(x) for name, x in arrays().items()}
    expected = {name: numpy_sum(x) for name, x in tree.items()}
    assert {name: leaf.sum for name, leaf in fingerprint(tree).items()} == expected
    long = np.arange(2**20 + 5).astype(np.uint16)  # more than one part
    assert fingerprint({"x": long}) == fingerprint({"x": jnp.asarray(long)})
    narrow = {n: jnp.asarray(x) for n, x in tree.items() if n not in ("float64", "int64")}
    assert {name: leaf.sum for name, leaf in fingerprint(narrow).items()} == {n: expected[n] for n in narrow}


def test_keys_count_as_their_data():
    key = jax.random.key(5)
    leaf = fingerprint({"rng": key})["rng"]
    assert (leaf.shape, leaf.dtype) == ((), "key<fry>")
    assert leaf.sum == numpy_sum(np.asarray(jax.random.key_data(key)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8"])
def test_every_flipped_bit_changes_it(dtype):
    x = np.arange(6).astype(jnp.dtype(dtype))
    before = fingerprint({"x": x})["x"].sum
    for byte in range(x.nbytes):
        for bit in range(8):
            raw = bytearray(x.tobytes())
            raw[byte] ^= 1 << bit
            assert fingerprint({"x": np.frombuffer(bytes(raw), x.dtype)})["x"].sum != before


def test_order_within_the_array_counts():
    x = np.arange(100, dtype=np.float32)
    swapped = x.copy()
    swapped[[3, 70]] = x[[70, 3]]
    sums = {fingerprint({"x": v})["x"].sum for v in (x, swapped, x[::-1].copy())}
    assert len(sums) == 3


def test_digest_depends_on_names_shapes_and_contents():
    x = np.arange(6, dtype=np.float32)
    trees = ({"a": x}, {"b": x}, {"a": x.reshape(2, 3)}, {"a": x + 1}, {"a": x, "b": x})
    assert len({digest(fingerprint(tree)) for tree in trees}) == len(trees)
    assert digest(fingerprint({"a": jnp.asarray(x)})) == digest(fingerprint({"a": x}))


def test_names_do_not_depend_on_the_container():
    from typing import NamedTuple

    class Pair(NamedTuple):
        mu: int
        nu: int

    def names(tree):
        return [leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]

    assert names({"opt": (Pair(1, 2), [3])}) == ["opt/0/mu", "opt/0/nu", "opt/1/0"]
    assert names({"opt": {"0": {"mu": 1, "nu": 2}, "1": [3]}}) == ["opt/0/mu", "opt/0/nu", "opt/1/0"]
