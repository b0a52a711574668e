"""`Inpainter`: a system and its weights, ready to fill pictures of any size and clips of any length.

What happens to a call's pictures, all on the host but the network itself:

1. each is checked with its mask, and the mask is dilated where asked for (`jaxpaint.run.prepare`);
2. a picture above ``max_pixels`` becomes tiles (`jaxpaint.ops.tiles`);
3. pictures and tiles are filled in batches (`jaxpaint.run.fill`);
4. known pixels are pasted back, from the array that was given.

A result depends on the picture, its mask, the seed and its position, not on its company: noise is drawn by position.

A clip goes to the system's own ``stream``; where it has none, frames are such pictures (`jaxpaint.run.fill_clip`).
"""

import dataclasses
import functools
import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np

from jaxpaint.ops import tiles
from jaxpaint.run.fill import Filled, Filler, explained, paste
from jaxpaint.run.prepare import Job, masks_for, pictures_in, prepare
from jaxpaint.train.precision import compute_dtype
from jaxpaint.train.state import Weights
from jaxpaint.train.system import Extent, Page, System
from jaxpaint.types import InputError, PyTree, did_you_mean

log = logging.getLogger(__name__)

MAX_PIXELS = 1024 * 1024
"""Of a picture, or of a frame that is filled alone, in one piece on a device."""


