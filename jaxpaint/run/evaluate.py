"""Evaluation: figures of a checkpoint, a published file or a baseline on held-out pictures or clips and frozen masks.

The command line around the measurement (`jaxpaint.run.measure`): it prints and writes a table, ``metrics.json`` with
the protocol card, a sheet of pictures and a CSV with a row a picture. Two runs of one command write the same bytes, and
so do one process and many: each of several processes measures its share of the pictures on its own devices, and their
exact sums are merged. With ``--video`` the data are clips (`jaxpaint.run.clips`).
"""

import argparse
import functools
import hashlib
import json
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxpaint.io.atomic import replacing
from jaxpaint.metrics import Metric
from jaxpaint.metrics.clips import AVERAGES
from jaxpaint.metrics.vfid import VFID_METRICS
from jaxpaint.parallel import gather, hosts
from jaxpaint.run.cache import use_cache
from jaxpaint.run.clips import COMPOSITES, Clips, check_vfid, check_warping, clip_masks, pasted, spread, unwritten
from jaxpaint.run.clips import card as clip_card
from jaxpaint.run.console import ends_quietly, first_says, plain
from jaxpaint.run.figures import FEATURES, FLOWS, WARPING, chosen, clip_figures, figures, notes
from jaxpaint.run.flags import seed
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
    what.add_argument("--method", metavar="SYSTEM", help="one that learns from each clip and needs no weights (iivi)")
    what.add_argument("--baseline", choices=sorted(BASELINES), help="a fill without a network")
    parser.add_argument("--step", type=int, help="step of the checkpoint; default the newest")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of pictures, an .npz file, or demo")
    parser.add_argument(
        "--video", action="store_true", help="the data are clips: a folder of frame folders or video files, or one such"
    )
    masks = parser.add_mutually_exclusive_group()
    masks.add_argument("--masks", metavar="DIR", help="folder of masks; of clips also a video or a picture")
    masks.add_argument(
        "--mask-set",
        metavar="NAME",
        help=f"a frozen set; default {DEFAULT_MASK_SET}: six buckets of hole share; of clips still-freeform",
    )
    parser.add_argument(
        "--mask-pairing",
        default="name",
        choices=("name", "seed"),
        help="which mask of --masks a picture gets: name (default): the one of its name; seed: any, drawn by --seed",
    )
    parser.add_argument("--mask-convention", default="hole-white", choices=("hole-white", "hole-black", "alpha"))
    parser.add_argument("--size", default="256", metavar="256|HxW|original", help="evaluated size; default 256")
    parser.add_argument("--resize", default="center-crop", choices=sorted(RESIZING), help="how pictures get that size")
    parser.add_argument(
        "--metrics",
        default="standard",
        metavar="LIST",
        help="ids and groups (standard, all, perceptual, distribution; of clips also temporal) with commas; see the "
        "protocol card",
    )
    parser.add_argument(
        "--features",
        default="published",
        choices=FEATURES,
        help="weights of the networks that metrics look through; random gives no published figure",
    )
    clips = parser.add_argument_group("clips", "with --video")
    clips.add_argument("--frames", type=int, metavar="N", help="of each clip the first N; default 0: all")
    clips.add_argument(
        "--average",
        choices=sorted(AVERAGES),
        help="clips (default): the mean of each clip, then over clips; frames: over all frames",
    )
    clips.add_argument("--flow", choices=FLOWS, help="for ewarp; default raft, whose weights are a published file")
    clips.add_argument(
        "--composite",
        choices=sorted(COMPOSITES),
        help="paste: known pixels are pasted before measuring; subject (default): frames are measured as the system "
        "gives them",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures, in the order of their names")
    parser.add_argument("--seed", type=seed, default=0, help="of masks and noise; default 0")
    parser.add_argument(
        "--batch", type=int, metavar="N", help="pictures at once on a device; default 8, or 1 for --size original"
    )
    parser.add_argument(
        "--precision", default="float32", choices=("float32", "bfloat16"), help="of activations; default float32"
    )
    parser.add_argument("--out", metavar="DIR", help="default: evaluations/ beside the checkpoint")
    arguments, rest = parser.parse_known_args(argv)
    arguments.options = config_overrides(parser, rest, [], "--model.")
    return arguments


def tell(text: str) -> None:
    """Prints; what the terminal's encoding lacks (an arrow, in Latin-1) is a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, errors="replace").decode(encoding))


@ends_quietly
def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = tell) -> int:
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


def run(arguments: argparse.Namespace, say: Callable[[str], None] = tell) -> dict[str, Any]:
    """Does what the arguments say; returns what ``metrics.json`` holds.

    Of several processes each does its share, and the first alone prints and writes.
    """
    say = first_says(say)
    began = time.perf_counter()
    with gather.together():  # a host that lacks the data, or the memory, is no reason for the others to wait
        _check_out(arguments.out)
        job = _clips(arguments, say) if arguments.video else _pictures(arguments, say)
        data_card = job.data.card()  # here: it looks at files, and names those that it cannot read
    data, noun = job.data, job.data.noun
    say(f"{job.subject.card['system']} on {len(data)} {noun}s of {data.dataset} at {size_name(data.size)}")

    seen_here = {"rows": [], "records": []}  # with the number of the picture in front

    def observe(seen: Seen) -> None:
        seen_here["rows"] += [(seen.position, row) for row in job.rows(seen)]
        seen_here["records"].append((seen.position, _record(noun, data.label(seen.position), seen, job.metrics)))

    report = evaluate(
        job.subject.inpaint, data, job.masks, metrics=job.metrics, batch=job.batch, observe=observe, noun=noun
    )
    parts = gather.gather(seen_here)
    rows, records = (_ordered([row for part in parts for row in part[name]]) for name in ("rows", "records"))
    remarks = [*notes(job.metrics), *job.remarks(records)]
    report["protocol"] = job.card(subject=job.subject.card, data=data_card, metrics=job.metrics, notes=remarks)
    if jax.process_index() == 0:
        table = tables(report, job.metrics, [*job.subject.card["notes"], *remarks], noun)
        out = _write(arguments, job.subject, data, report, table, rows, records, say)
        say(f"{time.perf_counter() - began:.1f} s; everything is in {out}")
    return report


class Job(NamedTuple):
    """What is measured on what: pictures or clips.

    data:    `Pictures` or `Clips`
    masks, metrics, batch: see `jaxpaint.run.measure.evaluate`
    rows:    what the sheet shows of something measured: rows of three pictures
    remarks: from all records, sentences about the figures
    card:    makes the protocol card from subject, data, metrics and notes; every process makes this call
    """

    subject: Subject
    data: Any
    masks: Any
    metrics: Mapping[str, Metric]
    batch: int
    rows: Callable[[Seen], list]
    remarks: Callable[[list], list[str]]
    card: Callable[..., dict[str, Any]]


def _pictures(arguments: argparse.Namespace, say: Callable[[str], None]) -> Job:
    """The cheap mistakes come out before weights are read."""
    for name in ("frames", "average", "flow", "composite"):
        if getattr(arguments, name) is not None:
            raise InputError(f"--{name} is of clips: give --video, too, or leave it out")
    _check_mask_flags(arguments)
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

    def rows(seen: Seen) -> list:
        wanted = seen.position < SHEET_ROWS and seen.bucket == _sheet_bucket(masks, seen.position)
        return [(with_grey_hole(seen.image, seen.mask), seen.result, seen.image)] if wanted else []

    what = subject(arguments, batch, say)
    about = functools.partial(card, masks=mask_card(masks))
    return Job(what, pictures, masks, metrics, batch * what.devices, rows, lambda records: [], about)


def _clips(arguments: argparse.Namespace, say: Callable[[str], None]) -> Job:
    """The same of clips, which are measured one at a time."""
    if arguments.batch is not None:
        raise InputError(f"--batch {arguments.batch} is of pictures: clips are filled one at a time; leave it out")
    if arguments.mask_pairing != "name":
        raise InputError("--mask-pairing seed is of pictures: masks of clips are found by the clips' names")
    _check_mask_flags(arguments)
    names = chosen(arguments.metrics, clips=True)
    if arguments.flow and WARPING not in names:
        raise InputError(
            f"--flow {arguments.flow} is for {WARPING}, which is not among --metrics: add it, or leave it out"
        )
    average, flow = arguments.average or "clips", arguments.flow or "raft"
    composite = arguments.composite or "subject"
    clips = Clips(arguments.data, parse_size(arguments.size), arguments.resize, arguments.limit, arguments.frames or 0)
    masks = clip_masks(arguments, clips)
    if WARPING in names:
        check_warping(clips, flow)
    if any(name in VFID_METRICS for name in names):
        check_vfid(clips)
    metrics = clip_figures(names, arguments.features, average=average, flow=flow)
    what = subject(arguments, 1, say)
    if composite == "paste":
        what = what._replace(inpaint=pasted(what.inpaint))
    each = max(1, SHEET_ROWS // len(clips))

    def rows(seen: Seen) -> list:
        wanted = spread(len(seen.result), each) if seen.position < SHEET_ROWS else []
        return [(with_grey_hole(seen.image[i], seen.mask[i]), seen.result[i], seen.image[i]) for i in wanted]

    def remarks(records: list) -> list[str]:
        return unwritten(clips, sum(record["frames"] for record in records))

    def about(**parts: Any) -> dict[str, Any]:
        return clip_card(masks=masks.card(), average=average, composite=composite, **parts)

    return Job(what, clips, masks, metrics, 1, rows, remarks, about)


def _check_out(out: str | None) -> None:
    """InputError where there is a file in the place of a folder of ``--out``."""
    path = pathlib.Path(out or ".")
    there = next(place for place in (path, *path.parents) if place.exists())
    if not there.is_dir():
        raise InputError(f"--out {out}: {there} is a file, a folder is expected; give another --out")


def _check_mask_flags(arguments: argparse.Namespace) -> None:
    """InputError for flags of ``--masks`` without it."""
    for name, default in (("pairing", "name"), ("convention", "hole-white")):
        value = getattr(arguments, f"mask_{name}")
        if value != default and not arguments.masks:
            raise InputError(f"--mask-{name} {value} is for masks from a folder: give --masks, too, or leave it out")


def _write(
    arguments: argparse.Namespace,
    what: Subject,
    data: Pictures | Clips,
    report: Mapping[str, Any],
    table: str,
    rows: list,
    records: list,
    say: Callable[[str], None],
) -> pathlib.Path:
    """Prints the table and the card, and writes the files; returns their folder."""
    out = (
        pathlib.Path(arguments.out) if arguments.out else _beside_others(what.home / _name(what, data, report), report)
    )
    files = {
        "table.md": (table + "\n").encode(),
        "sheet.png": to_png(sheet(rows, COLUMNS)),
        f"{data.noun}s.csv": to_csv(records),
        "metrics.json": to_json(report).encode(errors="replace"),
    }
    try:
        for name, content in files.items():
            with replacing(out / name) as temporary:
                temporary.write_bytes(content)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{out / name} cannot be written: {reason}; give another --out") from error
    finally:
        say(table)  # a full disk does not cost the figures, nor a closed pipe the files
    say("protocol card:\n" + to_json(report["protocol"]).rstrip())
    return out


def _beside_others(out: pathlib.Path, report: Mapping[str, Any]) -> pathlib.Path:
    """The folder, or one with a digest of the protocol behind its name where results of another protocol are in it."""
    protocol, earlier = to_json(report["protocol"]), out / "metrics.json"
    try:
        if not earlier.is_file() or to_json(json.loads(earlier.read_bytes())["protocol"]) == protocol:
            return out
    except (OSError, ValueError, LookupError, TypeError):
        pass  # no results of ours, which are left alone like those of another protocol
    return out.with_name(f"{out.name}_{hashlib.sha256(protocol.encode(errors='replace')).hexdigest()[:8]}")


def _ordered(numbered: list) -> list:
    """What belongs to pictures, in the order of their numbers; that of buckets stays."""
    return [value for _, value in sorted(numbered, key=lambda pair: pair[0])]


def _sheet_bucket(masks: Any, position: int) -> str:
    """One row a picture: the sheet goes through the buckets."""
    return list(masks)[position % len(masks)] if isinstance(masks, Mapping) else ""


def _record(noun: str, label: str, seen: Seen, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    frames = {"frames": len(seen.result)} if seen.result.ndim == 4 else {"bucket": seen.bucket}
    record = {noun: label, **frames, "hole": f"{seen.mask.mean():.4f}"}
    for name in metrics:
        for region, value in seen.values[name].items():
            record[f"{name} {region}"] = value if isinstance(value, str) else f"{value:.{DIGITS}g}"
    return record


def _name(what: Subject, data: Pictures | Clips, report: Mapping) -> str:
    """The folder of a result, from what was measured."""
    about = report["protocol"]
    step = what.card["step"]
    changed = "".join(f"-{name}={value}" for name, value in sorted(what.card.get("changed", {}).items()))
    parts = [
        what.card["system"] + ("" if step is None else f"-{step}") + changed,
        f"{data.dataset}-{data.split}" + f"-{len(data)}",
        about["masks"]["set"],
        size_name(data.size),
    ]
    return "_".join(part.replace(" ", "-") for part in parts)
