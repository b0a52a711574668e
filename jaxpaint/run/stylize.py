"""``jaxpaint stylize``: one picture in the style of another, by a network that has learnt to invert features."""

import argparse
import pathlib
import sys

from jaxpaint.run.console import plain
from jaxpaint.run.flags import add_subject
from jaxpaint.types import InputError

SYSTEM = "contextual"
"""Whose Feature2Image it is: `jaxpaint.systems.contextual.stylize`."""

EPILOG = """every patch of the content's features is replaced by the style's most alike one, and the network paints the
picture that these features belong to. --model.patch=5 swaps larger patches. the time grows with the number of pixels
of the one times that of the other: --max-side is the side to which both are reduced first. the result is a new
picture: alpha, EXIF and colour profile of the content are not kept.

exit status: 0 done, 2 bad input."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``jaxpaint stylize``."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EPILOG
    parser.add_argument("content", metavar="CONTENT", type=pathlib.Path, help="the picture to be painted anew")
    parser.add_argument("style", metavar="STYLE", type=pathlib.Path, help="the picture whose textures it gets")
    add_subject(parser, checkpoint=f"a run's folder, of the system {SYSTEM}", published=False)
    parser.add_argument("--out", metavar="FILE", type=pathlib.Path, required=True)
    parser.add_argument(
        "--max-side",
        metavar="N",
        type=int,
        default=512,
        help="larger pictures are reduced to this longer side; default 512, 0 = no limit",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a result that exists")


def main(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit status.

    Raises:
      InputError: nothing could be done.
    """
    out = _checked(arguments)
    from jaxpaint.io.images import Picture, read, write
    from jaxpaint.run.cache import use_cache

    use_cache()
    with plain():
        pictures = (read(path) for path in (arguments.content, arguments.style))
        result = _painted(arguments, *(_reduced(picture, arguments.max_side) for picture in pictures))
        try:
            write(out, Picture(arguments.content, result))
        except OSError as error:
            raise InputError(f"the result cannot be written to {out}: {error.strerror or error}") from error
    print(out)
    return 0


def _checked(arguments: argparse.Namespace) -> pathlib.Path:
    """Where the result goes. Everything that can be refused before work starts."""
    from jaxpaint.io.images import writable
    from jaxpaint.run.prepare import SMALLEST

    out = writable(arguments.out)
    for path in (arguments.content, arguments.style):
        if not path.is_file():
            raise InputError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: give a picture")
        if path.resolve() == out.resolve():
            raise InputError(f"the result {out} would replace an input: give another --out")
    if out.exists() and not arguments.overwrite:
        raise InputError(f"{out} exists already: give --overwrite or another --out")
    if arguments.max_side and arguments.max_side < SMALLEST:
        raise InputError(f"--max-side is {arguments.max_side}: expected {SMALLEST} or more, or 0 for no limit")
    return out


def _reduced(picture, most: int):
    """uint8 h w 3 with sides up to `most` (0: as it is), proportions kept."""
    import numpy as np
    from PIL import Image

    from jaxpaint.run.prepare import SMALLEST

    rgb = np.ascontiguousarray(picture.rgb)
    height, width = rgb.shape[:2]
    if most and max(height, width) > most:
        scale = most / max(height, width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        rgb = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR))
    if min(height, width) < SMALLEST:
        raise InputError(
            f"{picture.path} is {height}x{width}{' once reduced' if rgb.shape != picture.rgb.shape else ''}: both "
            f"sides must be {SMALLEST} pixels or more; enlarge it, or give a larger --max-side"
        )
    return rgb


def _painted(arguments: argparse.Namespace, content, style):
    """uint8 h w 3: the content in the style; both uint8 h w 3."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxpaint.io.checkpoint_folder import CheckpointError
    from jaxpaint.io.weights import restore_weights
    from jaxpaint.ops.pixels import from_uint8, to_uint8
    from jaxpaint.run.config import model_of, override
    from jaxpaint.systems import SYSTEMS, contextual
    from jaxpaint.train import Weights, compute_dtype

    try:
        loaded = restore_weights(arguments.checkpoint, arguments.step)
    except CheckpointError as error:
        raise InputError(str(error)) from error
    system = loaded.config.get("system")
    if system != SYSTEM:
        raise InputError(
            f"{loaded.path} is a checkpoint of the system {system!r}: styles are transferred by a network that paints "
            f"pictures from features, which {SYSTEM!r} has: train one, with --config.model.stage=feature2image or both"
        )
    model = model_of(loaded.config, loaded.path)
    for note in SYSTEMS[SYSTEM].build(model).notes:
        print(f"note: {note}", file=sys.stderr)
    if model.stage == "image2feature":
        print("note: this run did not train Feature2Image, which paints the result", file=sys.stderr)
    model, dtype = override(model, arguments.options), compute_dtype(arguments.precision)

    @jax.jit
    def paint(weights, content, style):
        pictures = (from_uint8(picture)[None] for picture in (content, style))
        result = contextual.stylize(model, weights, *pictures, dtype)
        return to_uint8(jnp.nan_to_num(result[0])), jnp.isfinite(result).all()

    result, finite = jax.device_get(paint(Weights(**loaded.weights), content, style))
    if not finite:
        raise InputError(
            f"the result is not finite: the weights of {loaded.path} are broken, or --precision is too low"
        )
    return np.asarray(result)
