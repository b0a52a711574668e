"""Results of an evaluation as text and files: Markdown tables, a CSV with a row a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxpaint.metrics import METRICS


def tables(report: Mapping[str, Any]) -> str:
    """The figures as Markdown: whole picture and hole side by side; with buckets, a table a region."""
    results, buckets = report["results"], report.get("buckets")
    lines, notes = [], []
    if buckets is None:
        columns = {"whole": (results, "whole"), "hole": (results, "hole")}
        lines += _table(results, columns, notes, "metric")
    else:
        for region, title in (("whole", "whole picture"), ("hole", "hole")):
            columns = {"all": (results, region)} | {b: (figures, region) for b, figures in buckets.items()}
            lines += ["", *_table(results, columns, notes, title)]
    outside = results.get("outside_max_abs_diff", {}).get("outside")
    lines.append("")
    if outside:
        lines.append(f"outside_max_abs_diff: {outside['value']:g} (known pixels, in steps of 1/255)")
    times = f" x {len(buckets)} mask buckets" if buckets else ""
    lines.append(f"N: {report['n']} pictures{times}. ↑ higher is better, ↓ lower is better; ranges as in the card.")
    return "\n".join([*lines, *dict.fromkeys(notes)]).strip("\n")


def _table(results: Mapping, columns: Mapping[str, tuple], notes: list[str], title: str) -> list[str]:
    rows = [[title, *columns]]
    for name, regions in results.items():
        arrow = {"higher": "↑", "lower": "↓"}[METRICS[name].better]
        row = [f"{name} {arrow}"]
        for label, (figures, region) in columns.items():
            result = figures[name].get(region)
            row.append(_cell(result, METRICS[name].unit))
            if result and figures is results:
                notes += _notes(f"{name} ({region})", result)
            elif result and result["value"] is None and regions[region]["value"] is not None:
                notes += _notes(f"{name} ({region}, {label})", result)
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
    return f"{result['value']:.2f} {unit}" if unit == "dB" else f"{result['value']:.5f}"


def _notes(what: str, result: Mapping) -> list[str]:
    if result["value"] is None:
        return [f"{what} is not given: {result['reason']}."]
    notes = []
    if result.get("infinite"):
        notes.append(f"{what}: {result['infinite']} infinite values counted and left out.")
    if result.get("empty"):
        notes.append(f"{what}: {result['empty']} pictures left out, the region has no usable pixel.")
    return notes


def to_csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    """A row a record; the first one names the columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def to_png(image: np.ndarray) -> bytes:
    """uint8 h w 3 as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
