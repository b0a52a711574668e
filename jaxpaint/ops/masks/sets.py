"""Frozen sets of masks for evaluation: named, drawn from a seed, and told apart by a hash.

A figure of one method can be set beside another's only where the masks are the same. A set is a name,
a number of masks, a size and a seed; `digest` says whether two machines mean the same pixels.
"""

import contextlib
import dataclasses
import functools
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.ops.masks.families import Masks, sample
from jaxpaint.types import InputError, did_you_mean

BATCH = 64


@dataclasses.dataclass(frozen=True)
class MaskSet:
    """A named distribution of masks.

    family, options: as of `families.Masks`.
    note: one line on what it is, for reports.
    """

    family: str
    note: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


BUCKETS = {
    "irregular-01-10": (0.01, 0.1),
    "irregular-10-20": (0.1, 0.2),
    "irregular-20-30": (0.2, 0.3),
    "irregular-30-40": (0.3, 0.4),
    "irregular-40-50": (0.4, 0.5),
    "irregular-50-60": (0.5, 0.6),
}
"""The six ranges of hole share, in per cent in the name: open below, closed above."""

SETS: dict[str, MaskSet] = {
    **{
        name: MaskSet("irregular", f"irregular strokes, {low:.0%} < hole <= {high:.0%}", {"bucket": (low, high)})
        for name, (low, high) in BUCKETS.items()
    },
    "deepfillv2": MaskSet("deepfillv2", "DeepFillv2's training masks: brush strokes and a box"),
    "freeform": MaskSet("freeform", "DeepFillv2's brush strokes without the box"),
    "box": MaskSet("box", "one box of 1/4 to 1/2 of the sides"),
    "centre": MaskSet("centre", "the centred box of half the sides"),
    "lama-thin": MaskSet("lama_thin", "LaMa's narrow masks"),
    "lama-medium": MaskSet("lama_medium", "LaMa's medium masks"),
    "lama-thick": MaskSet("lama_thick", "LaMa's wide masks"),
    "mat": MaskSet("mat", "MAT's large masks"),
    "mat-small": MaskSet("mat", "MAT's small masks", {"small": True}),
    "outpaint": MaskSet("outpaint", "all four borders, a quarter of the side", {"fraction": 0.25, "probability": 1.0}),
    "repaint-thin": MaskSet("repaint_thin", "RePaint: narrow"),
    "repaint-thick": MaskSet("repaint_thick", "RePaint: wide"),
    "repaint-half": MaskSet("half", "RePaint: the right half is hole"),
    "repaint-expand": MaskSet("expand", "RePaint: all but a centred quarter is hole"),
    "repaint-every-second-line": MaskSet("every_second_line", "RePaint: every second row is hole"),
    "repaint-super-resolution": MaskSet("super_resolution", "RePaint: all but every second pixel of each side is hole"),
}


def frozen(name: str, count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """The first `count` masks of a set: uint8 n h w 1, 1 = hole.

    Drawn on the CPU whatever accelerator there is, and in whole numbers, so that every machine gets the
    same pixels. Mask i does not depend on `count`: a longer set begins with the shorter one.

    Args:
      name: of `SETS`.
      count: masks, from 1 up.
      height, width: pixels.
      seed: from 0 up.

    Raises:
      InputError: no such set, no such size, or JAX was started without its CPU backend.
    """
    if name not in SETS:
        proposal = did_you_mean(name, SETS, "did you mean {!r}? ", cutoff=0.5)
        raise InputError(f"there is no mask set {name!r}: {proposal}there are {', '.join(SETS)}")
    if count < 1:
        raise InputError(f"{count} masks of the set {name!r} were asked for: ask for at least 1")
    with pinned(name, seed) as key:
        size = min(count, BATCH)
        parts = [
            np.asarray(_draw(key, jnp.arange(first, first + size, dtype=jnp.uint32), name, height, width))
            for first in range(0, count, size)
        ]
    return np.concatenate(parts)[:count]


@contextlib.contextmanager
def pinned(name: str, seed: int) -> Iterator[jax.Array]:
    """The key of a set, and inside, the circumstances that make the same pixels of it everywhere: a CPU, the generator
    and how it splits, which are settings that a program may have changed. Two sets with one seed share no strokes."""
    with jax.default_device(cpu()), jax.threefry_partitionable(True):
        yield jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), zlib.crc32(name.encode()))


def cpu() -> jax.Device:
    """Where sets are drawn, whatever accelerator there is; InputError if JAX was started without it."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise InputError(
            f"mask sets are drawn on the CPU, which JAX_PLATFORMS leaves out ({error}): name it too, "
            "as in JAX_PLATFORMS=cuda,cpu"
        ) from error


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _draw(key: jax.Array, positions: jax.Array, name: str, height: int, width: int) -> jax.Array:
    masks = Masks(SETS[name].family, dict(SETS[name].options))
    return sample(key, positions, height, width, masks).astype(jnp.uint8)


def digest(masks: np.ndarray) -> str:
    """SHA-256 of a set: of its shape and its pixels, one bit each. Masks: n h w 1 of 0 and 1, any dtype."""
    masks = np.asarray(masks)
    shape = "x".join(str(side) for side in masks.shape)
    return hashlib.sha256(shape.encode() + b":" + np.packbits(masks != 0).tobytes()).hexdigest()
