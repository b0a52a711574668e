"""The command ``jaxpaint``. Everything heavy is imported by the sub-command that needs it."""

import argparse
import contextlib
import importlib
import signal
import sys
import threading
from collections.abc import Iterator

from jaxpaint import __version__
from jaxpaint.run.console import ends_quietly
from jaxpaint.run.train import config_overrides, joined
from jaxpaint.types import InputError

PASSED_ON = {
    "train": "train a system, or resume a run",
    "evaluate": "measure a checkpoint or a published file",
    "bench": "measure how fast a config trains here",
}
"""Commands with a parser of their own: ``jaxpaint train`` is ``train.py``."""

MODEL = "--model."
"""What the flags begin with that set fields of a checkpoint's model, for the commands that have `options`."""


@ends_quietly
def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit status: 2 for bad input, 1 where a command did a part, 0 where it did all."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv and argv[0] in PASSED_ON:
            return _pass_on(argv[0], argv[1:])
        parser = _parser()
        arguments, rest = parser.parse_known_args(joined(argv, MODEL))
        if "options" in arguments:
            arguments.options = config_overrides(parser, rest, [], MODEL)
        elif rest:
            parser.error(f"unknown arguments: {' '.join(rest)}")
        with _terminable():
            return arguments.run(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Inside, SIGTERM is an exception, so that what is half written goes; where a caller has another way, it stays."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number, frame) -> None:
    raise SystemExit(128 + number)  # the status that a shell reports of a signal


def _parser() -> argparse.ArgumentParser:
    from jaxpaint.run import inpaint, inpaint_video, propagate_mask, retarget, stylize

    parser = argparse.ArgumentParser(prog="jaxpaint", description="Deep image and video inpainting in JAX.")
    parser.add_argument("--version", action="version", version=f"jaxpaint {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for name, command, about in (
        ("inpaint", inpaint, "fill the holes of a picture or of a folder of pictures"),
        ("inpaint-video", inpaint_video, "fill the holes of a clip"),
        ("retarget", retarget, "give a clip another shape, and let what is masked keep its own"),
        ("propagate-mask", propagate_mask, "find the masks of all frames of a clip by that of the first"),
        ("stylize", stylize, "paint a picture in the style of another one"),
    ):
        one = commands.add_parser(name, help=about, description=about)
        command.add_arguments(one)
        one.set_defaults(run=command.main, options={})

    about = "turn a published file into a checkpoint (without torch)"
    one = commands.add_parser("convert", help=about, description=about)
    one.add_argument("system", metavar="SYSTEM")
    one.add_argument("file", metavar="FILE", help="the file or folder, as downloaded")
    one.add_argument("out", metavar="OUT", help="the folder of the checkpoint; it must not exist")
    one.add_argument(
        "--channels",
        choices=("rgb", "bgr"),
        help="colour order of the stored weights; default: that of this kind of file",
    )
    one.set_defaults(run=_convert)

    about = "list the systems, their networks and the published files that can be converted"
    one = commands.add_parser("systems", help=about, description=about)
    one.set_defaults(run=_systems)

    for name, about in PASSED_ON.items():
        commands.add_parser(name, help=f"{about}: see jaxpaint {name} --help", add_help=False)
    return parser


def _pass_on(command: str, argv: list[str]) -> int:
    return importlib.import_module(f"jaxpaint.run.{command}").main(argv) or 0


def _convert(arguments: argparse.Namespace) -> int:
    from jaxpaint.convert import convert
    from jaxpaint.io.checkpoint_folder import CheckpointError
    from jaxpaint.io.weights import save_weights
    from jaxpaint.run.config import Experiment, from_dict, to_dict

    weights, fields, report = convert(arguments.system, arguments.file, channels=arguments.channels)
    experiment: Experiment = from_dict({"system": arguments.system, "model": fields})
    try:
        name = save_weights(arguments.out, weights, to_dict(experiment))
    except CheckpointError as error:
        raise InputError(str(error)) from error
    print(report)
    print(f"{arguments.out}: weights {name}")
    return 0


def _systems(arguments: argparse.Namespace) -> int:
    import jax
    import jax.numpy as jnp

    from jaxpaint.convert import CONVERSIONS
    from jaxpaint.systems import SYSTEMS
    from jaxpaint.train.state import count

    for name, page in sorted(SYSTEMS.items()):
        shape = (1, 5, 256, 256) if page.video else (1, 256, 256)
        batch = {part: jax.ShapeDtypeStruct((*shape, c), jnp.float32) for part, c in (("image", 3), ("mask", 1))}
        state = jax.eval_shape(page.build(page.config()).init, jax.random.key(0), batch)
        print(f"{name}\n  {page.title}")
        for network, params in state.params.items():
            print(f"  {network}: {count(params):,} parameters")
        for file in CONVERSIONS[name].files if name in CONVERSIONS else ():
            print(f"  published: {file.name}: {file.note}" + (f" {file.url}" if file.url else ""))
    return 0