class Inpainter:
    """A system and its weights, ready to fill pictures and clips.

    system_name:  its name in `jaxpaint.systems.SYSTEMS`
    config:       the dataclass of its numbers
    step:         the training step of the weights, None where they are published ones
    weights_hash: fingerprint of the checkpoint, or None
    notes:        sentences that every report about the system repeats
    sees:         what a frame of a clip is filled from, for protocol cards
    filler:       what compiles and runs it: its ``devices``, ``spatial``, ``groups`` and ``programs``
    """

    def __init__(
        self,
        system_name: str,
        config: Any,
        weights: Weights | Mapping[str, PyTree] | None,
        *,
        step: int | None = None,
        weights_hash: str | None = None,
        precision: str = "auto",
        devices: int = 0,
        spatial: int = 1,
    ):
        """Args:
        system_name: a key of SYSTEMS.
        config: the system's config dataclass, or a dict of (some of) its fields.
        weights: `Weights`, or a dict with its fields; NumPy or JAX arrays. None: of a system that learns from the
            clip that it fills (`jaxpaint.train.Page.internal`), and nothing else.
        precision: of activations: auto (bfloat16 on TPU and GPU), float32, bfloat16.
        devices: over how many of this process's devices batches are spread; 0 = all.
        spatial: over how many of these the rows of each picture are split: for pictures too large for one.
        """
        page = self._page = _page(system_name)
        if weights is None and not page.internal:
            raise InputError(
                f"{system_name} fills with weights that were trained before: give a checkpoint (--checkpoint PATH) or "
                f"a published file (--published {system_name} FILE)"
            )
        self.system_name, self.config = system_name, _config(page.config, system_name, config)
        self.step, self.weights_hash = step, weights_hash
        self._system = system = page.build(self.config, dtype=compute_dtype(precision))
        self.notes, self.sees = system.notes, system.sees
        name = f"{system_name} with {self.config}"
        self.filler = Filler(system.inpaint, name=name, devices=devices, spatial=spatial)
        self._untrained = weights is None
        weights = _fixed(system) if weights is None else weights
        self._weights = self.filler.place(Weights(**weights) if isinstance(weights, Mapping) else weights)

    @classmethod
    def load(
        cls, path: str | os.PathLike, step: int | None = None, *, options: Mapping[str, Any] | None = None, **how: Any
    ) -> "Inpainter":
        """From a checkpoint: of a run (by default the newest good step) or of converted weights.

        `options` are fields of the system's config with other values than in training, {"iterations": 2}; `how` it runs
        (precision, devices, spatial) goes to the constructor.
        """
        from jaxpaint.io.weights import restore_weights
        from jaxpaint.run.config import model_of, override
        from jaxpaint.systems import SYSTEMS

        loaded = restore_weights(path, step)
        model = model_of(loaded.config, loaded.path)
        name, about = loaded.config["system"], {"step": loaded.step, "weights_hash": loaded.fingerprint}
        inpainter = cls(name, override(model, options or {}), loaded.weights, **about, **how)
        # What is to be known about the weights stays true whatever is set now.
        inpainter.notes = tuple(dict.fromkeys((*SYSTEMS[name].build(model).notes, *inpainter.notes)))
        return inpainter

    @classmethod
    def from_published(
        cls,
        system_name: str,
        file: str | os.PathLike,
        *,
        options: Mapping[str, Any] | None = None,
        precision: str = "auto",
        devices: int = 0,
        spatial: int = 1,
        **conversion: Any,
    ) -> "Inpainter":
        """From a file that a paper's authors published; `options` as in `load`, `conversion` goes to
        `jaxpaint.convert.convert`."""
        from jaxpaint.convert import convert
        from jaxpaint.io.fingerprint import digest, fingerprint
        from jaxpaint.run.config import from_dict, override

        weights, config, _ = convert(system_name, file, **conversion)
        model = override(from_dict({"system": system_name, "model": config}).model, options or {})
        name = digest(fingerprint(weights))  # that of the checkpoint that `jaxpaint convert` would write
        how = {"precision": precision, "devices": devices, "spatial": spatial}
        return cls(system_name, model, weights, weights_hash=name, **how)

    @classmethod
    def from_method(cls, system_name: str, *, options: Mapping[str, Any] | None = None, **how: Any) -> "Inpainter":
        """A system without weights: one that learns from the clip that it fills. `options` and `how` as in `load`.

        A name may be followed by that of a variant of its page (`jaxpaint.train.Page.variants`): "iivi:released".

        Raises:
          InputError: there is no such system or config, or it needs weights.
        """
        from jaxpaint.run.config import override

        system_name, _, variant = system_name.partition(":")
        return cls(system_name, override(_variant(system_name, variant), options or {}), None, **how)

    @property
    def fits(self) -> bool:
        """Whether it learns from the clip that it fills."""
        return self._page.internal

    @property
    def compiles(self) -> int:
        """How many programs have been compiled so far: one a bucket, batch size and type."""
        return len(self.filler.programs)

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
            smaller ones fewer make a batch. None: every picture in one piece. Devices that share a picture's rows
            (``spatial``) take as many times more.
          mask_dilate: the hole grows by that many pixels to each side first.
          positions: of the pictures, for their noise; by default 0, 1, ...

        Returns:
          An array where an array was given, a list where a list was given; of the images' type.

        Raises:
          InputError: an image or a mask cannot be used; or the device lacks the memory. A mask without a hole is
            a warning.
        """
        self.check_pictures()
        several, lone = pictures_in(images)
        paired = masks_for(masks, len(several), lone)
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

    def check_pictures(self) -> None:
        """Raises InputError where this system, as it is, fills clips alone."""
        why = f"{self.system_name} fills a clip from all of its frames" if self._page.video else ""
        if self._untrained:
            why = f"{self.system_name} learns from the clip that it fills, and no weights were given"
        if why:
            raise InputError(f"{why}: fill clips with it (`jaxpaint inpaint-video`, `Inpainter.stream`), not pictures")

    def extent(self, clip: Any) -> Extent:
        """Which frames of a `jaxpaint.io.frames.Clip` `stream` gives, and their size: all and its own, but where a
        system's protocol has it otherwise."""
        return self._system.extent(clip) if self._system.extent else Extent(0, clip.height, clip.width)

    def stream(
        self,
        clip: Any,
        masks: Any,
        *,
        seed: int = 0,
        say: Callable[[str], None] = log.info,
        max_pixels: int | None = MAX_PIXELS,
    ) -> Iterator[np.ndarray]:
        """Fills a clip of any length; memory does not grow with it.

        Args:
          clip: a `jaxpaint.io.frames.Clip`, or what `jaxpaint.io.video.open_clip` takes.
          masks: its masks as such a clip, or what `jaxpaint.io.video_masks.open_masks` takes.
          seed: of whatever the system draws.
          say: tells a waiting user how far it is.
          max_pixels: as in `inpaint`, where frames are filled one by one.

        Returns:
          An iterator of the filled frames, uint8 h w 3, in order. Of a system that learns from the clip, its end
          brings the `Weights` that were fitted (``StopIteration.value``), with which another Inpainter starts warm.

        Raises:
          InputError: at once, where clip and masks cannot be used; while it runs, where the device lacks the memory, a
            frame is broken, or the weights are of another configuration.
        """
        from jaxpaint.io.frames import Clip, read_ahead
        from jaxpaint.io.video import open_clip
        from jaxpaint.io.video_masks import open_masks
        from jaxpaint.run import fill_clip

        clip = open_clip(clip)
        masks = masks if isinstance(masks, Clip) else open_masks(masks, clip)
        fill_clip.check(clip, masks)
        clip, masks = read_ahead(clip), read_ahead(masks)
        if self._system.stream is not None:
            advice = "give a smaller --model.base (0 is the clip's own size), --model.batch or --model.max_pixels"
            advice = advice if self.fits else "give a smaller clip"
            what = f"{clip.name}, {clip.height}x{clip.width},"
            errors = functools.partial(explained, self.filler.name, what, advice)
            with errors():
                frames = self._system.stream(self._weights(1), clip, masks, jax.random.key(seed), say)
            return _within(errors, frames)
        fill_clip.check_each(clip, masks)
        return fill_clip.frame_by_frame(self.run, self.filler, clip, masks, seed=seed, max_pixels=max_pixels)

    def run(
        self,
        jobs: Sequence[Job],
        *,
        seed: int = 0,
        batch_size: int = 8,
        max_pixels: int | None = None,
        full: bool = False,
    ) -> list[np.ndarray]:
        """`inpaint` for pictures that `prepare` has made ready; a list in their order. `full`: see `Filler.fill`."""
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: expected 1 or more")
        if max_pixels is not None:
            max_pixels *= self.filler.spatial  # a picture's rows lie on that many devices
        results: list[np.ndarray | None] = [None] * len(jobs)
        pieces = []
        for number, job in enumerate(jobs):
            if not job.mask.any():
                results[number] = job.image.copy()
            elif max_pixels is not None and job.mask.size > max_pixels:
                results[number] = self._in_tiles(job, seed, batch_size, max_pixels)
            else:
                pieces.append(number)
        chosen = [jobs[number] for number in pieces]
        filled = self._fill(chosen, seed, batch_size=batch_size, max_pixels=max_pixels, full=full)
        for number, result in zip(pieces, paste(chosen, filled), strict=True):
            results[number] = result
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
        filled = self._fill(parts, seed, batch_size=batch_size, max_pixels=max_pixels)
        blended = tiles.blend(((plan[number], prediction) for number, prediction, _ in filled), height, width)
        return np.where(job.mask > 0, _like(blended, job.image), job.image)

    def _guess(self, job: Job, seed: int, max_pixels: int) -> tuple[np.ndarray, int]:
        """The picture filled at a reduced size, h/k w/k 3 float32 in the values of the image, and k."""
        image, mask, factor = tiles.reduce(job.image, job.mask, max_pixels)
        log.info("a tile sees next to nothing known: filling the picture at 1/%d of its size first", factor)
        if mask.any():
            small = Job(_like(image, job.image), mask, job.position)
            ((_, prediction, _),) = self._fill([small], seed, batch_size=1)
            image = np.where(mask > 0, prediction.astype(np.float32), image)
        return image, factor

    def _fill(self, jobs: Sequence[Job], seed: int, **how: Any) -> Iterator[Filled]:
        """`Filler.fill` with our weights; a result that is not finite is an error."""
        for filled in self.filler.fill(self._weights, jobs, jax.random.key(seed), **how):
            if not filled.finite:
                raise InputError(
                    f"the network's result for the picture at position {jobs[filled.number].position} is not finite: "
                    "the weights are broken, precision is too low (try float32), or next to nothing of it is known "
                    "(some systems look for whole patches outside the hole)"
                )
            yield filled


