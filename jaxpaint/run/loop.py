"""The training loop, to be read from top to bottom."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

from jaxpaint.data import open_source, stream
from jaxpaint.io.checkpoint import FOLDER, Checkpoints
from jaxpaint.parallel.mesh import check_batch, make_mesh, share
from jaxpaint.run import report
from jaxpaint.run.compiles import Compiles
from jaxpaint.run.config import Experiment, from_dict, to_dict
from jaxpaint.run.guard import Guard
from jaxpaint.run.log import Log
from jaxpaint.run.progress import Window, duration, figures
from jaxpaint.run.samples import Samples
from jaxpaint.run.signals import StopSignal
from jaxpaint.run.start import published_weights, start
from jaxpaint.run.step import check_kind, compile_training
from jaxpaint.run.turn import read, turn
from jaxpaint.run.validate import ClipValidator, Validator
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import State, compute_dtype
from jaxpaint.types import InputError

PROFILED = range(5, 10)
"""The dispatches after the start of a run that ``--profile`` traces: compiled, and past the first of everything."""


def train(
    experiment: Experiment,
    workdir: str | pathlib.Path,
    *,
    resume: bool = True,
    init_from: str | None = None,
    profile: bool = False,
    say: Callable[[str], None] = print,
) -> State:
    """Trains, from the newest good checkpoint in `workdir` where there is one.

    Args:
      experiment: see `jaxpaint.run.config`
      workdir: checkpoints, metrics, samples and traces go here
      resume: False refuses a workdir that holds checkpoints
      init_from: a checkpoint to take fitting weights from, for a run that starts at step 0
      profile: write a trace of a few steps to workdir/profile
      say: where lines for the user go

    Returns:
      The last state.

    Raises:
      InputError: a config, source or checkpoint that cannot be used.
      NonFiniteError: losses or gradients stay not finite.
    """
    settings, clips = experiment.train, experiment.data.frames > 0
    check_kind(experiment)
    if "://" in str(workdir):
        raise InputError(f"--workdir {workdir} is an address: give a folder, of a shared file system for several hosts")
    workdir = pathlib.Path(workdir).expanduser()
    mesh = make_mesh(experiment.mesh)
    check_batch(settings.batch, mesh, experiment.optim.accumulate)
    process, processes = share(mesh)
    _check_dispatch(experiment)
    page = SYSTEMS[experiment.system]
    system = page.build(experiment.model, experiment.optim, compute_dtype(settings.precision))
    source = open_source(experiment.data)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--workdir {workdir} cannot be made: {error.strerror or error}") from error
    best = experiment.validation.best if experiment.validation.every else ""
    kept = {"keep": settings.keep, "best": best, "mode": "min" if best.startswith("l1") else "max"}
    with Compiles(say) as compiles, Checkpoints(workdir / FOLDER, **kept) as checkpoints:
        _check_workdir(experiment, checkpoints, resume)
        # Before anything is compiled: a file may be missing. A run that resumes needs none.
        published = published_weights(system) if checkpoints.latest() is None else {}
        program = compile_training(experiment, system, source, mesh)
        say(f"{experiment.system}: {page.title}")
        for note in system.notes:
            say(f"note: {note}")
        say(report.parameter_table(program.abstract.params))
        say(report.cost_lines(program, mesh))

        state, first = start(program, checkpoints, settings.seed, published, init_from, say)
        _check_dispatch(experiment, first)
        batches = stream(
            experiment.data,
            batch=settings.batch,
            seed=settings.seed,
            start_step=first,
            process=process,
            processes=processes,
            source=source,
        )
        noun = "clips" if clips else "pictures"
        say(f"data: {source.name}, {len(source):,} {noun}; steps {first:,} to {settings.steps:,}")
        log = Log(workdir, active=jax.process_index() == 0)
        guard = Guard(settings.nonfinite, settings.nonfinite_limit, settings.batch)
        samples = Samples(experiment, system, source) if settings.sample_every else None
        validating = ClipValidator if clips else Validator
        validator = validating(experiment, system) if experiment.validation.every else None
        stop = StopSignal()
        window = Window(settings.batch, first, settings.steps, compiles)
        pending = None
        saved = first if first else None
        try:
            for turns, number in enumerate(range(first, settings.steps, settings.dispatch)):
                if profile and turns == PROFILED.start:
                    jax.profiler.start_trace(str(workdir / "profile"))
                if turns == 2:  # by then everything that happens at every turn has happened
                    compiles.steady()
                state, metrics = turn(program, state, batches, settings.dispatch, window.times)
                # Reading the metrics of the step before keeps the device busy: this one is already queued.
                if pending is not None:
                    _receive(*pending, guard, window, experiment, log, say)
                pending = (number, metrics)
                done = number + settings.dispatch
                if profile and turns == PROFILED.stop - 1:
                    jax.block_until_ready(metrics)
                    jax.profiler.stop_trace()
                    say(f"profile of {len(PROFILED)} dispatches up to step {done:,} is in {workdir / 'profile'}")

                if samples and done % settings.sample_every == 0:
                    with compiles.first("samples"):
                        log.sheet(done, samples.sheet(state))
                validated = {}
                if validator and done % experiment.validation.every == 0:
                    with compiles.first("validation"):
                        validated = validator(state)
                    log.scalars(done, {f"validation/{k}": v for k, v in validated.items()})
                    say(f"step {done:,} validation: " + figures(validated))
                stopped = stop.reached()
                last = done == settings.steps or bool(stopped)
                if done % settings.checkpoint_every == 0 or validated or last:
                    # No checkpoint of a state that the guard has not seen.
                    _receive(*pending, guard, window, experiment, log, say)
                    pending = None
                    with compiles.first("checkpoint"):
                        checkpoints.save(done, state.items(), to_dict(experiment), metrics=validated or None, wait=last)
                    saved = done
                if stopped:
                    say(f"{stopped}: saved step {done:,} and stopped; the same command goes on from there")
                    break
        finally:
            stop.restore()
            batches.close()
            log.close()
        checkpoints.wait()
        if batches.broken:
            say(f"{len(batches.broken)} broken files were replaced by others: {', '.join(sorted(batches.broken))}")
        if saved is None:
            say(f"nothing to do: train.steps is {settings.steps}")
        return state


def _check_dispatch(experiment: Experiment, first: int = 0) -> None:
    """Refuses numbers of steps that cannot be, and one a dispatch that passes over a step at which something is to be
    done."""
    settings, validation = experiment.train, experiment.validation
    for name, least in {"dispatch": 1, "log_every": 1, "checkpoint_every": 1, "steps": 0, "sample_every": 0}.items():
        if getattr(settings, name) < least:
            raise InputError(f"train.{name} is {getattr(settings, name)}: expected {least} or more steps")
    if validation.every < 0:
        raise InputError(f"validation.every is {validation.every}: expected 0 (none) or more steps")
    stops = {
        "train.steps": settings.steps - first,
        "train.log_every": settings.log_every,
        "train.sample_every": settings.sample_every,
        "train.checkpoint_every": settings.checkpoint_every,
        "validation.every": validation.every,
    }
    odd = [f"{name} ({every})" for name, every in stops.items() if every % settings.dispatch]
    if odd:
        after = f" after step {first}" if first else ""
        raise InputError(
            f"train.dispatch is {settings.dispatch}, which does not divide {', '.join(odd)}{after}: "
            "everything happens between dispatches"
        )


def _check_workdir(experiment: Experiment, checkpoints: Checkpoints, resume: bool) -> None:
    """Refuses checkpoints that must not be resumed: unwanted ones, and those of another system or network."""
    latest = checkpoints.latest()
    if latest is not None and not resume:
        raise InputError(
            f"{checkpoints.directory} holds checkpoints up to step {latest}, and --no-resume was given: "
            "choose another --workdir, or leave --no-resume away to go on"
        )
    config = checkpoints.config()
    if config is None:  # none is there, or none is readable: restoring will say so
        return
    before = from_dict({"system": config.get("system"), "model": config.get("model", {})})
    for part in ("system", "model"):
        was, now = getattr(before, part), getattr(experiment, part)
        if was != now:
            raise InputError(
                f"the workdir's checkpoint is of another system: its {part} is {was!r}, the config's is {now!r}. "
                "Choose another --workdir; --init-from takes over the weights that fit"
            )


def _receive(
    number: int, metrics: Any, guard: Guard, window: Window, experiment: Experiment, log: Log, say: Callable
) -> None:
    """Reads the metrics of a dispatch that is done, checks them and logs at the end of an interval."""
    columns = {name: column.tolist() for name, column in read(metrics, window.times).items()}
    for row in zip(*columns.values(), strict=True):
        values = dict(zip(columns, row, strict=True))
        warning = guard.check(number, values)
        if warning:
            say(f"warning: {warning}")
        window.add(values)
        number += 1
    done = number
    if done % experiment.train.log_every == 0 or done == window.steps:
        means, speed = window.take(done)
        rate = f"{speed['images_per_second']:.1f} img/s"
        if experiment.data.frames:
            speed["clips_per_second"] = speed.pop("images_per_second")
            rate = f"{speed['clips_per_second']:.2f} clips/s"
        log.scalars(done, {**means, **{f"speed/{k}": v for k, v in speed.items()}})
        say(
            f"step {done:,}/{window.steps:,}  {figures(means)}  {rate}  "
            f"input {100 * speed['waiting_share']:.1f} %  ETA {duration(window.remaining(done))}"
        )
