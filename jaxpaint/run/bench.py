"""``python -m jaxpaint.run.bench`` and ``jaxpaint bench``: how fast a config trains here, and what limits it.

The loop is the one that training runs (`jaxpaint.run.turn`), on the step that training compiles. Its devices never
wait for the benchmark: a block of updates lasts from the moment when one's metrics are read to that of another's.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import pathlib
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxpaint.data import ArrayClips, ArraySource, open_source, stream
from jaxpaint.io.atomic import write_text
from jaxpaint.parallel import hosts
from jaxpaint.parallel.chips import chip_of
from jaxpaint.parallel.mesh import check_batch, make_mesh, share
from jaxpaint.run import report
from jaxpaint.run.cache import use_cache
from jaxpaint.run.compiles import Compiles
from jaxpaint.run.config import Experiment, load, to_dict
from jaxpaint.run.console import ends_quietly, first_says, plain
from jaxpaint.run.inpainter import Inpainter
from jaxpaint.run.step import check_kind, compile_training
from jaxpaint.run.train import config_overrides
from jaxpaint.run.turn import Times, read, turn
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import State, System, compute_dtype
from jaxpaint.types import InputError

DESCRIPTION = """Measure a config's training step. Any field can be set: --config.train.batch=32 --config.mesh.fsdp=2.

With --data memory nothing is read or decoded, and TensorFlow is not needed.
"""

GIB = 2**30
CLIP = 30
"""Frames of the clip that is filled."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """(arguments, config overrides by dotted name)."""
    parser = argparse.ArgumentParser(
        prog="jaxpaint bench",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE[:VARIANT]", help="configs/NAME.py")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="updates in a block; default 20")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="blocks, of which the median; default 5")
    parser.add_argument("--warmup", type=int, default=5, metavar="N", help="updates before the first block; default 5")
    parser.add_argument(
        "--data",
        choices=("config", "memory"),
        default="config",
        help="the config's own pictures or clips, or random ones in memory; default config",
    )
    parser.add_argument("--inpaint", action="store_true", help="measure filling pictures or a clip, too")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the figures, with the circumstances")
    arguments, rest = parser.parse_known_args(argv)
    flags = ["--config", "--steps", "--repeats", "--warmup", "--data", "--inpaint", "--json"]
    overrides = config_overrides(parser, rest, flags)
    for name, least in (("steps", 1), ("repeats", 1), ("warmup", 0)):
        if getattr(arguments, name) < least:
            parser.error(f"--{name} is {getattr(arguments, name)}: expected {least} or more")
    return arguments, overrides


@ends_quietly
def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status: 0 done, 2 bad input."""
    arguments, overrides = parse(sys.argv[1:] if argv is None else argv)
    try:
        with plain():
            experiment = load(arguments.config, overrides)
            hosts.start(experiment.hosts)
            use_cache()
            figures = bench(
                experiment,
                steps=arguments.steps,
                repeats=arguments.repeats,
                warmup=arguments.warmup,
                memory=arguments.data == "memory",
                inpaint=arguments.inpaint,
                say=first_says(),
            )
            if arguments.json and jax.process_index() == 0:
                write_text(arguments.json, json.dumps({"config": arguments.config, **figures}, indent=2) + "\n")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return hosts.leave(2)
    return 0


