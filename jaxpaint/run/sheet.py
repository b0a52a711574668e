"""Sheets of pictures: a row a picture, a column a stage, names above. Arrays in, one array out."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxpaint.types import InputError

SIDE = 256
GAP = 6
HEADER = 22
PAPER, INK = (255, 255, 255), (40, 40, 40)
HOLE = 128
COLUMNS = ("masked", "inpainted", "ground truth")
FRAMES = 3
"""Of a clip, that a sheet of samples shows: the first, the middle and the last one."""


def sheet(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str] = (), *, side: int = SIDE) -> np.ndarray:
    """A grid of pictures on white paper.

    Args:
      rows: pictures uint8 h w 3, of any sizes; a picture larger than `side` is shrunk to it, keeping its
        proportions, a smaller one is enlarged by the largest whole factor (its pixels stay visible)
      labels: names of the columns, or none
      side: of a cell, in pixels

    Returns:
      uint8 height width 3
    """
    if not rows or not rows[0]:
        raise InputError("a sheet of no pictures: give at least one row with one picture")
    columns = len(rows[0])
    if any(len(row) != columns for row in rows) or (labels and len(labels) != columns):
        raise InputError(
            f"the rows of a sheet have {sorted({len(row) for row in rows})} pictures, and there are {len(labels)} "
            "labels: every row needs as many pictures as there are columns"
        )
    cells = [[_fit(picture, side) for picture in row] for row in rows]
    widths = [max(row[c].width for row in cells) for c in range(columns)]
    heights = [max(cell.height for cell in row) for row in cells]
    top = GAP + (HEADER if labels else 0)
    paper = Image.new("RGB", (sum(widths) + GAP * (columns + 1), sum(heights) + GAP * len(rows) + top), PAPER)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(size=14)
    lefts = [GAP + sum(widths[:c]) + GAP * c for c in range(columns)]
    for left, label in zip(lefts, labels, strict=False):
        draw.text((left, GAP), label, fill=INK, font=font)
    for row, height in zip(cells, heights, strict=True):
        for left, cell in zip(lefts, row, strict=True):
            paper.paste(cell, (left, top))
        top += height + GAP
    return np.asarray(paper)


def with_grey_hole(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture as the network sees it, the hole drawn mid-grey: uint8 ... h w 3, mask ... h w 1 with 1 = hole."""
    return np.where(np.asarray(mask) > 0.5, np.uint8(HOLE), np.asarray(image, np.uint8))


def sample_sheet(images: np.ndarray, masks: np.ndarray, filled: np.ndarray, *, side: int = SIDE) -> np.ndarray:
    """Masked picture, result and ground truth of a batch, a row an example; of clips, of a few of their frames.

    Args:
      images: uint8 b h w 3, or clips b t h w 3
      masks: b h w 1 (b t h w 1), 1 = hole
      filled: as images: uint8, or floats in [-1, 1] as `System.inpaint` gives them; NaN, which an early or broken
        run may show, is drawn black
    """
    if filled.dtype != np.uint8:
        levels = np.rint((np.nan_to_num(np.asarray(filled, np.float32), nan=-1.0) + 1.0) * 127.5)
        filled = np.clip(levels, 0, 255).astype(np.uint8)
    columns = (with_grey_hole(images, masks), filled, np.asarray(images))
    if images.ndim == 4:
        return sheet(list(zip(*columns, strict=True)), COLUMNS, side=side)
    shown = sorted({round(place) for place in np.linspace(0, images.shape[1] - 1, FRAMES)})
    rows = [[stage[number, frame] for frame in shown for stage in columns] for number in range(len(images))]
    return sheet(rows, [f"frame {frame + 1}, {name}" for frame in shown for name in COLUMNS], side=side)


def _fit(picture: np.ndarray, side: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    longest = max(image.size)
    if longest > side:
        size = tuple(max(1, round(s * side / longest)) for s in image.size)
        return image.resize(size, Image.Resampling.LANCZOS)
    factor = side // longest
    return image if factor == 1 else image.resize(tuple(s * factor for s in image.size), Image.Resampling.NEAREST)