def _within(context: Callable[[], AbstractContextManager], frames: Iterator) -> Generator:
    """An iterator whose every step, and its end, is inside of a context."""
    with context():
        return (yield from frames)


def _like(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Float values in the type of an image, rounded for uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8) if image.dtype == np.uint8 else values.astype(image.dtype)


def _page(system_name: str) -> Page:
    """The page of a system."""
    from jaxpaint.systems import SYSTEMS

    if system_name not in SYSTEMS:
        raise InputError(f"there is no system {system_name!r}: there are {', '.join(sorted(SYSTEMS))}")
    return SYSTEMS[system_name]


def _fixed(system: System) -> Weights:
    """The weights of a system that learns from the clip: of its networks with published ones alone, mostly none."""
    if not any(network.published for network in system.networks.values()):
        return Weights(params={})
    from jaxpaint.run.start import published_weights

    params = {name: variables["params"] for name, variables in published_weights(system).items()}
    return Weights(params=params)


def _variant(system_name: str, variant: str) -> Any:
    """A config that a system's page has under a name of its own; without a name, the usual one."""
    page = _page(system_name)
    if not variant:
        return page.config()
    if variant not in page.variants:
        there = f"it has {', '.join(sorted(page.variants))}" if page.variants else "it has none"
        raise InputError(f"{system_name} has no config {variant!r}: {there}{did_you_mean(variant, page.variants)}")
    return page.variants[variant]


def _config(kind: type, system_name: str, values: Any) -> Any:
    """A system's config from itself or from a dict of its fields."""
    if isinstance(values, Mapping):
        from jaxpaint.run.config import from_dict

        return from_dict({"system": system_name, "model": dict(values)}).model
    if not isinstance(values, kind) or not dataclasses.is_dataclass(values):
        raise InputError(f"config is a {type(values).__name__}: {system_name} takes a {kind.__qualname__} or a dict")
    return values
