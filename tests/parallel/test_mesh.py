"""Meshes, and errors with the numbers."""

import jax
import numpy as np
import pytest

from jaxpaint.parallel.compile import compile_step
from jaxpaint.parallel.mesh import check_batch, data_mesh, place, replicated, split
from jaxpaint.types import InputError


def test_mesh_sizes():
    assert data_mesh().size == len(jax.devices()) == 8
    assert data_mesh(3).size == 3
    with pytest.raises(InputError, match=r"the mesh wants 9 devices, but JAX sees 8 \(cpu\)"):
        data_mesh(9)
    with pytest.raises(InputError, match="the mesh wants -1 devices"):
        data_mesh(-1)


def test_batches_must_divide():
    assert check_batch(16, 8) == 2
    with pytest.raises(
        InputError, match="global batch is 12, which does not divide over 8 devices: use a multiple of 8"
    ):
        check_batch(12, 8)
    with pytest.raises(InputError, match=r"8 devices x 2 micro-batches: use a multiple of 16"):
        check_batch(8, 8, accumulate=2)
    for batch, accumulate in ((0, 1), (8, 0)):
        with pytest.raises(InputError, match=f"a batch of {batch} in {accumulate} micro-batches"):
            check_batch(batch, 8, accumulate)


def test_what_several_processes_cannot_do(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match="the mesh wants 4 of 8 devices"):
        data_mesh(4)
    with pytest.raises(InputError, match="'pmap', which runs on one process, and there are 2"):
        compile_step(None, None, {}, data_mesh(), "pmap")


def test_placing():
    mesh = data_mesh(4)
    batch = {"image": np.arange(8, dtype=np.uint8)}
    placed = place(batch, split(mesh))["image"]
    assert [shard.data.tolist() for shard in placed.addressable_shards] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    whole = place(batch, replicated(mesh))["image"]
    assert all(shard.data.shape == (8,) for shard in whole.addressable_shards)
