"""`Filler`: a system compiled for the shapes that it meets. Every picture that is filled passes through here.

Pictures are padded to the sides of `jaxpaint.ops.pad.bucket` and grouped, so that one compiled program serves many
sizes; a short batch is filled up by repeating its last picture; batches are spread over this process's devices, and
so are, where ``spatial`` says so, the rows of each picture. Weights are given at each call: those of a file, or those
that a run has at the moment.
"""

import contextlib
import functools
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError
from jax.sharding import Mesh

from jaxpaint.ops.pad import bucket, pad_to, round_up
from jaxpaint.ops.pixels import from_uint8, to_uint8, without_hole
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh, replicated, split
from jaxpaint.run.prepare import Job
from jaxpaint.train.state import Weights
from jaxpaint.types import InputError, PyTree

log = logging.getLogger(__name__)

ROWS = 8
"""Over how many rows of a picture at least a device presides: networks look at the picture at 1/8 of its height."""

Placed = Callable[[int], Weights]
"""How many groups of devices share a batch -> weights on those devices."""


class Filled(NamedTuple):
    """What the network makes of one picture.

    number:     of the job, in the order given
    prediction: h w 3 in the type of the picture; the holes count, known pixels are pasted back by `paste`
    finite:     whether the network's floats were; what is not a number is black in uint8
    """

    number: int
    prediction: np.ndarray
    finite: bool


