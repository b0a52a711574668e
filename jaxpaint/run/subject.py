"""What an evaluation measures: a checkpoint, a published file, or a baseline without a network."""

import argparse
import dataclasses
import operator
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpaint.types import InputError

Inpaint = Callable[[list[np.ndarray], list[np.ndarray], list[int]], Sequence[np.ndarray]]
"""``(images, masks, positions) -> results``: uint8 h w 3, uint8 h w 1 (1 = hole), the numbers of the pictures
(by which a system that draws noise draws it); results uint8 h w 3 with the known pixels kept. Of clips t h w 3 and
t h w 1; a result may lack its first frames, and the known pixels are the system's business."""


class Subject(NamedTuple):
    """What is evaluated. `card` settles it for the protocol card, and its "notes" are sentences that belong under every
    table; `home` is the folder of its results; `devices` is how many devices share what `inpaint` is given at once."""

    inpaint: Inpaint
    card: dict[str, Any]
    home: pathlib.Path
    devices: int = 1


def mean_fill(images: list[np.ndarray], masks: list[np.ndarray], positions: list[int]) -> list[np.ndarray]:
    """The baseline: every hole takes the mean colour of the known pixels of the picture, or of the whole clip."""
    del positions
    filled = []
    for image, mask in zip(images, masks, strict=True):
        colour = np.rint(image[mask[..., 0] == 0].mean(axis=0)).astype(np.uint8)
        filled.append(np.where(mask > 0, colour, image))
    return filled


BASELINES: dict[str, Inpaint] = {"mean": mean_fill}


def subject(arguments: argparse.Namespace, batch: int, say: Callable[[str], None] = print) -> Subject:
    """The subject that the command line names: one of --checkpoint, --published, --method and --baseline.

    Args:
      arguments: see `jaxpaint.run.evaluate`
      batch: pictures at once on a device
      say: is told how far a clip is
    """
    if arguments.step is not None and not arguments.checkpoint:
        raise InputError(f"--step {arguments.step} chooses among the steps of a --checkpoint, and none was given")
    if arguments.baseline and arguments.options:
        raise InputError(f"--model.{next(iter(arguments.options))} sets a field of a model, and a baseline has none")
    if arguments.baseline:
        about = {"system": f"baseline {arguments.baseline}", "config": {}, "weights_hash": None, "step": None}
        about["notes"] = []
        if arguments.video:
            about["sees"] = "the known pixels of all frames"
        return Subject(BASELINES[arguments.baseline], about, pathlib.Path("evaluations"))
    from jaxpaint.run.inpainter import Inpainter

    how = {"options": arguments.options, "precision": arguments.precision}
    if arguments.published:
        system, file = arguments.published
        inpainter = Inpainter.from_published(system, file, **how)
        home = _home(pathlib.Path(file))
        source = f"published file {pathlib.Path(file).name}"
    elif arguments.method:
        inpainter = Inpainter.from_method(arguments.method, **how)
        home = pathlib.Path("evaluations")
        source = "none: it learns from each clip"
    else:
        inpainter = Inpainter.load(arguments.checkpoint, arguments.step, **how)
        home = _home(pathlib.Path(arguments.checkpoint))
        source = "checkpoint"
    about = {
        "system": inpainter.system_name,
        "config": dataclasses.asdict(inpainter.config),
        "source": source,
        "step": inpainter.step,
        "weights_hash": inpainter.weights_hash,
        "precision": arguments.precision,
        "seed": arguments.seed,
        "notes": list(inpainter.notes),
    }
    if arguments.options:
        about["changed"] = {name: operator.attrgetter(name)(inpainter.config) for name in arguments.options}

    # Without this, accelerators shorten the factors of float32 products, each in its own way.
    products = "highest" if arguments.precision == "float32" else "default"
    if arguments.video:
        about["sees"] = inpainter.sees
        return Subject(_clips(inpainter, arguments.seed, products, say), about, home)
    inpainter.check_pictures()
    return Subject(_pictures(inpainter, arguments.seed, products, batch), about, home, inpainter.filler.groups)


def _pictures(inpainter: Any, seed: int, products: str, batch: int) -> Inpaint:
    from jaxpaint.run.prepare import prepare

    def inpaint(images, masks, positions):
        jobs = [
            prepare(image, mask, position, name=f"picture {position}")
            for image, mask, position in zip(images, masks, positions, strict=True)
        ]
        with jax.default_matmul_precision(products):
            # Full batches: the last bits of a result do not depend on how many processes share the pictures.
            return inpainter.run(jobs, seed=seed, batch_size=batch, full=True)

    return inpaint


def _clips(inpainter: Any, seed: int, products: str, say: Callable[[str], None]) -> Inpaint:
    """Each clip as `Inpainter.stream` fills it, all with one seed: a clip's frames do not depend on its number."""
    from jaxpaint.io.frames import array_clip
    from jaxpaint.io.video_masks import open_masks

    def fill(frames: np.ndarray, masks: np.ndarray, position: int) -> np.ndarray:
        clip = array_clip(frames, name=f"clip {position}")
        given = inpainter.extent(clip)
        if (given.height, given.width) != (clip.height, clip.width):
            theirs, ours = (f"{of.height}x{of.width}" for of in (given, clip))
            raise InputError(
                f"the system gives frames of {theirs}, and clip {position} is evaluated at {ours}: results are not "
                f"resized; evaluate at the system's size (--size {theirs} --resize resize)"
            )
        if given.first >= clip.count:
            raise InputError(f"clip {position} has {clip.count} frames, and the system's protocol writes none of them")
        say(f"clip {position}: {clip.count} frames")
        with jax.default_matmul_precision(products):
            return np.stack(list(inpainter.stream(clip, open_masks(masks, clip), seed=seed, say=say)))

    def inpaint(clips, masks, positions):
        return [fill(*clip) for clip in zip(clips, masks, positions, strict=True)]

    return inpaint


def _home(path: pathlib.Path) -> pathlib.Path:
    """Where results go: into the run that a checkpoint belongs to, else beside the file or folder of weights."""
    if (path / "checkpoints").is_dir():
        return path / "evaluations"
    if path.name.isdecimal() and path.parent.name == "checkpoints":
        path = path.parent
    if path.name == "checkpoints":
        return path.parent / "evaluations"
    return path.parent / "evaluations" / path.name
