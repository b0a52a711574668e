"""Large pictures in overlapped tiles, on the host (NumPy).

A tile has three zones, from an inner edge inwards: *context*, an eighth of its side, which the network sees and whose
result is thrown away; a *ramp*, another eighth, where the result fades in (a Hann window) while the neighbouring tile
fades out; and the *core*. An edge that lies on the picture's own edge has neither. So a network that looks no further
than the context gives the same picture in tiles as it gives in one piece.

Only tiles whose result reaches a hole are run, and the grid is laid over the bounding box of the hole: a hole that fits
into one tile gets one tile, centred on it.

A tile in the middle of a large hole sees (nearly) nothing known. Such a tile (`starved`) is given a guess: the picture
is reduced by a whole factor, filled in one piece, and enlarged again; its pixels stand for known ones in the context
zone alone, so that they steer the tile and never show up in the result.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxpaint.ops.pad import bucket, bucket_within, round_up
from jaxpaint.types import InputError

SMALLEST = 128 * 128
"""The least `max_pixels`: below it the context of a tile is no context."""

STARVED = 0.25
"""A tile with a smaller share of known pixels gets a guess for its context."""


class Tile(NamedTuple):
    """A window of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The index of the window in ``h w c``."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def plan(mask: np.ndarray, max_pixels: int) -> list[Tile]:
    """The tiles to run, all of one size, row by row.

    Args:
      mask: h w 1, 1 = hole, of a picture with more than `max_pixels` pixels; an empty one needs no tile.
      max_pixels: of a tile at most.
    """
    if max_pixels < SMALLEST:
        raise InputError(
            f"max_pixels is {max_pixels}: a tile needs {SMALLEST} pixels (128x128) at least to have any context"
        )
    picture = mask.shape[:2]
    if not mask.any():
        return []
    size = _tile_size(*picture, max_pixels)
    tops, lefts = (
        _starts(np.flatnonzero(mask[..., 0].any(axis=1 - axis)), picture[axis], size[axis]) for axis in (0, 1)
    )
    tiles = [Tile(top, left, *size) for top in tops for left in lefts]
    return [tile for tile in tiles if (mask[tile.window] * (weights(tile, *picture) > 0)).any()]


def weights(tile: Tile, height: int, width: int) -> np.ndarray:
    """How much a tile's result counts in a picture of `height` x `width`: h w 1 float32 over the tile."""
    rows = _fade(tile.top, tile.height, height)
    columns = _fade(tile.left, tile.width, width)
    return (rows[:, None] * columns[None, :])[..., None]


def blend(results: Iterable[tuple[Tile, np.ndarray]], height: int, width: int) -> np.ndarray:
    """The weighted mean of overlapping tiles, h w 3 float32; zero where no tile reaches."""
    total = np.zeros((height, width, 3), np.float32)
    weight = np.zeros((height, width, 1), np.float32)
    for tile, result in results:
        share = weights(tile, height, width)
        total[tile.window] += share * result
        weight[tile.window] += share
    return np.divide(total, weight, out=total, where=weight > 0)


def starved(mask: np.ndarray) -> bool:
    """Whether a tile knows too little to be filled on its own."""
    return 1.0 - mask.mean() < STARVED


def reduce(image: np.ndarray, mask: np.ndarray, max_pixels: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The picture at a size of at most `max_pixels`: (float32 h/k w/k 3, mask, k).

    A cell of k x k pixels is the mean of its known pixels, and a hole where none of them is known.
    """
    height, width = image.shape[:2]
    k = math.ceil(math.sqrt(height * width / max_pixels))
    while math.ceil(height / k) * math.ceil(width / k) > max_pixels:
        k += 1
    missing = ((0, round_up(height, k) - height), (0, round_up(width, k) - width), (0, 0))
    known = np.pad(1 - mask, missing).astype(np.float32)
    total = _cells(np.pad(image, missing) * known, k)
    count = _cells(known, k)
    return total / np.maximum(count, 1), (count == 0).astype(np.uint8), k


def enlarge(image: np.ndarray, k: int, tile: Tile) -> np.ndarray:
    """The part of a picture that was reduced by `k` which lies under a tile, linearly interpolated."""
    for axis, (start, length) in enumerate([(tile.top, tile.height), (tile.left, tile.width)]):
        place = np.clip((np.arange(start, start + length) + 0.5) / k - 0.5, 0, image.shape[axis] - 1)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, image.shape[axis] - 1)
        share = (place - below).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        image = image.take(below, axis) * (1 - share) + image.take(above, axis) * share
    return image


def context(tile: Tile, height: int, width: int) -> np.ndarray:
    """Where a tile's result is thrown away: h w 1 bool."""
    return weights(tile, height, width) == 0


def _cells(x: np.ndarray, k: int) -> np.ndarray:
    h, w, c = x.shape
    return x.reshape(h // k, k, w // k, k, c).sum((1, 3))


def _tile_size(height: int, width: int, max_pixels: int) -> tuple[int, int]:
    """Square, of a side that is not padded further; the full height or width where the picture is narrower."""
    side = bucket_within(math.isqrt(max_pixels))
    if height <= side:
        return height, bucket_within(max_pixels // bucket(height))
    if width <= side:
        return bucket_within(max_pixels // bucket(width)), width
    return side, side


def _zones(side: int) -> tuple[int, int]:
    """Context and ramp of a tile of that side."""
    return side // 8, side // 8


def _starts(hole: np.ndarray, length: int, side: int) -> list[int]:
    """Where tiles begin along one axis, so that their results cover the hole."""
    if side >= length:
        return [0]
    margin, ramp = _zones(side)
    low, extent = hole[0], hole[-1] + 1 - hole[0]
    reach, stride = side - 2 * margin, side - 2 * margin - ramp
    count = 1 + max(0, math.ceil((extent - reach) / stride))
    first = low - margin - ((count - 1) * stride + reach - extent) // 2
    return sorted({int(np.clip(first + i * stride, 0, length - side)) for i in range(count)})


def _fade(start: int, side: int, length: int) -> np.ndarray:
    """Weights along one axis: 0 in the context, Hann in the ramp, 1 in the core."""
    margin, ramp = _zones(side)
    rise = np.sin(np.pi / 2 * (np.arange(ramp) + 0.5) / ramp) ** 2
    weight = np.ones(side)
    if start > 0:
        weight[: margin + ramp] = np.concatenate([np.zeros(margin), rise])
    if start + side < length:
        weight[side - margin - ramp :] = np.minimum(
            weight[side - margin - ramp :], np.concatenate([rise[::-1], np.zeros(margin)])
        )
    return weight.astype(np.float32)