class Filler:
    """A system's `inpaint`, compiled for the shapes that it meets.

    devices:  over how many of this process's devices batches and pictures are spread
    spatial:  over how many of them the rows of one picture are split
    groups:   over how many sets of devices a batch is spread: devices // spatial
    programs: what has been compiled so far, by (height, width, type, batch size, groups)
    name:     what an error calls the system
    """

    def __init__(self, inpaint: Callable, *, name: str = "the system", devices: int = 0, spatial: int = 1):
        """Args:
        inpaint: as in `jaxpaint.train.System`
        name, devices, spatial: as above; devices 0 = all

        Raises:
          InputError: there are fewer devices.
        """
        found = len(jax.local_devices())
        self.devices, self.spatial = devices or found, spatial
        if not (1 <= spatial <= self.devices <= found):
            raise InputError(
                f"devices is {self.devices} and spatial (over how many of them a picture's rows are split) is "
                f"{spatial}, and this process has {found} ({jax.local_devices()[0].platform}): expected "
                "1 <= spatial <= devices <= what there are"
            )
        self.groups = self.devices // spatial
        self._inpaint, self.name = inpaint, name
        self._mesh = functools.cache(self._make_mesh)  # every batch asks for one
        self.programs: dict[tuple, Any] = {}

    def place(self, weights: Weights) -> Placed:
        """Weights ready for `fill`, copied to devices as they are needed there. They stay as long as this is kept."""

        @functools.cache
        def on(groups: int) -> Weights:
            return jax.device_put(weights, replicated(self._mesh(groups)))

        return on

    def fill(
        self,
        weights: Placed,
        jobs: Sequence[Job],
        rng: jax.Array,
        *,
        batch_size: int = 8,
        max_pixels: int | None = None,
        full: bool = False,
    ) -> Iterator[Filled]:
        """The network's predictions for prepared pictures, in no particular order.

        Args:
          weights: see `place`
          jobs: see `jaxpaint.run.prepare`; of any sizes
          rng: a key; noise is drawn by it and the positions of the jobs
          batch_size: pictures at once on a device (or on the devices that share a picture), at most
          max_pixels: pixels at once on a device (or on those that share a picture), at most: of large pictures fewer
            make a batch
          full: batches are always of `batch_size`, filled up. A result's last bits may depend on the shape of its
            batch; so they depend neither on how many pictures there are, nor on how many devices or processes
        """
        grouped: dict[tuple, list[int]] = {}
        for number, job in enumerate(jobs):
            height, width = job.image.shape[:2]
            height = round_up(bucket(height), ROWS * self.spatial)
            grouped.setdefault((height, bucket(width), job.image.dtype), []).append(number)
        running: deque[tuple[list[int], Any]] = deque()
        for shape, members in grouped.items():
            most = batch_size if max_pixels is None else min(batch_size, max(1, max_pixels // (shape[0] * shape[1])))
            size, groups = (most * self.groups, self.groups) if full else self._batch(len(members), most, shape)
            for start in range(0, len(members), size):
                chunk = members[start : start + size]
                running.append((chunk, self._start(weights, [jobs[n] for n in chunk], shape, size, groups, rng)))
                # The next batch is padded and sent while the device works on this one.
                if len(running) > 1:
                    yield from _finish(jobs, *running.popleft())
        while running:
            yield from _finish(jobs, *running.popleft())

    def _batch(self, count: int, most: int, shape: tuple) -> tuple[int, int]:
        """(batch size, groups). A size that is compiled already is preferred; a new one is a power of two."""
        groups = self.groups if count >= self.groups else 1
        ready = [b for (*known, b, n) in self.programs if tuple(known) == shape and n == groups and b <= most * groups]
        enough = [b for b in ready if b >= min(count, most * groups)]
        if enough:
            return min(enough), groups
        share = min(2 ** math.ceil(math.log2(math.ceil(count / groups))), 2 ** int(math.log2(most)))
        return share * groups, groups

    def _start(self, weights: Placed, jobs: Sequence[Job], shape: tuple, size: int, groups: int, rng: jax.Array):
        """Sends one batch to the devices; returns what will be its result."""
        height, width, _ = shape
        jobs = [*jobs, *[jobs[-1]] * (size - len(jobs))]
        batch = {
            "image": np.stack([pad_to(job.image, height, width) for job in jobs]),
            "mask": np.stack([pad_to(job.mask, height, width) for job in jobs]),
            "position": np.array([job.position for job in jobs], np.uint32),
        }
        mesh = self._mesh(groups)
        batch = jax.device_put(batch, {name: split(mesh, x.shape) for name, x in batch.items()})
        arguments = weights(groups), batch, jax.device_put(rng, replicated(mesh))
        return self._program((*shape, size, groups), arguments, mesh)(*arguments)

    def _make_mesh(self, groups: int) -> Mesh:
        """This process's first devices, a row for each group."""
        return make_mesh(Layout(data=groups, spatial=self.spatial), jax.local_devices())

    def _program(self, key: tuple, arguments: tuple[Weights, PyTree, jax.Array], mesh: Mesh):
        """The compiled program of a shape; its memory is compared with the device's before it ever runs."""
        if key in self.programs:
            return self.programs[key]
        height, width, dtype, size, _ = key
        name = f"{size} x {height}x{width} {np.dtype(dtype).name}"
        advice = "give a smaller --max-pixels (max_pixels) or --batch (batch_size)"
        if self.spatial < len(jax.local_devices()):
            advice += ", or split the picture over more devices with --spatial (spatial)"
        _, batch, _ = arguments
        results = split(mesh, batch["image"].shape), split(mesh, (size,))
        jitted = jax.jit(self._predict, out_shardings=results)
        # Networks divide what they compute over the mesh: see `jaxpaint.ops.placement`.
        with explained(self.name, f"a batch of {name}", advice), jax.set_mesh(mesh):
            compiled = jitted.lower(*arguments).compile()
        plan = compiled.memory_analysis()
        need = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
        limit = device_memory()
        log.info(
            "compiled %s on %d device(s): %.2f GiB each (weights, input %.2f, temporaries %.2f, output %.2f) of %s",
            name,
            mesh.size,
            *(bytes_ / 2**30 for bytes_ in (need, plan.argument_size_in_bytes, plan.temp_size_in_bytes)),
            plan.output_size_in_bytes / 2**30,
            f"{limit / 2**30:.1f}" if limit else "an unknown amount",
        )
        if limit and need > limit:
            raise InputError(
                f"a batch of {name} needs {need / 2**30:.1f} GiB on a device, which has {limit / 2**30:.1f}: {advice}"
            )
        self.programs[key] = compiled
        return compiled

    def _predict(self, weights: Weights, batch: PyTree, rng: jax.Array):
        """(predictions in the type of the images, whether each is finite)."""
        image, mask = batch["image"], batch["mask"].astype(jnp.float32)
        bytes_ = image.dtype == jnp.uint8
        # What lies in the hole is unknown: no system gets to see it, and a NaN there does no harm.
        known = without_hole(from_uint8(image) if bytes_ else image, mask)
        result = self._inpaint(weights, {**batch, "image": known, "mask": mask}, rng)
        finite = jnp.isfinite(result).all(axis=(1, 2, 3))
        return (to_uint8(jnp.nan_to_num(result, nan=-1.0)) if bytes_ else result.astype(jnp.float32)), finite


@contextlib.contextmanager
def explained(name: str, what: str, advice: str) -> Iterator[None]:
    """Errors inside that a user can do something about become InputErrors; all others pass.

    Args:
      name: of the system whose weights may be of another configuration
      what: may not fit into the device's memory
      advice: what to do then

    Raises:
      InputError: Flax found weights of other shapes or names than the networks have; or the device lacks the memory.
    """
    try:
        yield
    except FlaxError as error:
        raise InputError(
            f"the weights do not fit {name}: they are of another configuration, or "
            f"of another version of jaxpaint ({str(error).partition(' (https:')[0]})"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) or "Ran out of memory" in str(error):
            raise InputError(f"{what} does not fit into the device's memory: {advice}") from error
        raise


def paste(jobs: Sequence[Job], filled: Iterable[Filled]) -> list[np.ndarray]:
    """The pictures with their holes filled, in the order of the jobs; known pixels bit for bit."""
    results: list[Any] = [None] * len(jobs)
    for number, prediction, _ in filled:
        results[number] = np.where(jobs[number].mask > 0, prediction, jobs[number].image)
    return results


def device_memory() -> int | None:
    """Bytes that a device may use; on a CPU, what the machine has."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return stats.get("bytes_limit")


def _finish(jobs: Sequence[Job], chunk: list[int], pending: tuple) -> Iterator[Filled]:
    """Waits for a batch and cuts the padding off."""
    predictions, finite = jax.device_get(pending)
    for number, prediction, usable in zip(chunk, predictions, finite, strict=False):
        height, width = jobs[number].image.shape[:2]
        yield Filled(number, prediction[:height, :width], bool(usable))
