"""What the commands for clips share: the clip and its masks, where a result goes, progress. See `flags.py`, too."""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

from jaxpaint.io.frames import Clip, Put
from jaxpaint.train.system import Extent
from jaxpaint.types import InputError


def source(arguments: argparse.Namespace) -> tuple[Clip, Clip, Clip]:
    """(clip, its masks as given, the holes: masks dilated and widened). All masks are looked at here.

    Raises:
      InputError: clip or masks cannot be used.
    """
    from jaxpaint.io.video import open_clip
    from jaxpaint.io.video_masks import open_masks, widen
    from jaxpaint.ops.tiles import SMALLEST
    from jaxpaint.run.fill_clip import dilated

    for name in ("mask_dilate", "mask_widen"):
        if getattr(arguments, name) < 0:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}: expected 0 or more")
    if arguments.max_pixels and arguments.max_pixels < SMALLEST:
        raise InputError(f"--max-pixels is {arguments.max_pixels}: expected {SMALLEST} (128x128) or more, or 0")
    if arguments.masks.resolve() == arguments.clip.resolve() and arguments.mask_convention != "alpha":
        raise InputError(
            f"--masks {arguments.masks} is the clip itself: give its masks, or, where its alpha says them, "
            "--mask-convention alpha"
        )
    clip = open_clip(arguments.clip, arguments.rate)
    masks = open_masks(arguments.masks, clip, arguments.mask_convention, pairing=arguments.pairing)
    holes = widen(masks, arguments.mask_widen) if arguments.mask_widen else masks
    return clip, masks, dilated(holes, arguments.mask_dilate)


def check_result(
    out: pathlib.Path, clip: Clip, inputs: Iterable[pathlib.Path], overwrite: bool, first: int = 0
) -> None:
    """Raises InputError where a result may not be written to `out`: all that can be known before work starts.

    first: the frame of the clip that the result begins with
    """
    from jaxpaint.io.video_sink import FORMATS

    if out.resolve() in {path.resolve() for path in inputs}:
        raise InputError(f"the result {out} would replace an input: give another --out")
    if out.suffix:
        if out.suffix.lower() not in FORMATS or out.is_dir():
            raise InputError(f"--out {out}: give a file in {', '.join(FORMATS)}, or a folder without an ending")
        if out.exists() and not overwrite:
            raise InputError(f"{out} exists already: give --overwrite or another --out")
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file without an ending: give one in {', '.join(FORMATS)}, or a folder")
    there = set(os.listdir(out)) if out.exists() else set()
    if there and not overwrite:
        raise InputError(f"{out} exists already and is not empty: give --overwrite or another --out")
    strange = sorted(there - set(_frame_names(clip)[first:]))
    if strange:
        others = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise InputError(
            f"{out} holds {strange[0]!r}{others}, which is no frame of this result: --overwrite replaces frames and "
            "deletes nothing; give another --out"
        )


@contextlib.contextmanager
def written(out: pathlib.Path, clip: Clip, **how: Any) -> Iterator[Put]:
    """`jaxpaint.io.video_sink.open_sink`, also for a folder that holds the frames of an earlier result.

    Raises:
      InputError: the result cannot be written.
    """
    from jaxpaint.io.video_sink import open_sink

    again = out.is_dir() and any(out.iterdir())
    target = out
    try:
        with contextlib.ExitStack() as stack:
            if again:
                hidden = tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent)
                target = pathlib.Path(stack.enter_context(hidden)) / out.name
            with open_sink(target, clip, **how) as put:
                yield put
            if again:  # `check_result` has seen that nothing but these frames lies there
                for name in os.listdir(target):
                    os.replace(target / name, out / name)
    except OSError as error:
        raise InputError(f"the result cannot be written to {out}: {error.strerror or error}") from error


def _frame_names(clip: Clip) -> list[str]:
    """What `jaxpaint.io.frames.folder_sink` calls the frames of a clip's result."""
    names = [os.path.splitext(name)[0] for name in clip.names] or [f"{index:05d}" for index in range(clip.count)]
    return [f"{name}.png" for name in names]


class Progress:
    """How far a command is: a bar on stderr where a person looks on.

    ``with Progress(clip.count, verbose) as progress: progress.say("fitting ...")``; `progress.step()` after each frame.
    """

    def __init__(self, count: int, verbose: bool):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.shown = not verbose and sys.stderr.isatty()
        self.verbose, self.count, self.started = verbose, count, time.perf_counter()
        self.bar = Progress(*columns, console=Console(stderr=True), disable=not self.shown, transient=True)
        self.task = self.bar.add_task("frames", total=count)

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *error) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """What a system tells of its work."""
        if self.verbose:
            print(text, file=sys.stderr, flush=True)
        self.bar.update(self.task, description=text)

    def step(self) -> None:
        """One more frame is done."""
        self.bar.advance(self.task)

    def result(self, out: pathlib.Path) -> str:
        """The closing line."""
        seconds = time.perf_counter() - self.started
        return f"{out}: {self.count} frames in {seconds:.1f} s ({self.count / seconds:.2f} frames/s)"


def never_seen(holes: Clip) -> float:
    """The share of the hole that is hole in every frame: in a clip whose camera stands still, nobody saw what is there.

    One look at every mask.
    """
    always, total = None, 0
    for hole in holes:
        always = hole if always is None else always & hole
        total += int(hole.sum())
    return float(always.sum()) * holes.count / total if total else 0.0


def tell_of(clip: Clip, holes: Clip, given: Extent, out: pathlib.Path, lossless: bool) -> None:
    """Notes on stderr that the user of a clip may want to have before it is filled.

    Raises:
      InputError: the system gives no frame of this clip.
    """
    if given.first >= clip.count:
        raise InputError(f"{clip.name} has {clip.count} frames, and the system's protocol writes none of them")
    if given != (0, clip.height, clip.width):
        print(
            f"note: the system's protocol gives frames of {given.height}x{given.width}, from frame {given.first} of "
            f"{clip.name} on",
            file=sys.stderr,
        )
    share = never_seen(holes)
    if clip.count > 1 and share > 0.005:
        print(
            f"note: {share:.0%} of the hole is hole in every frame: unless the camera moves, nobody saw what is there",
            file=sys.stderr,
        )
    if out.suffix and not lossless:
        print("note: H.264 changes known pixels a little: a folder, or --lossless (.mkv), keeps them", file=sys.stderr)