def bench(
    experiment: Experiment,
    *,
    steps: int = 20,
    repeats: int = 5,
    warmup: int = 5,
    memory: bool = False,
    inpaint: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measures a config; says the figures, and returns them as JSON can hold them. Examples are pictures, or clips.

    Args:
      experiment: see `jaxpaint.run.config`
      steps: updates in a block; made a multiple of ``train.dispatch``
      repeats: blocks
      warmup: updates before the first one
      memory: random pictures or clips in memory instead of the config's
      inpaint: measure filling pictures, too; of a system of clips, a clip of `CLIP` frames
      say: where lines for the user go

    Raises:
      InputError: a config, source, mesh or batch that cannot be used.
    """
    check_kind(experiment)
    mesh = make_mesh(experiment.mesh)
    dtype = compute_dtype(experiment.train.precision)
    system = SYSTEMS[experiment.system].build(experiment.model, experiment.optim, dtype)
    about = {**circumstances(experiment, mesh), "notes": list(system.notes)}
    if memory:
        experiment, source = in_memory(experiment)
    else:
        source = open_source(experiment.data)
    about["source"] = source.name
    what = f"clips of {about['frames']} frames" if about["frames"] else "pictures"
    say(
        f"{experiment.system}, {about['batch']} {what} of {about['size'][0]}x{about['size'][1]} an update, {dtype}, "
        f"on {mesh.size} {about['device']} ({about['mesh']}, {experiment.mesh.mode}); {source.name}"
    )
    for note in system.notes:
        say(f"note: {note}")
    training, state = _training(experiment, system, source, mesh, steps, repeats, warmup, say)
    say(training_lines(training))
    figures = {"about": about, "training": training}
    if inpaint:
        if jax.process_count() > 1:
            raise InputError(f"--inpaint measures one process, and there are {jax.process_count()}: leave it away")
        weights = jax.device_get(state.weights)
        inpainter = Inpainter(experiment.system, experiment.model, weights, precision=experiment.train.precision)
        figures["inpainting"] = _filling(experiment, inpainter, steps, repeats)
        say(inpainting_line(figures["inpainting"]))
    return figures


def in_memory(experiment: Experiment) -> tuple[Experiment, ArraySource | ArrayClips]:
    """(the experiment with masks from memory where it has any from files, a source of random pictures or clips)."""
    data, count = experiment.data, max(64, 2 * experiment.train.batch)
    rng = np.random.default_rng(0)
    shape = (count, *data.size)
    if data.frames:
        shape = (max(8, count // data.frames), (data.frames - 1) * data.stride[1] + 1, *data.size)
    arrays = {"clips" if data.frames else "images": rng.integers(0, 256, (*shape, 3), np.uint8)}
    if data.masks:
        arrays["masks"] = np.zeros((*shape, 1), np.uint8)
        arrays["masks"][:] = _quarter(data.size)
    data = dataclasses.replace(data, source="arrays", path="", masks="")
    return dataclasses.replace(experiment, data=data), (ArrayClips if data.frames else ArraySource)(arrays)


def _quarter(size: tuple[int, int]) -> np.ndarray:
    """uint8 h w 1: a box of a quarter of each side as the hole."""
    mask = np.zeros((*size, 1), np.uint8)
    mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 1
    return mask


def circumstances(experiment: Experiment, mesh: Mesh) -> dict[str, Any]:
    """What a figure depends on."""
    text = json.dumps(to_dict(experiment), sort_keys=True)
    device = mesh.devices.flat[0]
    return {
        "system": experiment.system,
        "config_digest": hashlib.sha256(text.encode()).hexdigest()[:16],
        "experiment": json.loads(text),
        "batch": experiment.train.batch,
        "size": list(experiment.data.size),
        "frames": experiment.data.frames,
        "precision": str(compute_dtype(experiment.train.precision)),
        "device": device.device_kind,
        "platform": device.platform,
        "devices": mesh.size,
        "processes": jax.process_count(),
        "mesh": " x ".join(f"{axis}={n}" for axis, n in mesh.shape.items()),
        "versions": {"jaxpaint": _version("jaxpaint"), "python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
        "host": f"{platform.system()} {platform.machine()}",
        "xla": getattr(device.client, "platform_version", "").partition("\n")[0],
    }


def _training(
    experiment: Experiment,
    system: System,
    source: Any,
    mesh: Mesh,
    steps: int,
    repeats: int,
    warmup: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], State]:
    """(figures, the last state)."""
    settings, dispatch = experiment.train, experiment.train.dispatch
    check_batch(settings.batch, mesh, experiment.optim.accumulate)
    process, processes = share(mesh)
    turns = -(-steps // dispatch)
    # Two turns at least: after the second one the metrics of the first are read, as at every stamp.
    before = max(2, -(-warmup // dispatch))
    times, stamps, pending = Times(), [], None
    with Compiles(say) as compiles:
        program = compile_training(experiment, system, source, mesh)
        cached = compiles.last is not None and compiles.last.cached
        state = program.begin(jax.random.key(settings.seed))
        shares = {"process": process, "processes": processes}
        batches = stream(experiment.data, batch=settings.batch, seed=settings.seed, **shares, source=source)
        try:
            for number in range(1, before + repeats * turns + 1):
                state, metrics = turn(program, state, batches, dispatch, times)
                if pending is not None:
                    read(pending, times)
                pending = metrics
                if number == before:
                    times.clear()
                    compiles.steady()
                if number >= before and (number - before) % turns == 0:
                    stamps.append(time.perf_counter())
            host = times.per(repeats * turns * dispatch)
            jax.block_until_ready(pending)
        finally:
            batches.close()
    blocks = [(end - start) / (turns * dispatch) for start, end in itertools.pairwise(stamps)]
    seconds, costs = statistics.median(blocks), report.cost(program)
    figures = {
        "blocks": repeats,
        "updates": turns * dispatch,
        "warmup": before * dispatch,
        "dispatch": dispatch,
        "milliseconds": _milliseconds(blocks),
        "updates_per_second": 1 / seconds,
        **_rates(experiment, settings.batch / seconds, mesh.size),
        "host_milliseconds": {name: 1e3 * value for name, value in host.items()},
        "input_share": host["input"] / host["all"],
        "compile_seconds": program.seconds,
        "compile_from_cache": cached,
        "compiled_late": compiles.late,
        "flops": share_of_peak(
            costs["flops"], seconds, mesh.devices.flat[0].device_kind, str(compute_dtype(settings.precision))
        ),
        "program_memory_mib": {name: costs[name] for name in ("arguments", "temporary", "output", "donated")},
        "peak_memory": peak_memory(),
    }
    return figures, state


def _rates(experiment: Experiment, per_second: float, devices: int) -> dict[str, float]:
    """Examples a second, by what they are."""
    if not experiment.data.frames:
        return {"images_per_second": per_second, "images_per_second_per_device": per_second / devices}
    return {
        "clips_per_second": per_second,
        "clips_per_second_per_device": per_second / devices,
        "frames_per_second": per_second * experiment.data.frames,
    }


def share_of_peak(flops: float, seconds: float, device_kind: str, dtype: str) -> dict[str, Any]:
    """What a device does against what it can do.

    Args:
      flops: of an update on one device, as the compiler counts them; 0 where it does not
      seconds: of an update
      device_kind: ``jax.Device.device_kind``
      dtype: of activations

    Returns:
      ``an_update``; ``per_second``; ``peak`` and ``share``, None where no peak is known or FLOPs are not counted;
      ``note``: why not, or whose figure the peak is.
    """
    figures = {"an_update": flops, "per_second": flops / seconds, "peak": None, "share": None}
    chip = chip_of(device_kind)
    if flops <= 0:
        return {**figures, "note": "the compiler does not count FLOPs here"}
    if chip is None or dtype not in chip.flops:
        return {**figures, "note": f"no peak is known of {device_kind} for {dtype}"}
    peak = chip.peak(dtype)
    return {**figures, "peak": peak, "share": flops / seconds / peak, "note": f"{chip.name}, {chip.source}"}


def peak_memory() -> dict[str, Any]:
    """Bytes: the most that any device of this process held; on a CPU what the process held, everything included."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    if all(peak is not None for peak in peaks):
        return {"bytes": max(peaks), "of": "a device"}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "of": "the process, on the host"}


