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
(by which a system that draws noise draws it); results uint8 h w 3 with the known pixels kept."""


class Subject(NamedTuple):
    """What is evaluated. `card` settles it for the protocol card, and its "notes" are sentences that belong under every
    table; `home` is the folder of its results; `devices` is how many devices share what `inpaint` is given at once."""

    inpaint: Inpaint
    card: dict[str, Any]
    home: pathlib.Path
    devices: int = 1


def mean_fill(images: list[np.ndarray], masks: list[np.ndarray], positions: list[int]) -> list[np.ndarray]:
    """The baseline: every hole takes the mean colour of the picture's known pixels."""
    del positions
    filled = []
    for image, mask in zip(images, masks, strict=True):
        colour = np.rint(image[mask[..., 0] == 0].mean(axis=0)).astype(np.uint8)
        filled.append(np.where(mask > 0, colour, image))
    return filled


BASELINES: dict[str, Inpaint] = {"mean": mean_fill}


def subject(arguments: argparse.Namespace, batch: int) -> Subject:
    """The subject that the command line names: one of --checkpoint, --published and --baseline.

    Args:
      arguments: see `jaxpaint.run.evaluate`
      batch: pictures at once on a device
    """
    if arguments.step is not None and not arguments.checkpoint:
        raise InputError(f"--step {arguments.step} chooses among the steps of a --checkpoint, and none was given")
    if arguments.baseline and arguments.options:
        raise InputError(f"--model.{next(iter(arguments.options))} sets a field of a model, and a baseline has none")
    if arguments.baseline:
        about = {"system": f"baseline {arguments.baseline}", "config": {}, "weights_hash": None, "step": None}
        about["notes"] = []
        return Subject(BASELINES[arguments.baseline], about, pathlib.Path("evaluations"))
    from jaxpaint.run.inpainter import Inpainter
    from jaxpaint.run.prepare import prepare

    if arguments.published:
        system, file = arguments.published
        inpainter = Inpainter.from_published(system, file, options=arguments.options, precision=arguments.precision)
        home = _home(pathlib.Path(file))
        source = f"published file {pathlib.Path(file).name}"
    else:
        how = {"options": arguments.options, "precision": arguments.precision}
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

    def inpaint(images, masks, positions):
        jobs = [
            prepare(image, mask, position, name=f"picture {position}")
            for image, mask, position in zip(images, masks, positions, strict=True)
        ]
        # Without this, accelerators shorten the factors of float32 products, each in its own way.
        with jax.default_matmul_precision("highest" if arguments.precision == "float32" else "default"):
            # Full batches: the last bits of a result do not depend on how many processes share the pictures.
            return inpainter.run(jobs, seed=arguments.seed, batch_size=batch, full=True)

    return Subject(inpaint, about, home, inpainter.filler.groups)


def _home(path: pathlib.Path) -> pathlib.Path:
    """Where results go: into the run that a checkpoint belongs to, else beside the file or folder of weights."""
    if (path / "checkpoints").is_dir():
        return path / "evaluations"
    if path.name.isdecimal() and path.parent.name == "checkpoints":
        path = path.parent
    if path.name == "checkpoints":
        return path.parent / "evaluations"
    return path.parent / "evaluations" / path.name
