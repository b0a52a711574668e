"""The mesh of devices, and how batches lie on it."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxpaint.parallel.layout import Layout
from jaxpaint.types import DATA, FSDP, SPATIAL, InputError, PyTree

AXES = (DATA, FSDP, SPATIAL)
BATCH = (DATA, FSDP)
"""The axes over which the examples of a batch are divided."""


def make_mesh(layout: Layout | None = None, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the axes ``data``, ``fsdp`` and ``spatial``.

    Args:
      layout: the sizes of the axes; by default all devices are on ``data``
      devices: what it is made of, by default those of all processes; may be a topology that is not here

    Raises:
      InputError: if there are fewer devices, some of several processes' devices would be left out, or a picture's
        height would be divided over several processes.
    """
    layout = layout or Layout()
    found = list(jax.devices() if devices is None else devices)
    inner = layout.fsdp * layout.spatial
    if layout.fsdp < 1 or layout.spatial < 1 or layout.data < 0:
        raise InputError(
            f"the mesh is data={layout.data}, fsdp={layout.fsdp}, spatial={layout.spatial}: expected 1 or more of each "
            "(data=0 takes the devices that the others leave)"
        )
    if not layout.data and len(found) % inner:
        raise InputError(
            f"the mesh's fsdp={layout.fsdp} x spatial={layout.spatial} = {inner} does not divide the "
            f"{len(found)} devices that JAX sees ({found[0].platform}): choose divisors, or set data"
        )
    shape = (layout.data or len(found) // inner, layout.fsdp, layout.spatial)
    size = math.prod(shape)
    if size > len(found):
        raise InputError(
            f"the mesh wants {_sizes(shape)} = {size} devices, but JAX sees {len(found)} ({found[0].platform})"
        )
    processes = len({device.process_index for device in found})
    if processes > 1:
        if size != len(found):
            raise InputError(
                f"the mesh wants {_sizes(shape)} = {size} of {len(found)} devices: with several processes take all of "
                "them (data=0)"
            )
        local = len(found) // processes
        if local % layout.spatial:
            raise InputError(
                f"spatial={layout.spatial} does not divide the {local} devices of a process: the parts of a picture "
                "stay within one process"
            )
    chosen = found[:size]
    slices = len({getattr(device, "slice_index", 0) for device in chosen})
    if slices > 1:
        # Only sums travel over `data`: it is the axis for the slow network between slices.
        if shape[0] % slices:
            raise InputError(f"data={shape[0]} does not divide over the {slices} slices that the devices are on")
        within = (shape[0] // slices, *shape[1:])
        grid = mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1), chosen, allow_split_physical_axes=True)
        return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=chosen)


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{axis}={n}" for axis, n in zip(AXES, shape, strict=True))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh, shape: Sequence[int], *, steps: bool = False) -> NamedSharding:
    """Examples divided over ``data`` and ``fsdp``; of pictures and clips (``… h w c``) the height over ``spatial``.

    Args:
      mesh: see `make_mesh`
      shape: of the global array
      steps: whether there is an axis of several steps before that of the examples

    Raises:
      InputError: if the height cannot be divided.
    """
    spec = [None] * steps + [BATCH] + [None] * (len(shape) - 1 - steps)
    if len(shape) - steps >= 4 and mesh.shape[SPATIAL] > 1:
        if shape[-3] % mesh.shape[SPATIAL]:
            raise InputError(
                f"pictures of {shape[-3]} rows do not divide over spatial={mesh.shape[SPATIAL]}: "
                f"use a multiple of {mesh.shape[SPATIAL]} rows"
            )
        spec[-3] = SPATIAL
    return NamedSharding(mesh, PartitionSpec(*spec))


def check_batch(batch: int, mesh: Mesh, accumulate: int = 1) -> int:
    """The examples of a global batch in each of its parts.

    Raises:
      InputError: if it cannot be divided, with the numbers.
    """
    if batch < 1 or accumulate < 1:
        raise InputError(f"a batch of {batch} in {accumulate} micro-batches: expected at least 1 of either")
    count = mesh.shape[DATA] * mesh.shape[FSDP]
    if batch % (count * accumulate):
        over = f"{count} parts (data={mesh.shape[DATA]} x fsdp={mesh.shape[FSDP]})"
        over += f" x {accumulate} micro-batches" if accumulate > 1 else ""
        raise InputError(
            f"the global batch is {batch}, which does not divide over {over}: use a multiple of {count * accumulate}"
        )
    return batch // count


def share(mesh: Mesh) -> tuple[int, int]:
    """(number, of how many): the contiguous part of every batch that this process's devices hold.

    Raises:
      InputError: if it is not contiguous.
    """
    count = mesh.shape[DATA] * mesh.shape[FSDP]
    mine = split(mesh, (count,)).addressable_devices_indices_map((count,)).values()
    rows = sorted({index.start or 0 for (index,) in mine})
    if not rows or rows != list(range(rows[0], rows[0] + len(rows))) or rows[0] % len(rows) or count % len(rows):
        raise InputError(
            f"this process's devices hold the parts {rows} of {count} of a batch: expected parts that follow each "
            "other; choose other axis sizes"
        )
    return rows[0] // len(rows), count // len(rows)


def place(batch: dict[str, np.ndarray], shardings: dict[str, NamedSharding], parts: int = 1) -> PyTree:
    """This process's share of a batch, one of `parts`, as global arrays."""

    def one(name: str, x: np.ndarray) -> jax.Array:
        axis = 1 if len(shardings[name].spec) > 1 and shardings[name].spec[0] is None else 0
        shape = list(x.shape)
        shape[axis] *= parts
        return jax.make_array_from_process_local_data(shardings[name], x, tuple(shape))

    return {name: one(name, x) for name, x in batch.items()}


@functools.cache
def _gather(sharding: NamedSharding) -> Callable[[PyTree], PyTree]:
    """Kept, for it is compiled: once for every tree."""
    return jax.jit(lambda tree: tree, out_shardings=sharding)


def gathered(tree: PyTree) -> PyTree:
    """Every leaf whole, on this process's first device; all processes must call it."""
    meshes = [x.sharding.mesh for x in jax.tree.leaves(tree) if not x.is_fully_replicated]
    if meshes:
        tree = _gather(replicated(meshes[0]))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), tree)
