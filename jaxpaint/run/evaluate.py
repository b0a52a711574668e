"""Evaluation: figures of a checkpoint, a published file or a baseline on held-out pictures and frozen masks.

The command line around the measurement (`jaxpaint.run.measure`): it prints and writes a table, ``metrics.json`` with
the protocol card, a sheet of pictures and a CSV with a row a picture. Two runs of one command write the same bytes, and
so do one process and many: each of several processes measures its share of the pictures on its own devices, and their
exact sums are merged.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxpaint.io.atomic import replacing
from jaxpaint.metrics import Metric
from jaxpaint.parallel import gather, hosts
from jaxpaint.run.cache import use_cache
from jaxpaint.run.console import ends_quietly, first_says, plain
from jaxpaint.run.figures import FEATURES, chosen, figures, notes
from jaxpaint.run.measure import DIGITS, Seen, evaluate
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
from jaxpaint.run.subject import BASELINES, Subject, subject
from jaxpaint.run.tables import tables, to_csv, to_png
from jaxpaint.run.train import config_overrides
from jaxpaint.types import InputError

DEFAULT_MASK_SET = ALL_BUCKETS
SHEET_ROWS = 8


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        description=__doc__.split("\n\n")[0],
        epilog="--model.FIELD=VALUE sets a field of the system's config that the weights do not depend on.",
        allow_abbrev=False,
    )
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
    parser.add_argument(
        "--metrics",
        default="standard",
        metavar="LIST",
        help="ids and groups (standard, all, perceptual, distribution) with commas; see the protocol card",
    )
    parser.add_argument(
        "--features",
        default="published",
        choices=FEATURES,
        help="weights of the networks that metrics look through; random gives no published figure",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures, in the order of their names")
    parser.add_argument("--seed", type=int, default=0, help="of masks and noise")
    parser.add_argument(
        "--batch", type=int, metavar="N", help="pictures at once on a device; default 8, or 1 for --size original"
    )
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="of activations")
    parser.add_argument("--out", metavar="DIR", help="default: evaluations/ beside the checkpoint")
    arguments, rest = parser.parse_known_args(argv)
    arguments.options = config_overrides(parser, rest, [], "--model.")
    return arguments


@ends_quietly
def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Runs an evaluation; returns the exit status: 0, or 2 on bad input.

    Where the environment tells of several processes (see `jaxpaint.parallel.hosts`) this is one of them.
    """
    from jaxpaint.io.checkpoint_folder import CheckpointError

    arguments = parse(sys.argv[1:] if argv is None else argv)
    try:
        with plain():
            hosts.start(hosts.Hosts())
            use_cache()
            run(arguments, say)
    except (InputError, CheckpointError, gather.PeerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return hosts.leave(2)
    return 0


def run(arguments: argparse.Namespace, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Does what the arguments say; returns what ``metrics.json`` holds.

    Of several processes each does its share, and the first alone prints and writes.
    """
    say = first_says(say)
    began = time.perf_counter()
    with gather.together():  # a host that lacks the data, or the memory, is no reason for the others to wait
        metrics, pictures, masks, what, batch = _prepared(arguments)
    say(f"{what.card['system']} on {len(pictures)} pictures of {pictures.dataset} at {size_name(pictures.size)}")

    seen_here = {"rows": [], "records": []}  # with the number of the picture in front

    def observe(seen: Seen) -> None:
        if seen.position < SHEET_ROWS and seen.bucket == _sheet_bucket(masks, seen.position):
            row = (with_grey_hole(seen.image, seen.mask), seen.result, seen.image)
            seen_here["rows"].append((seen.position, row))
        seen_here["records"].append((seen.position, _record(pictures.label(seen.position), seen, metrics)))

    report = evaluate(what.inpaint, pictures, masks, metrics=metrics, batch=batch, observe=observe)
    report["protocol"] = card(
        subject=what.card, data=pictures.card(), masks=mask_card(masks), metrics=metrics, notes=notes(metrics)
    )
    parts = gather.gather(seen_here)
    if jax.process_index() == 0:
        rows, records = (_ordered([row for part in parts for row in part[name]]) for name in ("rows", "records"))
        remarks = [*what.card["notes"], *notes(metrics)]
        out = _write(arguments, what, pictures, report, tables(report, metrics, remarks), rows, records, say)
        say(f"{time.perf_counter() - began:.1f} s; everything is in {out}")
    return report


def _prepared(arguments: argparse.Namespace) -> tuple:
    """(metrics, pictures, masks, subject, batch). The cheap mistakes come out before weights are read."""
    size = parse_size(arguments.size)
    # Pictures of many sizes make many short batches, which are filled up.
    batch = (8 if size else 1) if arguments.batch is None else arguments.batch
    if batch < 1:
        raise InputError(f"--batch {batch}: expected 1 or more")
    names = chosen(arguments.metrics)
    pictures = Pictures(arguments.data, size, arguments.resize, arguments.limit)
    metrics = figures(names, arguments.features)
    if arguments.masks:
        masks = FolderMasks(
            arguments.masks, pictures, arguments.mask_pairing, arguments.mask_convention, arguments.seed
        )
    else:
        masks = frozen_masks(arguments.mask_set or DEFAULT_MASK_SET, pictures, arguments.seed)
    what = subject(arguments, batch)
    return metrics, pictures, masks, what, batch * what.devices


def _write(
    arguments: argparse.Namespace,
    what: Subject,
    pictures: Pictures,
    report: Mapping[str, Any],
    table: str,
    rows: list,
    records: list,
    say: Callable[[str], None],
) -> pathlib.Path:
    """Prints the table and the card, and writes the files; returns their folder."""
    out = pathlib.Path(arguments.out) if arguments.out else what.home / _name(what, pictures, report)
    files = {
        "table.md": (table + "\n").encode(),
        "sheet.png": to_png(sheet(rows, COLUMNS)),
        "pictures.csv": to_csv(records),
        "metrics.json": to_json(report).encode(),
    }
    try:
        for name, data in files.items():
            with replacing(out / name) as temporary:
                temporary.write_bytes(data)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{out / name} cannot be written: {reason}; give another --out") from error
    finally:
        say(table)  # a full disk does not cost the figures, nor a closed pipe the files
    say("protocol card:\n" + to_json(report["protocol"]).rstrip())
    return out


def _ordered(numbered: list) -> list:
    """What belongs to pictures, in the order of their numbers; that of buckets stays."""
    return [value for _, value in sorted(numbered, key=lambda pair: pair[0])]


def _sheet_bucket(masks: Any, position: int) -> str:
    """One row a picture: the sheet goes through the buckets."""
    return list(masks)[position % len(masks)] if isinstance(masks, Mapping) else ""


def _record(label: str, seen: Seen, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    record = {"picture": label, "bucket": seen.bucket, "hole": f"{seen.mask.mean():.4f}"}
    for name in metrics:
        for region, value in seen.values[name].items():
            record[f"{name} {region}"] = value if isinstance(value, str) else f"{value:.{DIGITS}g}"
    return record


def _name(what: Subject, pictures: Pictures, report: Mapping) -> str:
    """The folder of a result, from what was measured."""
    about = report["protocol"]
    step = what.card["step"]
    changed = "".join(f"-{name}={value}" for name, value in sorted(what.card.get("changed", {}).items()))
    parts = [
        what.card["system"] + ("" if step is None else f"-{step}") + changed,
        f"{pictures.dataset}-{pictures.split}" + f"-{len(pictures)}",
        about["masks"]["set"],
        size_name(pictures.size),
    ]
    return "_".join(part.replace(" ", "-") for part in parts)
