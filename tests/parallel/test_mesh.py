"""Meshes, how batches and states lie on them, and errors with the numbers."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxpaint.parallel.compile import compile_step
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import check_batch, gathered, make_mesh, place, replicated, share, split
from jaxpaint.parallel.rules import shardings
from jaxpaint.run.compiles import Compiles
from jaxpaint.types import InputError


def test_mesh_sizes():
    assert make_mesh().shape == {"data": 8, "fsdp": 1, "spatial": 1}
    assert make_mesh(Layout(data=3)).size == 3
    assert make_mesh(Layout(fsdp=2, spatial=2)).shape == {"data": 2, "fsdp": 2, "spatial": 2}
    assert make_mesh(Layout(data=1), jax.devices()[5:]).devices.item() == jax.devices()[5]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(data=9), r"the mesh wants data=9 x fsdp=1 x spatial=1 = 9 devices, but JAX sees 8 \(cpu\)"),
        (Layout(data=4, fsdp=2, spatial=2), "data=4 x fsdp=2 x spatial=2 = 16 devices, but JAX sees 8"),
        (Layout(fsdp=3), "fsdp=3 x spatial=1 = 3 does not divide the 8 devices"),
        (Layout(data=-1), "the mesh is data=-1, fsdp=1, spatial=1: expected 1 or more"),
        (Layout(spatial=0), "spatial=0: expected 1 or more"),
    ],
)
def test_meshes_that_cannot_be(layout, message):
    with pytest.raises(InputError, match=message):
        make_mesh(layout)


def elsewhere(processes: int, each: int) -> list:
    """Devices of several processes, as far as the checks look at them."""
    return [
        types.SimpleNamespace(process_index=i // each, platform="tpu", id=i, slice_index=0)
        for i in range(processes * each)
    ]


def test_what_several_processes_cannot_do(monkeypatch):
    with pytest.raises(InputError, match=r"wants data=4 x fsdp=1 x spatial=1 = 4 of 8 devices: with several processes"):
        make_mesh(Layout(data=4), elsewhere(2, 4))
    with pytest.raises(InputError, match="spatial=8 does not divide the 4 devices of a process"):
        make_mesh(Layout(spatial=8), elsewhere(2, 4))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    shapes = {"image": jax.ShapeDtypeStruct((8, 4, 4, 3), jnp.uint8)}
    with pytest.raises(InputError, match="'pmap', which runs on one process, and there are 2"):
        compile_step(None, None, shapes, make_mesh(), "pmap")


def test_pmap_divides_batches_alone():
    shapes = {"image": jax.ShapeDtypeStruct((8, 4, 4, 3), jnp.uint8)}
    with pytest.raises(InputError, match=r"pmap', which divides nothing but batches, and the mesh is .*'fsdp': 2"):
        compile_step(None, None, shapes, make_mesh(Layout(fsdp=2)), "pmap")


def test_batches_must_divide():
    mesh = make_mesh(Layout(fsdp=2))
    assert check_batch(16, mesh) == 2
    with pytest.raises(
        InputError,
        match=r"batch is 12, which does not divide over 8 parts \(data=4 x fsdp=2\): use a multiple of 8",
    ):
        check_batch(12, mesh)
    with pytest.raises(InputError, match=r"x 2 micro-batches: use a multiple of 16"):
        check_batch(8, mesh, accumulate=2)
    for batch, accumulate in ((0, 1), (8, 0)):
        with pytest.raises(InputError, match=f"a batch of {batch} in {accumulate} micro-batches"):
            check_batch(batch, mesh, accumulate)


def test_splitting():
    mesh = make_mesh(Layout(data=2, spatial=4))
    batch = ("data", "fsdp")
    assert split(mesh, (8,)).spec == PartitionSpec(batch)
    assert split(mesh, (8, 16, 15, 3)).spec == PartitionSpec(batch, "spatial", None, None)
    assert split(mesh, (8, 5, 16, 15, 3)).spec == PartitionSpec(batch, None, "spatial", None, None)
    assert split(mesh, (2, 8, 16, 15, 3), steps=True).spec == PartitionSpec(None, batch, "spatial", None, None)
    assert split(mesh, (2, 8), steps=True).spec == PartitionSpec(None, batch)
    with pytest.raises(InputError, match="pictures of 18 rows do not divide over spatial=4: use a multiple of 4 rows"):
        split(mesh, (8, 18, 16, 3))


def test_placing():
    mesh = make_mesh(Layout(data=4))
    batch = {"image": np.arange(8, dtype=np.uint8)}
    placed = place(batch, {"image": split(mesh, (8,))})["image"]
    assert [shard.data.tolist() for shard in placed.addressable_shards] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    whole = place(batch, {"image": replicated(mesh)})["image"]
    assert all(shard.data.shape == (8,) for shard in whole.addressable_shards)
    assert share(mesh) == (0, 1)
    back = gathered(placed)
    assert back.devices() == {jax.devices()[0]}
    assert np.array_equal(back, batch["image"])
    with Compiles() as compiles:
        gathered(placed)
    assert compiles.count == 0  # the program is kept


STATE = {
    "params": {"a": {"kernel": jax.ShapeDtypeStruct((3, 3, 16, 32), jnp.float32)}},
    "opt": {
        "a": {
            "mu": {"kernel": jax.ShapeDtypeStruct((3, 3, 16, 32), jnp.float32)},
            "nu": {"bias": jax.ShapeDtypeStruct((32,), jnp.float32)},
            "odd": jax.ShapeDtypeStruct((33, 35), jnp.float32),
        }
    },
}


def specs(*rules) -> dict:
    return jax.tree.map(lambda s: s.spec, shardings(STATE, make_mesh(Layout(fsdp=4)), rules))


def test_optimiser_states_are_divided_by_default():
    """Along the largest dimension that divides; small leaves, and those that do not divide, are whole."""
    found = specs()
    assert found["params"]["a"]["kernel"] == PartitionSpec()
    assert found["opt"]["a"]["mu"]["kernel"] == PartitionSpec(None, None, None, "fsdp")
    assert found["opt"]["a"]["nu"]["bias"] == PartitionSpec()
    assert found["opt"]["a"]["odd"] == PartitionSpec()


def test_the_first_rule_that_matches_decides():
    found = specs(("opt/a/mu", ()), ("kernel$", (None, None, "fsdp", None)), ("opt/.*/kernel", "data"))
    assert found["params"]["a"]["kernel"] == PartitionSpec(None, None, "fsdp", None)
    assert found["opt"]["a"]["mu"]["kernel"] == PartitionSpec()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("kernel", "model"), r"names the axis 'model'; the axes are \('data', 'fsdp', 'spatial'\)"),
        (("(kernel", "fsdp"), "is no regular expression"),
        (("params/a/kernel", ("fsdp",)), "params/a/kernel, which is 3x3x16x32: the spec has 1 entries for 4"),
        (("params/a/kernel", ("fsdp", None, None, None)), "which is 3x3x16x32: 3 does not divide over fsdp=4"),
    ],
)
def test_rules_that_cannot_be(rule, message):
    with pytest.raises(InputError, match=message):
        specs(rule)
