"""Evaluation: figures of a checkpoint, a published file or a baseline on held-out pictures and frozen masks.

`evaluate` is the measurement: a function that fills holes, pictures, masks, and a dict of results. `main` is the
command line around it: it prints and writes a table, ``metrics.json`` with the protocol card, a sheet of pictures
and a CSV with a row a picture. Two runs of one command write the same bytes.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpaint.io.atomic import replacing
from jaxpaint.metrics import METRICS, STANDARD
from jaxpaint.run.console import plain
from jaxpaint.run.protocol import (
    ALL_BUCKETS,
    RESIZING,
    FolderMasks,
    Pictures,
    card,
    frozen_masks,
    mask_card,
    parse_size,
    size_name,
    to_json,
)
from jaxpaint.run.sheet import COLUMNS, sheet, with_grey_hole
from jaxpaint.run.subject import BASELINES, Inpaint, Subject, subject
from jaxpaint.run.tables import tables, to_csv, to_png
from jaxpaint.types import InputError

DEFAULT_MASK_SET = ALL_BUCKETS
SHEET_ROWS = 8
DIGITS = 8  # of a value in the JSON: far below what is quoted, far above what another machine's sums may move


class Seen(NamedTuple):
    """One picture of an evaluation, for whoever wants to look at it. `values` by metric and region."""

    position: int
    bucket: str
    image: np.ndarray
    mask: np.ndarray
    result: np.ndarray
    values: Mapping[str, Mapping[str, float | str]]


def evaluate(
    inpaint: Inpaint,
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray] | Mapping[str, Sequence[np.ndarray]],
    *,
    metrics: Sequence[str] = STANDARD,
    batch: int = 8,
    observe: Callable[[Seen], None] | None = None,
) -> dict[str, Any]:
    """Measures a function that fills holes.

    Args:
      inpaint: see `Inpaint`
      images: ground truth, uint8 h w 3 of any sizes; only indexed, so it may decode when asked
      masks: one for each picture, uint8 h w 1, 1 = hole; or several such sequences by name of the bucket: every
        picture is then filled once a bucket, and there are figures for each bucket and for all together
      metrics: ids of `METRICS`
      batch: pictures handed to `inpaint` at once
      observe: is shown every picture, in order

    Returns:
      ``{"n", "results": {metric: {region: result}}, "buckets": {bucket: results}}``, a result being
      ``{"value", "n"}`` and more (see `jaxpaint.metrics.metric.Mean.result`); no "buckets" for masks in one sequence.

    Raises:
      InputError: no pictures, a mask that does not fit or is empty or full, an unknown metric, a bad result.
    """
    for name in metrics:
        if name not in METRICS:
            raise InputError(f"there is no metric {name!r}: there are {', '.join(METRICS)}")
    buckets = masks if isinstance(masks, Mapping) else {"": masks}
    if len(images) == 0:
        raise InputError("there are no pictures to evaluate on (N = 0): give at least one")
    for bucket, group in buckets.items():
        if len(group) != len(images):
            where = f" in bucket {bucket}" if bucket else ""
            raise InputError(f"there are {len(group)} masks{where} for {len(images)} pictures: one each is expected")
    states = {bucket: {name: METRICS[name].init() for name in metrics} for bucket in buckets}
    for start in range(0, len(images), batch):
        positions = list(range(start, min(start + batch, len(images))))
        truths = [images[position] for position in positions]
        for bucket, group in buckets.items():
            holes = [_checked(group[p], image, p) for p, image in zip(positions, truths, strict=True)]
            results = list(inpaint(truths, holes, positions))
            _check_results(results, truths)
            measured = {name: METRICS[name].measure(results, truths, holes) for name in metrics}
            for name in metrics:
                states[bucket][name] = METRICS[name].update(states[bucket][name], measured[name])
            if observe is not None:
                for row, position in enumerate(positions):
                    values = {name: _row(measured[name], METRICS[name].regions, row) for name in metrics}
                    observe(Seen(position, bucket, truths[row], holes[row], results[row], values))
    whole = {}
    for name in metrics:
        state = METRICS[name].init()
        for bucket in buckets:
            state = METRICS[name].merge(state, states[bucket][name])
        whole[name] = state
    report = {"n": len(images), "results": _results(whole)}
    if isinstance(masks, Mapping):
        report["buckets"] = {bucket: _results(states[bucket]) for bucket in buckets}
    return report


def flat(report: Mapping[str, Any]) -> dict[str, float]:
    """The overall figures by short name (``psnr``, ``psnr_hole``, ``outside_max_abs_diff``), without undefined ones."""
    values = {}
    for name, regions in report["results"].items():
        for region, result in regions.items():
            if result["value"] is not None:
                values[f"{name}_{region}" if region == "hole" else name] = result["value"]
    return values


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(prog="evaluate.py", description=__doc__.split("\n\n")[0], allow_abbrev=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", metavar="PATH", help="a run's folder, or that of its checkpoints")
    what.add_argument("--published", nargs=2, metavar=("SYSTEM", "FILE"), help="a file that the authors published")
    what.add_argument("--baseline", choices=sorted(BASELINES), help="a fill without a network")
    parser.add_argument("--step", type=int, help="step of the checkpoint; default the newest")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of pictures, an .npz file, or demo")
    masks = parser.add_mutually_exclusive_group()
    masks.add_argument("--masks", metavar="DIR", help="folder of masks")
    masks.add_argument(
        "--mask-set", metavar="NAME", help=f"a frozen set; default {DEFAULT_MASK_SET}: six buckets of hole share"
    )
    parser.add_argument("--mask-pairing", default="name", choices=("name", "seed"), help="of a folder with pictures")
    parser.add_argument("--mask-convention", default="hole-white", choices=("hole-white", "hole-black", "alpha"))
    parser.add_argument("--size", default="256", metavar="256|HxW|original", help="evaluated size; default 256")
    parser.add_argument("--resize", default="center-crop", choices=sorted(RESIZING), help="how pictures get that size")
    parser.add_argument("--metrics", default="standard", metavar="standard|all|ID,ID", help="see the protocol card")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures, in the order of their names")
    parser.add_argument("--seed", type=int, default=0, help="of masks and noise")
    parser.add_argument("--batch", type=int, default=8, help="pictures at once")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="of activations")
    parser.add_argument("--out", metavar="DIR", help="default: evaluations/ beside the checkpoint")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Runs an evaluation; returns the exit status: 0, or 2 on bad input."""
    from jaxpaint.io.checkpoint_folder import CheckpointError

    arguments = parse(sys.argv[1:] if argv is None else argv)
    try:
        with plain():
            run(arguments, say)
    except (InputError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(arguments: argparse.Namespace, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Does what the arguments say; returns what ``metrics.json`` holds."""
    if arguments.batch < 1:
        raise InputError(f"--batch {arguments.batch}: expected 1 or more")
    metrics = _metrics(arguments.metrics)
    # The cheap mistakes come out before weights are read.
    pictures = Pictures(arguments.data, parse_size(arguments.size), arguments.resize, arguments.limit)
    if arguments.masks:
        masks = FolderMasks(
            arguments.masks, pictures, arguments.mask_pairing, arguments.mask_convention, arguments.seed
        )
    else:
        masks = frozen_masks(arguments.mask_set or DEFAULT_MASK_SET, pictures, arguments.seed)
    what = subject(arguments)
    say(f"{what.card['system']} on {len(pictures)} pictures of {pictures.dataset} at {size_name(pictures.size)}")

    rows, records, began = {}, [], time.perf_counter()

    def observe(seen: Seen) -> None:
        if seen.position < SHEET_ROWS and seen.bucket == _sheet_bucket(masks, seen.position):
            rows[seen.position] = (with_grey_hole(seen.image, seen.mask), seen.result, seen.image)
        records.append((seen.position, _record(pictures.label(seen.position), seen, metrics)))

    report = evaluate(what.inpaint, pictures, masks, metrics=metrics, batch=arguments.batch, observe=observe)
    report["protocol"] = card(subject=what.card, data=pictures.card(), masks=mask_card(masks), metrics=metrics)
    out = pathlib.Path(arguments.out) if arguments.out else what.home / _name(what, pictures, report)
    table = tables(report)
    files = {
        "table.md": (table + "\n").encode(),
        "sheet.png": to_png(sheet([rows[position] for position in sorted(rows)], COLUMNS)),
        "pictures.csv": to_csv([record for _, record in sorted(records, key=lambda row: row[0])]),
        "metrics.json": to_json(report).encode(),
    }
    say(table)  # before anything is written: a full disk does not cost the figures
    for name, data in files.items():
        try:
            with replacing(out / name) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise InputError(
                f"{out / name} cannot be written: {error.strerror or error}; give another --out"
            ) from error
    say("protocol card:\n" + to_json(report["protocol"]).rstrip())
    say(f"{time.perf_counter() - began:.1f} s; wrote {', '.join(files)} to {out}")
    return report


def _checked(mask: np.ndarray, image: np.ndarray, position: int) -> np.ndarray:
    """The mask as uint8, if it can be measured with."""
    mask = np.asarray(mask)
    if mask.shape != (*image.shape[:2], 1):
        raise InputError(
            f"picture {position}: the mask has the shape {mask.shape} but the picture is "
            f"{image.shape[0]}x{image.shape[1]}: resize one of them"
        )
    if not np.isin(mask, (0, 1)).all():
        raise InputError(f"picture {position}: the mask has values other than 0 and 1 (1 = hole): make it binary")
    if not mask.any() or mask.all():
        state = "full" if mask.any() else "empty"
        raise InputError(f"picture {position}: the mask is {state}: there is nothing to measure; give another mask")
    return mask.astype(np.uint8)


def _check_results(results: list, truths: list) -> None:
    if len(results) != len(truths):
        raise InputError(f"inpaint gave {len(results)} results for {len(truths)} pictures: one each is expected")
    for result in results:
        if result.dtype != np.uint8:
            raise InputError(f"inpaint gave {result.dtype} pictures: uint8 in 0..255 is expected")


def _results(states: Mapping[str, Any]) -> dict[str, Any]:
    results = {name: METRICS[name].compute(state) for name, state in states.items()}
    for regions in results.values():
        for result in regions.values():
            if result["value"] is not None:
                result["value"] = round(result["value"], DIGITS)
    return results


def _row(measured: Mapping[str, Sequence], regions: Sequence[str], row: int) -> dict[str, float | str]:
    """One picture's values; none of a metric that only a whole set has (its measurements are not by region)."""
    return {region: measured[region][row] for region in regions if region in measured}


def _metrics(text: str) -> tuple[str, ...]:
    if text == "standard":
        return STANDARD
    if text == "all":
        return tuple(METRICS)
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in METRICS]
    if unknown or not chosen:
        raise InputError(f"--metrics {text}: there is no {', '.join(unknown)}; there are {', '.join(METRICS)}")
    return tuple(dict.fromkeys(["outside_max_abs_diff", *chosen]))  # always reported


def _sheet_bucket(masks: Any, position: int) -> str:
    """One row a picture: the sheet goes through the buckets."""
    return list(masks)[position % len(masks)] if isinstance(masks, Mapping) else ""


def _record(label: str, seen: Seen, metrics: Sequence[str]) -> dict[str, Any]:
    record = {"picture": label, "bucket": seen.bucket, "hole": f"{seen.mask.mean():.4f}"}
    for name in metrics:
        for region, value in seen.values[name].items():
            record[f"{name} {region}"] = value if isinstance(value, str) else f"{value:.{DIGITS}g}"
    return record


def _name(what: Subject, pictures: Pictures, report: Mapping) -> str:
    """The folder of a result, from what was measured."""
    about = report["protocol"]
    step = what.card["step"]
    parts = [
        what.card["system"] + ("" if step is None else f"-{step}"),
        f"{pictures.dataset}-{pictures.split}" + f"-{len(pictures)}",
        about["masks"]["set"],
        size_name(pictures.size),
    ]
    return "_".join(part.replace(" ", "-") for part in parts)
