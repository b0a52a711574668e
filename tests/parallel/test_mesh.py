"""Meshes, and errors with the numbers."""

import jax
import numpy as np
import pytest

from jaxpaint.parallel.mesh import check_batch, data_mesh, place, replicated, split
from jaxpaint.types import InputError


def test_mesh_sizes():
    assert data_mesh().size == len(jax.devices()) == 8
    assert data_mesh(3).size == 3
    with pytest.raises(InputError, match=r"the mesh wants 9 devices, but JAX sees 8 \(cpu\)"):
        data_mesh(9)


def test_batches_must_divide():
    assert check_batch(16, 8) == 2
    with pytest.raises(
        InputError, match="global batch is 12, which does not divide over 8 devices: use a multiple of 8"
    ):
        check_batch(12, 8)
    with pytest.raises(InputError, match=r"8 devices x 2 micro-batches: use a multiple of 16"):
        check_batch(8, 8, accumulate=2)


def test_placing():
    mesh = data_mesh(4)
    batch = {"image": np.arange(8, dtype=np.uint8)}
    placed = place(batch, split(mesh))["image"]
    assert [shard.data.tolist() for shard in placed.addressable_shards] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    whole = place(batch, replicated(mesh))["image"]
    assert all(shard.data.shape == (8,) for shard in whole.addressable_shards)
