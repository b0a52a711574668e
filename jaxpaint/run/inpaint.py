"""``jaxpaint inpaint``: one picture or a folder of them, in a stream.

Threads read, decode and check pictures ahead; those of one bucket are collected until they make a batch; other threads
write results while the device works. No more than a few batches of pictures are in memory at any time. A bad file is
reported by name, and the others are done all the same.
"""

import argparse
import pathlib
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from jaxpaint.ops.masks.check import CONVENTIONS, binarise, match
from jaxpaint.run.console import plain
from jaxpaint.run.flags import add_subject, opened, seed
from jaxpaint.types import InputError

FORMATS = ("auto", "png", "jpeg", "webp", "keep")

READERS, WRITERS = 4, 4
HELD = 4
"""Pictures in memory, in batches."""

EPILOG = """formats: auto keeps the format where it is lossless (PNG, WebP, BMP) and writes PNG for a JPEG, so that
known pixels come back bit for bit. jpeg, or keep for a JPEG, encodes the picture anew, with the original's
quality tables: known pixels change by what JPEG changes. EXIF, colour profile, alpha and 16-bit grey are kept.

--model.FIELD=VALUE sets a field of the system's config that the weights do not depend on (see its page).

a program is compiled for each size of batch and kept for the next call, below ~/.cache/jaxpaint;
JAX_COMPILATION_CACHE_DIR=DIR keeps it elsewhere, JAX_ENABLE_COMPILATION_CACHE=false does not keep it.

exit status: 0 all done, 1 some pictures failed (each is named), 2 nothing was done."""


