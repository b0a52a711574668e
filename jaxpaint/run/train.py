"""``train.py`` and ``jaxpaint train``: the command line of training."""

import argparse
import pathlib
import sys
import traceback

from jaxpaint.run.console import ends_quietly, first_says, plain
from jaxpaint.types import InputError, did_you_mean

DESCRIPTION = """Train a system. Any field of the config can be set: --config.optim.lr=1e-4 --config.train.batch=8.

Fields are described where they are defined: train, validation: jaxpaint/run/config.py; data: jaxpaint/data/config.py;
optim: jaxpaint/train/optim.py; mesh: jaxpaint/parallel/layout.py; hosts: jaxpaint/parallel/hosts.py; masks:
jaxpaint/ops/masks/; model: Config in jaxpaint/systems/SYSTEM.py.

Where the workdir holds checkpoints the run resumes from the newest good one. SIGTERM saves and exits 0.
"""


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """(arguments, config overrides by dotted name)."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE[:VARIANT]", help="configs/NAME.py")
    parser.add_argument(
        "--workdir",
        help="where the run lives; default runs/NAME, the same for all variants of a config: give each its own",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on from the workdir's checkpoint (default); --no-resume: refuse a workdir that has one",
    )
    parser.add_argument("--init-from", metavar="PATH", help="take fitting weights from a checkpoint, start at step 0")
    parser.add_argument("--profile", action="store_true", help="write a trace of a few steps to WORKDIR/profile")
    arguments, rest = parser.parse_known_args(argv)
    flags = ["--config", "--workdir", "--resume", "--no-resume", "--init-from", "--profile"]
    return arguments, config_overrides(parser, rest, flags)


def config_overrides(
    parser: argparse.ArgumentParser, rest: list[str], flags: list[str], prefix: str = "--config."
) -> dict[str, str]:
    """The flags ``--config.NAME=VALUE`` (or ``--config.NAME VALUE``) by dotted name.

    Args:
      parser: is told of anything else, which ends the program
      rest: what it did not know
      flags: those that it knows, to propose one of
      prefix: what such a flag begins with
    """
    overrides = {}
    for flag in joined(rest, prefix):
        if not flag.startswith(prefix):
            given = flag.partition("=")[0].partition(".")[0]
            hint = did_you_mean(given, [*flags, prefix], "; did you mean {}?")
            parser.error(f"unknown argument {flag!r}{hint}")
        name, equals, value = flag.removeprefix(prefix).partition("=")
        if not equals:
            parser.error(f"{flag} wants a value: {flag}=VALUE")
        overrides[name] = value
    return overrides


def joined(argv: list[str], prefix: str) -> list[str]:
    """The arguments, with each ``--config.NAME VALUE`` as one, ``--config.NAME=VALUE``."""
    found = []
    for argument in argv:
        if found and found[-1].startswith(prefix) and "=" not in found[-1]:
            found[-1] += f"={argument}"
        else:
            found.append(argument)
    return found


@ends_quietly
def main(argv: list[str] | None = None) -> int:
    """Runs training; returns the exit status: 0 done or stopped by a signal, 1 a checkpoint could not be stored,
    2 bad input, 3 not finite."""
    arguments, overrides = parse(sys.argv[1:] if argv is None else argv)
    # Heavy imports come after the arguments are known to be good, the heaviest after the config is.
    from jaxpaint.run.config import load

    try:
        experiment = load(arguments.config, overrides)
    except InputError as error:
        return _failed(error, 2)

    import jax

    from jaxpaint.io.checkpoint_folder import CheckpointError
    from jaxpaint.parallel.hosts import leave, start
    from jaxpaint.run.guard import NonFiniteError

    statuses = {CheckpointError: 1, InputError: 2, NonFiniteError: 3}
    try:
        start(experiment.hosts)  # before anything that asks JAX for devices
        from jaxpaint.run.cache import use_cache
        from jaxpaint.run.loop import train

        with plain():
            use_cache()
            train(
                experiment,
                arguments.workdir or pathlib.Path("runs") / pathlib.Path(arguments.config.partition(":")[0]).stem,
                resume=arguments.resume,
                init_from=arguments.init_from,
                profile=arguments.profile,
                say=first_says(),
            )
    except tuple(statuses) as error:
        return leave(_failed(error, statuses[type(error)]))
    except BaseException:
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        return leave(1)
    return 0


def _failed(error: Exception, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status
