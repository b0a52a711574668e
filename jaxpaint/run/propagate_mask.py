"""``jaxpaint propagate-mask``: the masks of all frames of a clip, found by that of the first one."""

import argparse
import pathlib

import numpy as np

from jaxpaint.run.console import plain
from jaxpaint.run.flags import add_convention, add_telling, seed
from jaxpaint.types import InputError

EPILOG = """a small segmentation network is fitted to the first frame and its mask (IIVI, arXiv 2108.01912), and then
looks at every frame by itself: it needs no weights. look at the masks before you use them. --model.FIELD=VALUE sets a
field of its config (`jaxpaint.systems._iivi_masks.MaskConfig`): --model.steps=2000.

exit status: 0 done, 2 bad input."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``jaxpaint propagate-mask``."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EPILOG
    parser.add_argument("clip", metavar="CLIP", type=pathlib.Path, help="a video file, or a folder of frames")
    parser.add_argument("--mask", metavar="FILE", type=pathlib.Path, required=True, help="the mask of the first frame")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=pathlib.Path,
        required=True,
        help="black and white PNG files, called as the frames of a folder are, or 00000.png and so on: white = hole",
    )
    add_convention(parser)
    parser.add_argument("--seed", type=seed, default=0, help="of the network's start; default 0")
    add_telling(parser)


def main(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit status.

    Raises:
      InputError: nothing could be done.
    """
    import jax

    from jaxpaint.io.images import read_mask
    from jaxpaint.io.video import open_clip
    from jaxpaint.ops.masks.check import match
    from jaxpaint.run.cache import use_cache
    from jaxpaint.run.clip_command import Progress, check_result, written
    from jaxpaint.run.config import override
    from jaxpaint.systems._iivi_masks import MaskConfig, propagate

    use_cache()
    with plain(arguments.verbose):
        if arguments.out.suffix:
            raise InputError(f"--out {arguments.out} has an ending: masks are written to a folder, give one without")
        clip = open_clip(arguments.clip)
        mask = read_mask(arguments.mask, arguments.mask_convention)
        match(mask, (clip.height, clip.width), name=str(arguments.mask))
        check_result(arguments.out, clip, (arguments.clip, arguments.mask), arguments.overwrite)
        config = override(MaskConfig(), arguments.options)
        with Progress(clip.count, arguments.verbose) as progress, written(arguments.out, clip) as put:
            for found in propagate(clip, mask, config, jax.random.key(arguments.seed), progress.say):
                put(np.repeat(found * np.uint8(255), 3, axis=-1))
                progress.step()
        print(progress.result(arguments.out))
    return 0