class Item(NamedTuple):
    """One picture to do. mask: a file, or None where it lies in the picture's alpha. number: its position."""

    source: pathlib.Path
    mask: pathlib.Path | None
    output: pathlib.Path
    number: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``jaxpaint inpaint``."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EPILOG
    parser.add_argument("picture", metavar="PICTURE_OR_FOLDER", type=pathlib.Path)
    parser.add_argument(
        "--mask",
        metavar="FILE_OR_FOLDER",
        type=pathlib.Path,
        help="one mask for all pictures, or a folder of masks that are called as their pictures; "
        "may be left out with --mask-convention alpha: then each picture's own alpha is its mask",
    )
    parser.add_argument("--out", metavar="FILE_OR_FOLDER", type=pathlib.Path, required=True)
    add_subject(parser)
    parser.add_argument("--mask-convention", choices=CONVENTIONS, default="hole-white", help="default: hole-white")
    parser.add_argument(
        "--mask-dilate", metavar="N", type=int, default=0, help="grow the hole by N pixels to each side"
    )
    parser.add_argument("--allow-empty", action="store_true", help="a picture without a hole is copied, not an error")
    parser.add_argument(
        "--max-pixels",
        metavar="N",
        type=int,
        default=1024 * 1024,
        help="pixels at once on a device: larger pictures are cut into overlapped tiles; default 1048576, 0 = no limit",
    )
    parser.add_argument("--batch", metavar="N", type=int, default=8, help="pictures at once on a device; default 8")
    parser.add_argument(
        "--spatial",
        metavar="N",
        type=int,
        default=1,
        help="split the rows of every picture over N devices, which then take N times --max-pixels; default 1",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of systems that draw noise; default 0")
    parser.add_argument("--format", choices=FORMATS, default="auto", help="of the results; default auto, see below")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--verbose", action="store_true", help="print the memory plan of every program, and every file")


def main(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit status.

    Raises:
      InputError: nothing could be done.
    """
    _check_options(arguments)
    items = plan(arguments)
    from rich.console import Console
    from rich.progress import track

    from jaxpaint.run.cache import use_cache

    use_cache()
    with plain(arguments.verbose):
        inpainter = opened(arguments, spatial=arguments.spatial)
        inpainter.check_pictures()
        started, failed = time.perf_counter(), 0
        quiet = len(items) == 1 or not sys.stderr.isatty()
        shown = track(stream(inpainter, items, arguments), "", len(items), console=Console(stderr=True), disable=quiet)
        for item, error in shown:
            if error is not None:
                failed += 1
                print(
                    f"error: {error}" if str(item.source) in error else f"error: {item.source}: {error}",
                    file=sys.stderr,
                )
            elif arguments.verbose or len(items) == 1:
                print(item.output)
    seconds = time.perf_counter() - started
    if len(items) > 1:
        done = len(items) - failed
        print(f"{done} of {len(items)} pictures in {seconds:.1f} s ({done / seconds:.1f}/s), {failed} failed")
    return 2 if failed == len(items) else int(failed > 0)


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuses numbers with which no picture could be done."""
    from jaxpaint.ops.tiles import SMALLEST

    if arguments.batch < 1:
        raise InputError(f"--batch is {arguments.batch}: expected 1 or more")
    if arguments.max_pixels and arguments.max_pixels < SMALLEST:
        raise InputError(
            f"--max-pixels is {arguments.max_pixels}: expected {SMALLEST} (128x128) or more, or 0 for no limit"
        )
    if arguments.mask_dilate < 0:
        raise InputError(f"--mask-dilate is {arguments.mask_dilate}: expected 0 or more")


def plan(arguments: argparse.Namespace) -> list[Item]:
    """Which picture goes with which mask, and where its result goes; everything that can be refused before work starts.

    Raises:
      InputError: a path does not exist, a picture has no mask, a result would replace an input, another result, or,
        without ``--overwrite``, any file.
    """
    from jaxpaint.data.folder import list_pictures
    from jaxpaint.io.images import exact, output_path, writable

    source, out = arguments.picture, arguments.out
    if source.is_dir():
        root, names = source, [pathlib.Path(name) for name in list_pictures(str(source))]
        if out.suffix and not out.is_dir():
            raise InputError(f"--out {out} looks like a file, and {source} is a folder: give a folder")
    elif source.exists():
        root, names = source.parent, [pathlib.Path(source.name)]
    else:
        raise InputError(f"{source} does not exist: give a picture or a folder of pictures")
    masks = _masks(arguments, names)
    if not source.is_dir() and out.suffix and not out.is_dir():
        outputs = [writable(out)]
        wanted = output_path(pathlib.Path(out.name), out.parent, arguments.format)
        if arguments.format in ("png", "jpeg", "webp") and wanted != out:
            raise InputError(f"--out {out} and --format {arguments.format} contradict each other: leave one out")
    else:
        outputs = [output_path(name, out, arguments.format) for name in names]
    items = [
        Item(root / name, mask, output, n)
        for n, (name, mask, output) in enumerate(zip(names, masks, outputs, strict=True))
    ]
    _check_outputs(items, arguments.overwrite)
    lossy = sum(not exact(output) for output in outputs)
    if lossy:
        print(f"note: {lossy} result(s) are written as JPEG, which changes known pixels, too", file=sys.stderr)
    return items


def stream(inpainter, items: list[Item], arguments: argparse.Namespace) -> Iterator[tuple[Item, str | None]]:
    """Does the items; yields each with None, or with what went wrong, as it is finished."""
    from jaxpaint.ops.pad import bucket

    limit = arguments.max_pixels or None
    batch = arguments.batch * inpainter.filler.groups
    shared = _shared_mask(items, arguments)
    waiting: dict[tuple, list] = {}
    writing: deque[tuple[Item, Future]] = deque()

    def flush(members: list) -> Iterator[tuple[Item, str]]:
        """Runs the pictures of a bucket and hands them to the writers; yields those that failed."""
        try:
            results = inpainter.run(
                [job for _, _, job in members], seed=arguments.seed, batch_size=arguments.batch, max_pixels=limit
            )
        except InputError as error:
            if len(members) == 1:
                yield members[0][0], str(error)
            else:  # one of them may be to blame, and the others are done all the same
                for member in members:
                    yield from flush([member])
            return
        for (item, picture, job), result in zip(members, results, strict=True):
            writing.append((item, writers.submit(_save, item, picture, result, job.mask, arguments)))

    def written(most: int) -> Iterator[tuple[Item, str | None]]:
        """Waits until no more than `most` results are being written."""
        while len(writing) > most:
            item, future = writing.popleft()
            yield item, _error(future)

    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(WRITERS) as writers:
        for item, future in _ahead(readers, items, 2 * batch, lambda item: _load(item, shared, arguments)):
            error = _error(future)
            if error is not None:
                yield item, error
                continue
            picture, job = future.result()
            height, width = job.image.shape[:2]
            tiled = limit is not None and height * width > limit * inpainter.filler.spatial
            key = (item.number,) if tiled else (bucket(height), bucket(width))
            waiting.setdefault(key, []).append((item, picture, job))
            if tiled or len(waiting[key]) == batch:
                yield from flush(waiting.pop(key))
            elif sum(map(len, waiting.values())) >= HELD * batch:
                yield from flush(waiting.pop(max(waiting, key=lambda key: len(waiting[key]))))
            yield from written(HELD * batch)
        for key in list(waiting):
            yield from flush(waiting.pop(key))
        yield from written(0)


def _ahead(pool: ThreadPoolExecutor, items: list[Item], most: int, work) -> Iterator[tuple[Item, Future]]:
    """The items in order with their futures, of which at most `most` are ahead."""
    started: deque[tuple[Item, Future]] = deque()
    for item in items:
        started.append((item, pool.submit(work, item)))
        if len(started) > most:
            yield started.popleft()
    yield from started


def _load(item: Item, shared: np.ndarray | None, arguments: argparse.Namespace):
    """(picture, job) of an item, in a reader's thread."""
    from jaxpaint.io.images import read
    from jaxpaint.run.prepare import prepare

    picture = read(item.source)
    if item.mask is None:
        mask = binarise(picture.pixels, "alpha", name=str(item.source), allow_empty=arguments.allow_empty)
    else:
        mask = _read_mask(item.mask, arguments) if shared is None else shared
        match(mask, picture.rgb.shape, name=str(item.mask))
    job = prepare(picture.rgb, mask, item.number, mask_dilate=arguments.mask_dilate, name=str(item.source))
    return picture, job


def _save(item: Item, picture, result: np.ndarray, mask: np.ndarray, arguments: argparse.Namespace) -> None:
    """Writes one result, in a writer's thread."""
    from jaxpaint.io.images import fill, write

    filled = fill(picture, result, mask, opaque=item.mask is None)
    try:
        write(item.output, filled)
    except OSError as error:
        raise InputError(f"the result cannot be written to {item.output}: {error.strerror or error}") from error


def _error(future: Future) -> str | None:
    """What a bad file or a full disk has to say; any other exception is a defect and is raised."""
    try:
        future.result()
    except InputError as error:
        return str(error)
    return None


def _masks(arguments: argparse.Namespace, names: list[pathlib.Path]) -> list[pathlib.Path | None]:
    """The mask file of each picture."""
    from jaxpaint.data.folder import list_pictures
    from jaxpaint.data.masks import pair

    mask = arguments.mask
    if mask is None:
        if arguments.mask_convention != "alpha":
            raise InputError("no --mask is given: only with --mask-convention alpha it lies in the picture itself")
        return [None] * len(names)
    if not mask.exists():
        raise InputError(f"--mask {mask} does not exist")
    if not mask.is_dir():
        return [mask] * len(names)
    files = list_pictures(str(mask))
    return [mask / files[number] for number in pair([str(name) for name in names], files, str(mask))]


def _shared_mask(items: list[Item], arguments: argparse.Namespace) -> np.ndarray | None:
    """The mask that all of several pictures share, read once."""
    files = {item.mask for item in items}
    if len(items) == 1 or len(files) > 1 or None in files:
        return None
    return _read_mask(files.pop(), arguments)


def _read_mask(path: pathlib.Path, arguments: argparse.Namespace) -> np.ndarray:
    from jaxpaint.io.images import read_mask

    return read_mask(path, arguments.mask_convention, allow_empty=arguments.allow_empty)


def _check_outputs(items: list[Item], overwrite: bool) -> None:
    inputs = {path.resolve() for item in items for path in (item.source, item.mask) if path is not None}
    taken: dict[pathlib.Path, Item] = {}
    for item in items:
        place = item.output.resolve()
        if place in inputs:
            raise InputError(f"the result {item.output} would replace an input: give another --out")
        if place in taken:
            raise InputError(
                f"{taken[place].source} and {item.source} would both become {item.output}: "
                "rename one of them, or give --format keep"
            )
        taken[place] = item
    exist = [item.output for item in items if item.output.exists()]
    if exist and not overwrite:
        raise InputError(f"{len(exist)} result(s) exist already, {exist[0]} first: give --overwrite or another --out")
