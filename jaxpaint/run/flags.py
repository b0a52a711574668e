"""Flags that several commands share: a system with its weights; a clip with its masks, and its result.

Nothing heavy is imported before a command runs.
"""

import argparse
import pathlib
import sys
from fractions import Fraction
from typing import Any

from jaxpaint.ops.masks.check import CONVENTIONS
from jaxpaint.types import InputError

CHECKPOINT = "a run's folder, or a converted checkpoint"


def add_subject(
    parser: argparse.ArgumentParser, *, checkpoint: str = CHECKPOINT, published: bool = True, method: bool = False
) -> None:
    """Adds what names a system, of which one must be given, and how it computes.

    Args:
      parser: gets the flags; with ``--model.FIELD=VALUE`` (`jaxpaint.run.cli`) the arguments are those of `opened`.
      checkpoint: what the help says of ``--checkpoint``.
      published: whether there is ``--published``.
      method: whether there is ``--method``, for systems that need no weights.
    """
    one = parser.add_mutually_exclusive_group(required=True)
    if method:
        one.add_argument("--method", metavar="SYSTEM", help="one that needs no weights: iivi, or iivi:released")
    one.add_argument("--checkpoint", metavar="PATH", help=checkpoint)
    if published:
        one.add_argument("--published", nargs=2, metavar=("SYSTEM", "FILE"), help="a file that the authors published")
    parser.add_argument("--step", type=int, help="of the checkpoint; default: the newest")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of activations")


def opened(arguments: argparse.Namespace, **how: Any):
    """The `jaxpaint.run.inpainter.Inpainter` that the flags name; its notes go to stderr.

    Args:
      arguments: those of `add_subject`, and ``options``.
      how: it runs, for the constructor: spatial, devices.

    Raises:
      InputError: it cannot be had.
    """
    from jaxpaint.io.checkpoint_folder import CheckpointError
    from jaxpaint.run.inpainter import Inpainter

    if arguments.step is not None and not arguments.checkpoint:
        raise InputError(f"--step {arguments.step} chooses among the steps of a --checkpoint, and none was given")
    how = {"options": arguments.options, "precision": arguments.precision, **how}
    try:
        if arguments.checkpoint:
            inpainter = Inpainter.load(arguments.checkpoint, arguments.step, **how)
        elif arguments.published:
            inpainter = Inpainter.from_published(*arguments.published, **how)
        else:
            inpainter = Inpainter.from_method(arguments.method, **how)
    except CheckpointError as error:  # the machine's fault: as little to be done about it here
        raise InputError(str(error)) from error
    for note in inpainter.notes:
        print(f"note: {note}", file=sys.stderr)
    return inpainter


def add_source(parser: argparse.ArgumentParser) -> None:
    """The flags of a clip and its masks, for `jaxpaint.run.clip_command.source`."""
    parser.add_argument("clip", metavar="CLIP", type=pathlib.Path, help="a video file, or a folder of frames")
    parser.add_argument(
        "--masks",
        metavar="SOURCE",
        type=pathlib.Path,
        required=True,
        help="a folder of masks, a video file of masks, or a picture: one mask for all frames",
    )
    add_convention(parser)
    parser.add_argument(
        "--mask-dilate", metavar="N", type=int, default=0, help="grow the hole by N pixels to each side"
    )
    parser.add_argument(
        "--mask-widen",
        metavar="N",
        type=int,
        default=0,
        help="a frame's hole is also that of the N frames before and after it: against masks that flicker",
    )
    parser.add_argument(
        "--pairing",
        choices=("auto", "name", "order"),
        default="auto",
        help="of a folder's masks with frames: by name, in order, or (auto) by name where one has a frame's name",
    )
    parser.add_argument(
        "--rate",
        metavar="FPS",
        type=_rate,
        help="frames per second of a folder of frames, such as 25, 29.97 or 30000/1001; default 24",
    )


def add_convention(parser: argparse.ArgumentParser) -> None:
    """The flag of what marks the hole."""
    parser.add_argument("--mask-convention", choices=CONVENTIONS, default="hole-white", help="default: hole-white")


def add_result(parser: argparse.ArgumentParser) -> None:
    """The flags of a clip that is filled and written: where to, and how."""
    parser.add_argument(
        "--out",
        metavar="FILE_OR_FOLDER",
        type=pathlib.Path,
        required=True,
        help=".mp4, .mov, .mkv, or (no ending) a folder of PNG files",
    )
    parser.add_argument("--crf", metavar="N", type=int, default=17, help="of H.264: 0 (best) to 51; default 17")
    parser.add_argument("--lossless", action="store_true", help="FFV1 in .mkv: known pixels come back bit for bit")
    parser.add_argument("--no-audio", action="store_true", help="leave the sound out; by default it is copied")
    parser.add_argument(
        "--max-pixels",
        metavar="N",
        type=int,
        default=1024 * 1024,
        help="of systems that fill frame by frame: larger frames are cut into tiles; default 1048576, 0 = no limit",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of what a system draws; default 0")
    add_telling(parser)


def add_telling(parser: argparse.ArgumentParser) -> None:
    """What every command for clips ends its list of flags with."""
    parser.add_argument("--overwrite", action="store_true", help="replace a result that exists")
    parser.add_argument("--verbose", action="store_true", help="print every note of what is being done")


def seed(text: str) -> int:
    """What ``--seed`` takes, as the type of an argument: JAX draws by 32 bits of it."""
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 0 to {2**32 - 1}")
    return number


def _rate(text: str) -> Fraction:
    from jaxpaint.io.frames import as_rate

    try:
        return as_rate(Fraction(text) if "/" in text else float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    except ZeroDivisionError as error:
        raise argparse.ArgumentTypeError(f"{text} divides by zero") from error
