"""Results of an evaluation as text and files: Markdown tables, a CSV with a row a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxpaint.metrics import Metric

FLAG = "†"
"""At a value that is not to be quoted without its note."""


def tables(
    report: Mapping[str, Any], metrics: Mapping[str, Metric], remarks: Sequence[str] = (), noun: str = "picture"
) -> str:
    """The figures as Markdown: whole picture and hole side by side; with buckets, a table a region.

    Args:
      report: of `jaxpaint.run.measure.evaluate`
      metrics: what it was made with
      remarks: sentences for the end
      noun: what N counts: "picture" or "clip"
    """
    results, buckets = report["results"], report.get("buckets")
    lines, notes = [], []
    if buckets is None:
        columns = {"whole": (results, "whole"), "hole": (results, "hole")}
        lines += _table(results, metrics, columns, notes, "metric", noun)
    else:
        for region, title in (("whole", "whole picture"), ("hole", "hole")):
            columns = {"all": (results, region)} | {b: (figures, region) for b, figures in buckets.items()}
            lines += ["", *_table(results, metrics, columns, notes, title, noun)]
    outside = results.get("outside_max_abs_diff", {}).get("outside")
    lines.append("")
    if outside:
        lines.append(f"outside_max_abs_diff: {outside['value']:g} (known pixels, in steps of 1/255)")
    times = f" x {len(buckets)} mask buckets" if buckets else ""
    lines.append(f"N: {report['n']} {noun}s{times}. ↑ higher is better, ↓ lower is better; ranges as in the card.")
    return "\n".join([*lines, *dict.fromkeys([*notes, *remarks])]).strip("\n")


def _table(
    results: Mapping,
    metrics: Mapping[str, Metric],
    columns: Mapping[str, tuple],
    notes: list[str],
    title: str,
    noun: str,
) -> list[str]:
    rows = [[title, *columns]]
    for name, regions in results.items():
        arrow = {"higher": "↑", "lower": "↓"}[metrics[name].better]
        row, said = [f"{name} {arrow}"], {}
        for label, (figures, region) in columns.items():
            result = figures[name].get(region)
            row.append(_cell(result, metrics[name].unit))
            if result is None:
                continue
            overall = figures is results
            known = _peculiar(regions[region]) and not metrics[name].of_set  # for the same reason
            if overall or (_peculiar(result) and not known):
                for before, after in _notes(result, noun):
                    said.setdefault((before, region, after), []).extend([] if overall else [label])
        notes += [f"{before}{name} ({', '.join([r, *labels])}){after}" for (before, r, after), labels in said.items()]
        if any(region in regions for _, region in columns.values()):
            rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("| " + " | ".join(cells) + " |")
    lines.insert(1, "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|")
    return lines


def _cell(result: Mapping | None, unit: str) -> str:
    if result is None:
        return ""
    if result["value"] is None:
        return "-"
    value = f"{result['value']:.2f} {unit}" if unit in ("dB", "%") else f"{result['value']:.5f}"
    if "std" in result:
        value += f" ± {result['std']:.5f}"
    return value + FLAG if result.get("flag") else value


def _peculiar(result: Mapping) -> bool:
    return result["value"] is None or bool(result.get("flag"))


def _notes(result: Mapping, noun: str) -> list[tuple[str, str]]:
    """What is to be said of a result: what comes before its name, and what comes after."""
    if result["value"] is None:
        return [("", f" is not given: {result['reason']}.")]
    notes = []
    if result.get("flag"):
        notes.append((f"{FLAG} ", f": {result['flag']}."))
    if result.get("infinite"):
        notes.append(("", f": {result['infinite']} infinite values counted and left out."))
    if result.get("empty"):
        things = "frames" if "frames" in result else f"{noun}s"  # of a clip's frames, see jaxpaint.metrics.clips
        notes.append(("", f": {result['empty']} {things} left out, the region has no usable pixel."))
    return notes


def to_csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    """A row a record; the first one names the columns. Names of files keep their bytes, UTF-8 or not."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode(errors="surrogateescape")


def to_png(image: np.ndarray) -> bytes:
    """uint8 h w 3 as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
