"""Compiles the training step, or inpainting, for a TPU slice that is not there, and says what one device has to do.

    python -m jaxpaint.run.aot --config=configs/deepfillv2_places2.py --topology=v5e:4x4 --batch-per-chip 16

The compiler of libtpu (``pip install jaxpaint[tpu]``) runs on any Linux machine. It plans the memory to the byte and
refuses a program that is too large for the chip, so "fits" is its verdict; time it does not tell. What is compiled is
what `jaxpaint.run.loop` runs: the same step, laid over a mesh of the slice's devices.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxpaint.io.atomic import write_text
from jaxpaint.parallel.topology import EXAMPLES, check_libtpu, out_of_memory, prepare_process, topology
from jaxpaint.run.train import config_overrides
from jaxpaint.types import InputError


class Cost(NamedTuple):
    """What one device does in one run of a program. Bytes and FLOPs are the compiler's figures.

    what:        "train" or "inpaint"
    topology:    as given, with the number of slices where there are several
    kind:        ``device_kind``
    devices:     of the whole mesh
    mesh:        sizes of its axes
    batch:       examples of the whole mesh
    batch_per_chip: of one device (of those that share a picture, where the height is divided)
    size:        height, width
    dtype:       of activations
    fits:        whether the compiler could place the program in the memory of the chip
    message:     what it said if not; then the figures below are None
    arguments, temporaries, output, donated, code, peak: bytes. Donated ones are in arguments and output both; the peak
                 is the most that is in use at a time, and is what `usable` must hold
    usable:      bytes of a device that programs may take, see `jaxpaint.parallel.chips`; None where it is not known
    flops:       FLOPs
    accessed:    bytes that all operations read and write, on-chip memory included
    peak_flops, bandwidth: of the device, per second
    collectives: kind -> (count, bytes, open_loops), see `jaxpaint.parallel.hlo`
    seconds:     wall time of the compilation here
    frames:      of an example; 0: it is a picture
    """

    what: str
    topology: str
    kind: str
    devices: int
    mesh: dict[str, int]
    batch: int
    batch_per_chip: int
    size: tuple[int, int]
    dtype: str
    fits: bool
    message: str | None = None
    arguments: int | None = None
    temporaries: int | None = None
    output: int | None = None
    donated: int | None = None
    code: int | None = None
    peak: int | None = None
    usable: int | None = None
    flops: float | None = None
    accessed: float | None = None
    peak_flops: float | None = None
    bandwidth: float | None = None
    collectives: dict[str, Any] | None = None
    seconds: float | None = None
    frames: int = 0


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """(arguments, config overrides by dotted name)."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxpaint.run.aot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE[:VARIANT]", help="as for train.py, --config.x=y too")
    parser.add_argument("--topology", required=True, metavar="NAME", help=f"such as {EXAMPLES}")
    parser.add_argument("--slices", type=_positive, default=1, metavar="N", help="so many of them, default 1")
    parser.add_argument(
        "--batch-per-chip", type=_positive, metavar="N", help="examples a device; default: train.batch is for all"
    )
    parser.add_argument("--size", metavar="HxW", help="of the pictures; default data.size of the config")
    parser.add_argument("--inpaint", action="store_true", help="compile inpainting instead of the training step")
    parser.add_argument("--fit", action="store_true", help="find the largest batch a device that fits, to an eighth")
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file: a list, one entry a compilation")
    arguments, rest = parser.parse_known_args(argv)
    flags = ["--config", "--topology", "--slices", "--batch-per-chip", "--size", "--inpaint", "--fit", "--json"]
    return arguments, config_overrides(parser, rest, flags)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0 it fits, 1 it does not, 2 bad input."""
    arguments, overrides = parse(sys.argv[1:] if argv is None else argv)
    try:
        check_libtpu()
        if argv is None:
            prepare_process()
        costs = run(arguments, overrides, lambda line: print(line, flush=True))
        if arguments.json:
            text = json.dumps([to_dict(cost) for cost in costs], indent=1) + "\n"
            write_text(pathlib.Path(arguments.json), text)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if any(cost.fits for cost in costs) else 1


def run(arguments: argparse.Namespace, overrides: dict[str, str], say: Callable[[str], None]) -> list[Cost]:
    """All that `main` compiles, in order.

    Raises:
      InputError: a config, topology, mesh or batch that cannot be used.
    """
    from jaxpaint.parallel.mesh import make_mesh
    from jaxpaint.run.config import load
    from jaxpaint.run.protocol import parse_size

    if arguments.size:
        size = parse_size(arguments.size)
        if size is None:
            raise InputError(
                f"--size {arguments.size}: a compiled program has one size: expected such as 256 or 512x680"
            )
        overrides = {**overrides, "data.size": str(size)}
    experiment = load(arguments.config, overrides)
    if experiment.mesh.mode != "jit":
        raise InputError(f"mesh.mode is {experiment.mesh.mode!r}: for a topology programs are compiled under jit alone")
    mesh = make_mesh(experiment.mesh, topology(arguments.topology, arguments.slices))
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    program = inpainting if arguments.inpaint else training
    name = arguments.topology + (f" x {arguments.slices} slices" if arguments.slices > 1 else "")
    costs: list[Cost] = []

    def compiled(batch: int) -> Cost:
        costs.append(measure(experiment, mesh, batch, program)._replace(topology=name))
        say(lines(costs[-1]))
        return costs[-1]

    if not arguments.fit:
        compiled(parts * arguments.batch_per_chip if arguments.batch_per_chip else experiment.train.batch)
        return costs
    start = arguments.batch_per_chip or max(1, experiment.train.batch // parts)
    most, too_many = largest(lambda per_chip: compiled(parts * per_chip).fits, start)
    say(f"largest batch a device that fits: {most}; {too_many} does not")
    return costs


def build(experiment: Any, dtype: str) -> Any:
    """The system of an experiment."""
    import jax.numpy as jnp

    from jaxpaint.systems import SYSTEMS

    return SYSTEMS[experiment.system].build(experiment.model, experiment.optim, jnp.dtype(dtype))


def training(system: Any, experiment: Any, mesh: Any, shapes: dict[str, Any]) -> Any:
    """The compiled training step."""
    from jaxpaint.run.step import compile_training

    return compile_training(experiment, system, None, mesh, batch=shapes["image"].shape[0]).compiled


def inpainting(system: Any, experiment: Any, mesh: Any, shapes: dict[str, Any]) -> Any:
    """Compiled inpainting, uint8 to uint8: weights on every device, the batch divided."""
    import jax
    import numpy as np

    from jaxpaint.ops.pixels import to_uint8
    from jaxpaint.parallel.mesh import replicated, split
    from jaxpaint.run.step import ready, training_step

    shapes = {**shapes, "mask": jax.ShapeDtypeStruct((*shapes["image"].shape[:-1], 1), np.uint8)}
    init, _ = training_step(system, experiment.masks)
    rng = jax.eval_shape(jax.random.key, 0)
    weights = jax.eval_shape(init, rng, shapes).weights

    def inpaint(weights, batch, rng):
        return to_uint8(system.inpaint(weights, ready(batch, experiment.masks, rng), rng))

    everywhere, parts = replicated(mesh), {key: split(mesh, x.shape) for key, x in shapes.items()}
    jitted = jax.jit(inpaint, in_shardings=(everywhere, parts, everywhere), out_shardings=parts["image"])
    with jax.set_mesh(mesh):
        return jitted.lower(weights, shapes, rng).compile()


def measure(experiment: Any, mesh: Any, batch: int, program: Callable) -> Cost:
    """Compiles for a mesh, and reads what it costs.

    Args:
      experiment: see `jaxpaint.run.config.Experiment`
      mesh: of a topology's devices
      batch: examples over the whole mesh
      program: `training` or `inpainting`

    Raises:
      InputError: the batch or the height does not divide over the mesh.
      jax.errors.JaxRuntimeError: what the compiler has to say, unless it is that the program is too large.
    """
    import jax

    from jaxpaint.data import specification
    from jaxpaint.parallel.chips import chip_of
    from jaxpaint.parallel.mesh import check_batch
    from jaxpaint.run.step import check_kind

    check_kind(experiment)
    # "auto" looks at the machine that this runs on, and the program is for another.
    dtype = "bfloat16" if experiment.train.precision == "auto" else experiment.train.precision
    system = build(experiment, dtype)
    shapes = {key: jax.ShapeDtypeStruct(*spec) for key, spec in specification(experiment.data, None, batch).items()}
    device = mesh.devices.flat[0]
    chip = chip_of(device.device_kind)
    accumulate = experiment.optim.accumulate if program is training else 1
    cost = Cost(
        what="train" if program is training else "inpaint",
        topology="",
        kind=device.device_kind,
        devices=mesh.size,
        mesh=dict(mesh.shape),
        batch=batch,
        batch_per_chip=check_batch(batch, mesh, accumulate),
        size=tuple(experiment.data.size),
        frames=experiment.data.frames,
        dtype=dtype,
        fits=False,
        usable=chip.usable if chip else None,
        peak_flops=chip.peak(dtype) if chip else None,
        bandwidth=chip.bandwidth if chip else None,
    )
    started = time.perf_counter()
    try:
        compiled = program(system, experiment, mesh, shapes)
    except jax.errors.JaxRuntimeError as error:
        if not out_of_memory(str(error)):
            raise
        seconds = time.perf_counter() - started
        return cost._replace(message=str(error).splitlines()[0], seconds=seconds)
    return read(cost, compiled)._replace(seconds=time.perf_counter() - started)


def read(cost: Cost, compiled: Any) -> Cost:
    """`cost` with the figures of a program that could be compiled."""
    from jaxpaint.parallel.hlo import collectives

    memory, work = compiled.memory_analysis(), compiled.cost_analysis()
    return cost._replace(
        fits=True,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        output=memory.output_size_in_bytes,
        donated=memory.alias_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        peak=memory.peak_memory_in_bytes,
        flops=work["flops"],
        accessed=work["bytes accessed"],
        collectives=collectives(compiled.as_text()),
    )


def largest(fits: Callable[[int], bool], start: int, *, parts: int = 8) -> tuple[int, int]:
    """The largest number that fits, and the smallest tried that does not.

    Doubles or halves from `start` until both are known, then halves the interval between them until it is at most a
    `parts`-th of what fits. (0, 1) where not even 1 fits.
    """
    low, high, number = 0, 0, start
    while not (low and high):
        if fits(number):
            low, number = number, 2 * number
        else:
            high, number = number, number // 2
            if high == 1:
                return 0, 1
    while high - low > max(1, low // parts):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low, high


def to_dict(cost: Cost) -> dict[str, Any]:
    """A `Cost` for JSON."""
    sent = None if cost.collectives is None else {kind: one._asdict() for kind, one in cost.collectives.items()}
    return {**cost._asdict(), "collectives": sent}


def lines(cost: Cost) -> str:
    """A `Cost`, to be read."""
    gib, mib = 2**30, 2**20
    mesh = " x ".join(f"{axis}={size}" for axis, size in cost.mesh.items() if size > 1) or "one device"
    frames = f"{cost.frames} frames of " if cost.frames else ""
    text = [
        f"{cost.topology}: {cost.devices} x {cost.kind} ({mesh}); {cost.what}, {frames}{cost.size[0]}x{cost.size[1]}, "
        f"{cost.dtype}, batch {cost.batch:,}, {cost.batch_per_chip:,} a device"
    ]
    usable = f" of {cost.usable / gib:.2f} GiB" if cost.usable else ""
    if not cost.fits:
        return "\n".join([*text, f"  does NOT fit{usable}: {cost.message}", f"  compiled in {cost.seconds:.0f} s"])
    text.append(
        f"  memory: arguments {cost.arguments / mib:,.1f} MiB (donated {cost.donated / mib:,.1f}), temporaries "
        f"{cost.temporaries / mib:,.1f}, output {cost.output / mib:,.1f}, code {cost.code / mib:,.1f}; "
        f"peak {cost.peak / gib:.2f}{usable or ' GiB'}: fits"
    )
    computing = f" ({1e3 * cost.flops / cost.peak_flops:,.1f} ms at the peak)" if cost.peak_flops else ""
    moving = f" ({1e3 * cost.accessed / cost.bandwidth:,.1f} ms, were all of it in HBM)" if cost.bandwidth else ""
    text.append(f"  work: {cost.flops / 1e9:,.1f} GFLOP{computing}, {cost.accessed / 1e9:,.2f} GB accessed{moving}")
    sent = [
        f"{kind} {one.count} ({one.bytes / mib:,.2f} MiB{', in loops of unknown length' if one.open_loops else ''})"
        for kind, one in cost.collectives.items()
    ]
    text.append(f"  collectives: {', '.join(sent) or 'none'}")
    return "\n".join([*text, f"  compiled in {cost.seconds:.0f} s"])


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