def _filling(experiment: Experiment, inpainter: Inpainter, steps: int, repeats: int) -> dict[str, Any]:
    """Figures of filling pictures in memory, or a clip, everything included: padding, sending, pasting back."""
    clip, size = bool(experiment.data.frames), experiment.train.batch
    count = CLIP if clip else max(steps, 2) * size
    images = np.random.default_rng(0).integers(0, 256, (min(count, 64), *experiment.data.size, 3), np.uint8)
    images, mask = [images[n % len(images)] for n in range(count)], _quarter(experiment.data.size)

    def once() -> float:
        started = time.perf_counter()
        if clip:
            assert sum(1 for _ in inpainter.stream(np.stack(images), np.stack([mask] * count))) == count
        else:
            inpainter.inpaint(images, mask, batch_size=max(1, size // inpainter.filler.groups))
        return time.perf_counter() - started

    first, *times = [once() for _ in range(1 + repeats)]
    figures = {"runs": repeats, "frames" if clip else "pictures": count, "first_seconds": first}
    figures["milliseconds"] = _milliseconds([seconds / count for seconds in times])
    figures["frames_per_second" if clip else "images_per_second"] = count / statistics.median(times)
    return figures if clip else {**figures, "programs": inpainter.compiles}


def training_lines(figures: dict[str, Any]) -> str:
    """The figures of training, to be read."""
    time_, host, flops, memory = (
        figures[name] for name in ("milliseconds", "host_milliseconds", "flops", "peak_memory")
    )
    share = f"{100 * flops['share']:.1f} % of the peak" if flops["share"] is not None else "no share of the peak"
    several = f", {figures['dispatch']} a dispatch" if figures["dispatch"] > 1 else ""
    if "clips_per_second" in figures:
        rates = f"{figures['clips_per_second']:.2f} clips/s ({figures['frames_per_second']:.1f} frames/s), "
        rates += f"{figures['clips_per_second_per_device']:.2f} clips/s a device"
    else:
        rates = (
            f"{figures['images_per_second']:.1f} img/s, {figures['images_per_second_per_device']:.1f} img/s a device"
        )
    cached = ", from the cache" if figures["compile_from_cache"] else ""
    return "\n".join(
        (
            f"training: {time_['median']:.2f} ms an update ({time_['least']:.2f} to {time_['most']:.2f} in "
            f"{figures['blocks']} blocks of {figures['updates']}{several})",
            f"  {figures['updates_per_second']:.2f} updates/s, {rates}",
            f"  the host, an update: input {host['input']:.2f} ms, placing {host['place']:.2f}, queueing "
            f"{host['dispatch']:.2f}, waiting for the devices {host['read']:.2f}, between {host['between']:.2f}; "
            f"waiting for input {100 * figures['input_share']:.2f} %",
            f"  {flops['an_update'] / 1e9:,.2f} GFLOP an update and device, {flops['per_second'] / 1e12:,.3f} TFLOP/s: "
            f"{share} ({flops['note']})",
            f"  peak memory {memory['bytes'] / GIB:.2f} GiB of {memory['of']}; compiled in "
            f"{figures['compile_seconds']:.1f} s{cached}",
        )
    )


def inpainting_line(figures: dict[str, Any]) -> str:
    """The figures of filling pictures or a clip, to be read."""
    time_, unit, rate = figures["milliseconds"], "picture", f"{figures.get('images_per_second', 0):.1f} img/s"
    if "frames" in figures:
        unit, rate = "frame", f"{figures['frames_per_second']:.1f} frames/s"
    return (
        f"inpainting: {rate}, {time_['median']:.2f} ms a {unit} "
        f"({time_['least']:.2f} to {time_['most']:.2f} in {figures['runs']} runs of {figures[f'{unit}s']} {unit}s)"
        f"; the first run, with compiling, {figures['first_seconds']:.1f} s"
    )


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    return {"median": 1e3 * statistics.median(seconds), "least": 1e3 * min(seconds), "most": 1e3 * max(seconds)}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout
        return None


if __name__ == "__main__":
    sys.exit(main())
