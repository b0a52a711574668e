"""`Inpainter`: a system and its weights, ready to fill pictures of any size.

What happens to a call's pictures, all on the host but the network itself:

1. each is checked with its mask, and the mask is dilated where asked for;
2. a picture above ``max_pixels`` becomes tiles (`jaxpaint.ops.tiles`);
3. pictures are padded to the sides of `jaxpaint.ops.pad.bucket` and grouped, so that one compiled program serves
   many sizes; a short batch is filled up by repeating its last picture;
4. known pixels are pasted back, from the array that was given.

A result depends on the picture, its mask, the seed and its position, not on its company: noise is drawn by position.
"""

import dataclasses
import logging
import math
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError

from jaxpaint.ops import tiles
from jaxpaint.ops.pad import bucket, pad_to
from jaxpaint.ops.pixels import from_uint8, to_uint8
from jaxpaint.parallel.mesh import data_mesh, replicated, split
from jaxpaint.run.prepare import Job, prepare, shape_of
from jaxpaint.train.precision import compute_dtype
from jaxpaint.train.state import Weights
from jaxpaint.types import InputError, PyTree

log = logging.getLogger(__name__)


class Inpainter:
    """A system and its weights, ready to fill pictures.

    system_name:  its name in `jaxpaint.systems.SYSTEMS`
    config:       the dataclass of its numbers
    step:         the training step of the weights, None where they are published ones
    weights_hash: fingerprint of the checkpoint, or None
    devices:      over how many devices batches are spread
    compiles:     how many programs have been compiled so far
    """

    def __init__(
        self,
        system_name: str,
        config: Any,
        weights: Weights | Mapping[str, PyTree],
        *,
        step: int | None = None,
        weights_hash: str | None = None,
        precision: str = "auto",
        devices: int = 0,
    ):
        """Args:
        system_name: a key of SYSTEMS.
        config: the system's config dataclass, or a dict of (some of) its fields.
        weights: `Weights`, or a dict with its fields; NumPy or JAX arrays.
        precision: of activations: auto (bfloat16 on TPU and GPU), float32, bfloat16.
        devices: over how many of this machine's devices batches are spread; 0 = all.
        """
        from jaxpaint.systems import SYSTEMS

        if system_name not in SYSTEMS:
            raise InputError(f"there is no system {system_name!r}: there are {', '.join(sorted(SYSTEMS))}")
        page = SYSTEMS[system_name]
        self.system_name, self.config = system_name, _config(page.config, system_name, config)
        self.step, self.weights_hash = step, weights_hash
        self._system = page.build(self.config, dtype=compute_dtype(precision))
        self._weights = weights if isinstance(weights, Weights) else Weights(**weights)
        self.devices = devices or len(jax.local_devices())
        self._placed: dict[int, tuple] = {}
        self._programs: dict[tuple, Any] = {}

    @classmethod
    def load(
        cls, path: str | os.PathLike, step: int | None = None, *, precision: str = "auto", devices: int = 0
    ) -> "Inpainter":
        """From a checkpoint: of a run (by default the newest good step) or of converted weights."""
        from jaxpaint.io.weights import restore_weights
        from jaxpaint.run.config import from_dict

        loaded = restore_weights(path, step)
        try:
            model = from_dict({name: loaded.config.get(name) for name in ("system", "model")}).model
        except InputError as error:
            raise InputError(
                f"{loaded.path} is a checkpoint of another system or version of jaxpaint: {error}"
            ) from error
        about = {"step": loaded.step, "weights_hash": loaded.fingerprint}
        return cls(loaded.config["system"], model, loaded.weights, **about, precision=precision, devices=devices)

    @classmethod
    def from_published(
        cls, system_name: str, file: str | os.PathLike, *, precision: str = "auto", devices: int = 0, **options: Any
    ) -> "Inpainter":
        """From a file that a paper's authors published; `options` go to `jaxpaint.convert.convert`."""
        from jaxpaint.convert import convert
        from jaxpaint.io.fingerprint import digest, fingerprint

        weights, config, _ = convert(system_name, file, **options)
        name = digest(fingerprint(weights))  # that of the checkpoint that `jaxpaint convert` would write
        return cls(system_name, config, weights, weights_hash=name, precision=precision, devices=devices)

    @property
    def compiles(self) -> int:
        """How many programs have been compiled so far: one a bucket, batch size and type."""
        return len(self._programs)

    def inpaint(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        masks: np.ndarray | Sequence[np.ndarray],
        *,
        seed: int = 0,
        batch_size: int = 8,
        max_pixels: int | None = None,
        mask_dilate: int = 0,
        positions: Sequence[int] | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Fills the holes; known pixels come back bit for bit.

        Args:
          images: b h w 3, or one picture h w 3, or a list of pictures of any sizes; uint8, or float32 in [-1, 1].
            What lies in the hole is not looked at.
          masks: as the images, h w or h w 1 each; or a single one for all of them. 1 = hole: bool, {0, 1} or {0, 255}.
          seed: of the noise of systems that draw any.
          batch_size: pictures at once on a device, at most.
          max_pixels: pixels at once on a device, at most: a larger picture is cut into overlapped tiles, and of
            smaller ones fewer make a batch. None: every picture in one piece.
          mask_dilate: the hole grows by that many pixels to each side first.
          positions: of the pictures, for their noise; by default 0, 1, ...

        Returns:
          An array where an array was given, a list where a list was given; of the images' type.

        Raises:
          InputError: an image or a mask cannot be used; or the device lacks the memory. A mask without a hole is
            a warning.
        """
        several, lone = _pictures(images)
        paired = _masks(masks, len(several), lone)
        positions = range(len(several)) if positions is None else positions
        if len(positions) != len(several):
            raise InputError(f"{len(positions)} positions for {len(several)} pictures: give one for each, or none")
        jobs = [
            prepare(image, mask, position, mask_dilate=mask_dilate, name=f"picture {number}")
            for number, (image, mask, position) in enumerate(zip(several, paired, positions, strict=True))
        ]
        for number, job in enumerate(jobs):
            if not job.mask.any():
                warnings.warn(f"picture {number}: the mask has no hole; the picture comes back as it is", stacklevel=2)
        results = self.run(jobs, seed=seed, batch_size=batch_size, max_pixels=max_pixels)
        if lone:
            return results[0]
        if isinstance(images, np.ndarray | jax.Array):
            return np.stack(results) if results else np.array(images)
        return results

    def run(self, jobs: Sequence[Job], *, seed: int = 0, batch_size: int = 8, max_pixels: int | None = None):
        """`inpaint` for pictures that `prepare` has made ready; a list in their order."""
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: expected 1 or more")
        results: list[np.ndarray | None] = [None] * len(jobs)
        whole = []
        for number, job in enumerate(jobs):
            if not job.mask.any():
                results[number] = job.image.copy()
            elif max_pixels is not None and job.mask.size > max_pixels:
                results[number] = self._in_tiles(job, seed, batch_size, max_pixels)
            else:
                whole.append(number)
        filled = self._in_batches([jobs[number] for number in whole], seed, batch_size, max_pixels)
        for place, prediction in filled:
            job = jobs[whole[place]]
            results[whole[place]] = np.where(job.mask > 0, prediction, job.image)
        return results

    def _in_tiles(self, job: Job, seed: int, batch_size: int, max_pixels: int) -> np.ndarray:
        height, width = job.image.shape[:2]
        plan = tiles.plan(job.mask, max_pixels)
        log.info("%dx%d picture: %d tiles of %dx%d", height, width, len(plan), *(plan[0].height, plan[0].width))
        parts, guess = [], None
        for number, tile in enumerate(plan):
            image, mask = job.image[tile.window], job.mask[tile.window]
            if tiles.starved(mask):
                if guess is None:
                    guess = self._guess(job, seed, max_pixels)
                steer = tiles.context(tile, height, width) & (mask > 0)
                image = np.where(steer, _like(tiles.enlarge(*guess, tile), image), image)
                mask = np.where(steer, np.uint8(0), mask)
            # A tile's own noise: an odd multiplier spreads the numbers of tiles over all positions.
            parts.append(Job(image, mask, (job.position + 0x9E3779B1 * number) % 2**32))
        filled = self._in_batches(parts, seed, batch_size, max_pixels)
        blended = tiles.blend(((plan[place], prediction) for place, prediction in filled), height, width)
        return np.where(job.mask > 0, _like(blended, job.image), job.image)

    def _guess(self, job: Job, seed: int, max_pixels: int) -> tuple[np.ndarray, int]:
        """The picture filled at a reduced size, h/k w/k 3 float32 in the values of the image, and k."""
        image, mask, factor = tiles.reduce(job.image, job.mask, max_pixels)
        log.info("a tile sees next to nothing known: filling the picture at 1/%d of its size first", factor)
        if mask.any():
            small = Job(_like(image, job.image), mask, job.position)
            ((_, prediction),) = self._in_batches([small], seed, 1, None)
            image = np.where(mask > 0, prediction.astype(np.float32), image)
        return image, factor

    def _in_batches(
        self, jobs: Sequence[Job], seed: int, batch_size: int, max_pixels: int | None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the job, prediction h w 3) for each job, in no particular order."""
        groups: dict[tuple, list[int]] = {}
        for number, job in enumerate(jobs):
            height, width = job.image.shape[:2]
            groups.setdefault((bucket(height), bucket(width), job.image.dtype), []).append(number)
        running: deque[tuple[list[int], Any]] = deque()
        for (height, width, dtype), members in groups.items():
            most = batch_size if max_pixels is None else min(batch_size, max(1, max_pixels // (height * width)))
            size, spread = self._batch(len(members), most, (height, width, dtype))
            for start in range(0, len(members), size):
                chunk = members[start : start + size]
                running.append(
                    (chunk, self._start([jobs[n] for n in chunk], (height, width, dtype), size, spread, seed))
                )
                # The next batch is padded and sent while the device works on this one.
                if len(running) > 1:
                    yield from _finish(jobs, *running.popleft())
        while running:
            yield from _finish(jobs, *running.popleft())

    def _batch(self, count: int, most: int, shape: tuple) -> tuple[int, int]:
        """(batch size, devices). A size that is compiled already is preferred; a new one is a power of two."""
        spread = self.devices if count >= self.devices else 1
        ready = [b for (*known, b, n) in self._programs if tuple(known) == shape and n == spread and b <= most * spread]
        enough = [b for b in ready if b >= min(count, most * spread)]
        if enough:
            return min(enough), spread
        share = min(2 ** math.ceil(math.log2(math.ceil(count / spread))), 2 ** int(math.log2(most)))
        return share * spread, spread

    def _start(self, jobs: Sequence[Job], shape: tuple, size: int, spread: int, seed: int):
        """Sends one batch to the device; returns what will be its result."""
        height, width, _ = shape
        jobs = [*jobs, *[jobs[-1]] * (size - len(jobs))]
        batch = {
            "image": np.stack([pad_to(job.image, height, width) for job in jobs]),
            "mask": np.stack([pad_to(job.mask, height, width) for job in jobs]),
            "position": np.array([job.position for job in jobs], np.uint32),
        }
        weights, whole, shares = self._place(spread)
        batch = jax.device_put(batch, shares)
        rng = jax.device_put(jax.random.key(seed), whole)
        return self._program((*shape, size, spread), weights, batch, rng)(weights, batch, rng)

    def _place(self, spread: int) -> tuple:
        """The weights on that many devices, and the shardings of what is whole and of what is split there."""
        if spread not in self._placed:
            mesh = data_mesh(spread)
            whole = replicated(mesh)
            self._placed[spread] = (jax.device_put(self._weights, whole), whole, split(mesh))
        return self._placed[spread]

    def _program(self, key: tuple, weights: Weights, batch: PyTree, rng: jax.Array):
        """The compiled program of a shape; its memory is compared with the device's before it ever runs."""
        if key in self._programs:
            return self._programs[key]
        height, width, dtype, size, spread = key
        name = f"{size} x {height}x{width} {np.dtype(dtype).name}"
        advice = "give a smaller --max-pixels (max_pixels) or --batch (batch_size)"
        try:
            compiled = jax.jit(self._predict).lower(weights, batch, rng).compile()
        except FlaxError as error:
            raise InputError(
                f"the weights do not fit {self.system_name} with {self.config}: they are of another configuration, or "
                f"of another version of jaxpaint ({str(error).partition(' (https:')[0]})"
            ) from error
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error) or "Ran out of memory" in str(error):
                raise InputError(f"a batch of {name} does not fit into the device's memory: {advice}") from error
            raise
        plan = compiled.memory_analysis()
        need = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
        limit = _device_memory()
        log.info(
            "compiled %s on %d device(s): %.2f GiB each (weights, input %.2f, temporaries %.2f, output %.2f) of %s",
            name,
            spread,
            *(bytes_ / 2**30 for bytes_ in (need, plan.argument_size_in_bytes, plan.temp_size_in_bytes)),
            plan.output_size_in_bytes / 2**30,
            f"{limit / 2**30:.1f}" if limit else "an unknown amount",
        )
        if limit and need > limit:
            raise InputError(
                f"a batch of {name} needs {need / 2**30:.1f} GiB on a device, which has {limit / 2**30:.1f}: {advice}"
            )
        self._programs[key] = compiled
        return compiled

    def _predict(self, weights: Weights, batch: Mapping[str, jax.Array], rng: jax.Array):
        """(prediction in the type of the images, whether it is finite, b)."""
        image, mask = batch["image"], batch["mask"].astype(jnp.float32)
        bytes_ = image.dtype == jnp.uint8
        # What lies in the hole is unknown: no system gets to see it, and a NaN there does no harm.
        known = jnp.where(mask > 0.5, 0.0, from_uint8(image) if bytes_ else image)
        result = self._system.inpaint(weights, {**batch, "image": known, "mask": mask}, rng)
        finite = jnp.isfinite(result).all(axis=(1, 2, 3))
        return (to_uint8(result) if bytes_ else result.astype(jnp.float32)), finite


def _finish(jobs: Sequence[Job], chunk: list[int], pending: tuple) -> Iterator[tuple[int, np.ndarray]]:
    """Waits for a batch and cuts the padding off."""
    predictions, finite = jax.device_get(pending)
    for number, prediction, usable in zip(chunk, predictions, finite, strict=False):
        job = jobs[number]
        if not usable:
            raise InputError(
                f"the network's result for the picture at position {job.position} is not finite: "
                "the weights are broken, or precision is too low (try float32)"
            )
        yield number, prediction[: job.image.shape[0], : job.image.shape[1]]


def _pictures(images: Any) -> tuple[list, bool]:
    """(list of pictures, whether a lone one was given)."""
    if isinstance(images, np.ndarray | jax.Array):
        if images.ndim == 3:
            return [np.asarray(images)], True
        if images.ndim != 4:
            raise InputError(f"images are {shape_of(images)}: expected b h w 3, h w 3, or a list of h w 3")
    return [np.asarray(image) for image in _listed(images, "images")], False


def _masks(masks: Any, count: int, lone: bool) -> list:
    """One mask for each picture."""
    if isinstance(masks, np.ndarray | jax.Array):
        single = masks.ndim == 2 or (masks.ndim == 3 and (masks.shape[-1] == 1 or (lone and len(masks) > 1)))
        masks = [np.asarray(masks)] * count if single else list(np.asarray(masks))
    masks = _listed(masks, "masks")
    if len(masks) != count:
        raise InputError(f"{len(masks)} masks for {count} pictures: give one for each, or a single h w 1 for all")
    return masks


def _listed(values: Any, name: str) -> list:
    """A sequence of arrays as a list."""
    if isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
        raise InputError(
            f"{name} is a {type(values).__name__}: expected an array or a list of arrays: "
            "np.asarray(PIL.Image.open(path).convert('RGB'), or 'L' for a mask) makes one"
        )
    return list(values)


def _like(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Float values in the type of an image, rounded for uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8) if image.dtype == np.uint8 else values.astype(image.dtype)


def _config(kind: type, system_name: str, values: Any) -> Any:
    """A system's config from itself or from a dict of its fields."""
    if isinstance(values, Mapping):
        from jaxpaint.run.config import from_dict

        return from_dict({"system": system_name, "model": dict(values)}).model
    if not isinstance(values, kind) or not dataclasses.is_dataclass(values):
        raise InputError(f"config is a {type(values).__name__}: {system_name} takes a {kind.__qualname__} or a dict")
    return values


def _device_memory() -> int | None:
    """Bytes that a device may use; on a CPU, what the machine has."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return stats.get("bytes_limit")
