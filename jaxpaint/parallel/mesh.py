"""The mesh of devices, and how arrays lie on it."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxpaint.types import InputError, PyTree

DATA = "data"
"""The mesh axis over which a batch is split."""


def data_mesh(devices: int = 0) -> Mesh:
    """A mesh of the axis ``data`` over the first `devices` devices of all hosts; 0 takes all.

    Raises:
      InputError: if there are fewer devices, or some of several processes' devices would be left out.
    """
    found = jax.devices()
    if not 0 <= devices <= len(found):
        raise InputError(f"the mesh wants {devices} devices, but JAX sees {len(found)} ({found[0].platform})")
    if jax.process_count() > 1 and devices not in (0, len(found)):
        raise InputError(
            f"the mesh wants {devices} of {len(found)} devices: with several processes take all of them (0)"
        )
    chosen = found[: devices or len(found)]
    return jax.make_mesh((len(chosen),), (DATA,), axis_types=(AxisType.Auto,), devices=chosen)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The first axis split over the mesh."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def check_batch(batch: int, devices: int, accumulate: int = 1) -> int:
    """The examples per device of a global batch.

    Raises:
      InputError: if it cannot be divided, with the numbers.
    """
    if batch < 1 or accumulate < 1:
        raise InputError(f"a batch of {batch} in {accumulate} micro-batches: expected at least 1 of either")
    if batch % (devices * accumulate):
        parts = f"{devices} devices" + (f" x {accumulate} micro-batches" if accumulate > 1 else "")
        raise InputError(
            f"the global batch is {batch}, which does not divide over {parts}: use a multiple of {devices * accumulate}"
        )
    return batch // devices


def place(batch: dict[str, np.ndarray], sharding: NamedSharding) -> PyTree:
    """This process's share of a batch, as global arrays with the sharding."""
    return {name: jax.make_array_from_process_local_data(sharding, x) for name, x in batch.items()}
