"""``jaxpaint inpaint-video``: the holes of a clip, in a stream: memory does not grow with its length.

Everything that can be refused is refused before work starts: masks are all looked at, the result is begun.
"""

import argparse
import collections
import inspect
import os
import pathlib
import sys
from collections.abc import Iterator

import numpy as np

from jaxpaint.run.console import plain
from jaxpaint.run.flags import add_result, add_source, add_subject, opened
from jaxpaint.types import InputError

EPILOG = """--method iivi needs no weights: a network is fitted to the clip, which takes minutes. --save-weights DIR
keeps it, and --checkpoint DIR begins with it: for the same clip, or for one of the same scene.

a clip keeps its size, rate, number of frames and sound. masks may be hole all over in some frames where the system
looks at other frames, and a frame without a hole comes back as it is.

--model.FIELD=VALUE sets a field of the system's config that the weights do not depend on (see its page).

exit status: 0 done, 2 bad input."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``jaxpaint inpaint-video``."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EPILOG
    add_source(parser)
    add_subject(parser, method=True)
    add_result(parser)
    parser.add_argument(
        "--save-weights",
        metavar="DIR",
        type=pathlib.Path,
        help="write the network that was fitted to the clip as a checkpoint",
    )


def main(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit status.

    Raises:
      InputError: nothing could be done.
    """
    from jaxpaint.run.cache import use_cache
    from jaxpaint.run.clip_command import Progress, check_result, source, tell_of, written

    use_cache()
    with plain(arguments.verbose):
        clip, _, holes = source(arguments)
        inpainter = opened(arguments)
        given = inpainter.extent(clip)
        check_result(arguments.out, clip, (arguments.clip, arguments.masks), arguments.overwrite, given.first)
        _check_weights(arguments, inpainter)
        tell_of(clip, holes, given, arguments.out, arguments.lossless)
        fitted = None

        def filled() -> Iterator[np.ndarray]:
            nonlocal fitted
            limit = arguments.max_pixels or None
            fitted = yield from inpainter.stream(clip, holes, seed=arguments.seed, say=progress.say, max_pixels=limit)

        how = {"audio": not arguments.no_audio, "crf": arguments.crf, "lossless": arguments.lossless}
        how |= {"size": (given.height, given.width), "first": given.first}
        count, frames = clip.count - given.first, filled()
        try:
            with Progress(count, arguments.verbose) as progress, written(arguments.out, clip, **how) as put:
                for frame in frames:
                    put(frame)
                    progress.step()
            print(progress.result(arguments.out))
        except InputError:
            # A full disk, say. The network was fitted all the same, and comes behind the last frame.
            if arguments.save_weights and inspect.getgeneratorstate(frames) == inspect.GEN_SUSPENDED:
                print("note: nothing more is written; --save-weights waits for the last frame", file=sys.stderr)
                collections.deque(frames, maxlen=0)
            raise
        finally:
            if arguments.save_weights and fitted is not None:
                print(f"{arguments.save_weights}: weights {_save(arguments.save_weights, fitted, inpainter)}")
    return 0


def _check_weights(arguments: argparse.Namespace, inpainter) -> None:
    """Refuses ``--save-weights`` where there will be none, or no place for them."""
    path = arguments.save_weights
    if path is None:
        return
    if not inpainter.fits:
        raise InputError(f"--save-weights: {inpainter.system_name} learns nothing from a clip: leave it out")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"--save-weights {path} exists and is not empty: give a new path, or delete it first")
    out, place = arguments.out.resolve(), path.resolve()
    if out == place or out in place.parents or place in out.parents:
        raise InputError(f"--save-weights {path} and --out {arguments.out}: give two places, none of them in the other")
    above = next(folder for folder in place.parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"--save-weights {path}: nothing can be written to {above}: give another path")


def _save(path: pathlib.Path, fitted, inpainter) -> str:
    """Writes fitted weights as a checkpoint; returns their fingerprint."""
    import jax

    from jaxpaint.io.checkpoint_folder import CheckpointError
    from jaxpaint.io.weights import PARTS, save_weights
    from jaxpaint.run.config import Experiment, to_dict

    weights = {part: jax.device_get(getattr(fitted, part)) for part in PARTS}
    try:
        return save_weights(path, weights, to_dict(Experiment(inpainter.system_name, inpainter.config)))
    except CheckpointError as error:
        raise InputError(str(error)) from error
