"""What an evaluation measured, on what, and how: the pictures and masks at one size, and the protocol card.

A figure without its protocol cannot be compared (the same outputs give an SSIM between 0.86 and 0.92, depending on
whose script reads them), so every figure travels with a card. A card is a pure function of what it describes: it
holds no time, no path and no name of a machine, and two runs write the same bytes.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxpaint
from jaxpaint.data.arrays import ArraySource
from jaxpaint.data.bilinear import resize_bilinear
from jaxpaint.data.decode import decode_channels, read_header
from jaxpaint.data.demo import DemoSource
from jaxpaint.data.folder import FolderSource, list_pictures
from jaxpaint.data.geometry import Window, cut, cut_mask, window
from jaxpaint.data.masks import pair
from jaxpaint.metrics import Metric
from jaxpaint.ops.masks import BUCKETS, SETS, binarise, digest, frozen
from jaxpaint.types import InputError, did_you_mean

DEMO_PICTURES = 32
SMALLEST = 32  # pixels on a side: what a network takes

RESIZING = {
    "center-crop": "shorter side resized to the size (Pillow BILINEAR, antialiased), then the centre cut out",
    "crop": "the centre cut out at full resolution; a smaller picture is first enlarged to cover the size",
    "resize": "the whole picture resized, proportions given up (Pillow BILINEAR, antialiased)",
    "bilinear": "as resize, without antialiasing (OpenCV's INTER_LINEAR: E2FGVI, ProPainter)",
    "none": "pictures as they are",
}
_FIT = {"center-crop": "shorter", "crop": "crop", "resize": "resize", "bilinear": "resize"}


def parse_size(text: str) -> tuple[int, int] | None:
    """``256`` or ``256x320`` (height x width) to (height, width); ``original`` to None."""
    if text == "original":
        return None
    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdecimal() for side in sides):
        raise InputError(f"--size {text}: expected 256, 256x320 (height x width) or original")
    height, width = int(sides[0]), int(sides[-1])
    if min(height, width) < SMALLEST:
        raise InputError(f"--size {text}: at least {SMALLEST} pixels on a side are needed")
    return height, width


def size_name(size: tuple[int, int] | None) -> str:
    """The inverse of `parse_size`."""
    return "original" if size is None else f"{size[0]}x{size[1]}"


class Fitting(NamedTuple):
    """How pictures get the evaluated size: `size` height and width, None for their own; `resizing` of `RESIZING`."""

    size: tuple[int, int] | None
    resizing: str

    @classmethod
    def checked(cls, size: tuple[int, int] | None, resizing: str) -> "Fitting":
        """From the command line; InputError where there is no such way."""
        if resizing not in RESIZING:
            raise InputError(f"--resize {resizing}: expected one of {', '.join(RESIZING)}")
        return cls(size, "none" if size is None else resizing)

    def window(self, shape: tuple[int, int]) -> Window:
        """The part of a picture of that height and width which is evaluated: the centre."""
        if self.resizing == "none":
            return Window(*shape, 0, 0)
        return window(*shape, self.size, _FIT[self.resizing], 0.5, 0.5)

    def check(self, shape: tuple[int, int], label: str) -> None:
        """InputError where a picture of that height and width cannot be evaluated."""
        height, width = shape
        if min(shape) < SMALLEST:
            raise InputError(f"{label} is {height}x{width}: at least {SMALLEST} px on a side are needed")
        if self.resizing == "none" and self.size not in (None, shape):
            raise InputError(
                f"{label} is {height}x{width}, and --resize none asks for pictures of --size {size_name(self.size)} "
                "exactly: give --size original, or another --resize"
            )

    def cut(self, image: np.ndarray, label: str) -> np.ndarray:
        """uint8 h w 3 as it is evaluated."""
        self.check(image.shape[:2], label)
        if self.resizing == "bilinear":
            return resize_bilinear(image, *self.size)
        return image if self.resizing == "none" else cut(image, self.window(image.shape[:2]), self.size)

    def card(self) -> dict[str, str]:
        """Its part of the protocol card."""
        return {"resolution": size_name(self.size), "resize": f"{self.resizing}: {RESIZING[self.resizing]}"}


class Pictures(Sequence):
    """The pictures of an evaluation, decoded when asked for: uint8 h w 3, cut to one size by a fixed rule.

    Args:
      data: a folder, an ``.npz`` file with ``images``, or "demo"
      size: height and width, or None for the pictures' own
      resizing: of `RESIZING`
      limit: only the first so many, in the order of their names; None for all
    """

    noun = "picture"

    def __init__(self, data: str, size: tuple[int, int] | None, resizing: str, limit: int | None = None):
        self.fitting, self.size = Fitting.checked(size, resizing), size
        check_limit(limit)
        self.source = _source(data, size, limit)
        self.count = len(self.source) if limit is None else min(limit, len(self.source))
        self.dataset, self.split = dataset(data)
        if self.fitting.resizing == "none":  # all are looked at before any is measured
            self.stored = [self.shape(index) for index in range(self.count)]
            for index, shape in enumerate(self.stored):
                self.fitting.check(shape, self.label(index))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.fitting.cut(self.source.picture(index), self.label(index))

    def window(self, shape: tuple[int, int]) -> Window:
        """See `Fitting.window`."""
        return self.fitting.window(shape)

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of the picture as it is stored; of a file, from its header."""
        if isinstance(self.source, FolderSource):
            return read_header(self.source.read(index), name=self.source.path(index))[:2]
        return self.source.picture(index).shape[:2]

    def shapes(self) -> list[tuple[int, int]]:
        """Height and width of every picture as it is evaluated."""
        return [self.size] * self.count if self.size else self.stored

    def label(self, index: int) -> str:
        """The picture's name, the same on every machine."""
        return self.source.label(index).replace(os.sep, "/")

    def card(self) -> dict[str, Any]:
        """The data part of the protocol card."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "files_sha256": self.source.hash,
            "pictures": self.count,
            **self.fitting.card(),
        }


class FolderMasks(Sequence):
    """Masks from a folder, one for each picture: uint8 h w 1, 1 = hole.

    Args:
      root: the folder
      pictures: what they belong to
      pairing: "name": the mask of the picture's name, cut out as the picture is. "seed": any mask, drawn by
        (seed, number of the picture), resized to the picture
      convention: see `jaxpaint.ops.masks.check`
    """

    def __init__(self, root: str, pictures: Pictures, pairing: str, convention: str, seed: int):
        if pairing not in ("name", "seed"):
            raise InputError(f"--mask-pairing {pairing}: expected name or seed")
        self.root, self.pictures, self.convention = root, pictures, convention
        self.pairing, self.seed = pairing, seed
        self.files = list_pictures(root)
        if pairing == "seed":
            draw = (np.random.default_rng([seed, number]) for number in range(len(pictures)))
            self.numbers = [int(rng.integers(len(self.files))) for rng in draw]
            return
        names = [pictures.label(number) for number in range(len(pictures))]
        self.numbers = pair(names, self.files, root, ", or give --mask-pairing seed to draw them")

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> np.ndarray:
        path = os.path.join(self.root, self.files[self.numbers[index]])
        mask = binarise(decode_channels(path), self.convention, name=path)
        shape = self.pictures.shape(index)
        size = self.pictures.size or shape
        if self.pairing == "seed":
            return cut_mask(mask, Window(*size, 0, 0), size)
        if mask.shape[:2] == size:  # made for the evaluated size
            return mask
        if mask.shape[:2] != shape:
            raise InputError(
                f"{path} is {mask.shape[0]}x{mask.shape[1]}, but {self.pictures.label(index)} is {shape[0]}x{shape[1]} "
                f"and is evaluated at {size[0]}x{size[1]}: make the mask in one of these sizes, or give "
                "--mask-pairing seed"
            )
        return cut_mask(mask, self.pictures.window(shape), size)

    def card(self) -> dict[str, Any]:
        """The mask part of the protocol card."""
        used = [self.files[number] for number in self.numbers]
        card = {"set": f"folder {pathlib.Path(self.root).resolve().name}", "pairing": self.pairing}
        if self.pairing == "seed":
            card["seed"] = self.seed
        return card | {"convention": self.convention, "sha256": _hash_files(self.root, used)}


class FrozenMasks(Sequence):
    """One frozen set: a mask for each picture at the picture's size, uint8 h w 1, 1 = hole.

    The masks of a size are numbered by the pictures of that size, in order; where all pictures have one size,
    picture i has mask i.

    Args:
      name: of `jaxpaint.ops.masks.sets`
      pictures: what they are for
      seed: of the set
    """

    def __init__(self, name: str, pictures: Pictures, seed: int):
        self.name, self.pictures, self.seed = name, pictures, seed
        counts: dict[tuple[int, int], int] = {}
        self.places = []
        for shape in pictures.shapes():
            self.places.append((shape, counts.get(shape, 0)))
            counts[shape] = counts.get(shape, 0) + 1
        self.bits, self.digests = {}, {}
        for shape, count in counts.items():
            masks = frozen(name, count, *shape, seed)
            self.digests[shape] = digest(masks)
            self.bits[shape] = np.packbits(masks.reshape(count, -1), axis=1)  # 36,500 of 256x256: 0.3 GB, not 2.4

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> np.ndarray:
        (height, width), number = self.places[index]
        bits = self.bits[height, width][number]
        return np.unpackbits(bits, count=height * width).reshape(height, width, 1)

    def digest(self) -> str:
        """SHA-256 of the masks: of the one size there is, or over sizes and their digests."""
        if len(self.digests) == 1:
            return next(iter(self.digests.values()))
        lines = (f"{height}x{width} {self.digests[height, width]}\n" for height, width in sorted(self.digests))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


ALL_BUCKETS = "irregular"
"""The name of the six sets of `BUCKETS` together."""


def frozen_masks(name: str, pictures: Pictures, seed: int) -> FrozenMasks | dict[str, FrozenMasks]:
    """The frozen set of that name; for "irregular" one for each bucket of hole share, by its range."""
    if seed < 0:
        raise InputError(f"--seed {seed}: expected 0 or more")
    if name == ALL_BUCKETS:
        return {bucket.removeprefix(f"{ALL_BUCKETS}-"): FrozenMasks(bucket, pictures, seed) for bucket in BUCKETS}
    if name not in SETS:
        proposal = did_you_mean(name, [ALL_BUCKETS, *SETS], ", did you mean {}?")
        raise InputError(
            f"there is no mask set {name!r}{proposal}; there are {ALL_BUCKETS} (all six buckets of hole share), "
            f"{', '.join(SETS)}"
        )
    return FrozenMasks(name, pictures, seed)


def mask_card(masks: FolderMasks | FrozenMasks | Mapping[str, FrozenMasks]) -> dict[str, Any]:
    """The mask part of the protocol card."""
    if isinstance(masks, FolderMasks):
        return masks.card()
    if isinstance(masks, FrozenMasks):
        about = {"set": masks.name, "note": SETS[masks.name].note}
        return about | {"seed": masks.seed, "sha256": masks.digest()}
    digests = {bucket: group.digest() for bucket, group in masks.items()}
    return {
        "set": ALL_BUCKETS,
        "note": "irregular strokes in six buckets of hole share (per cent); every picture is filled once a bucket",
        "seed": next(iter(masks.values())).seed,
        "sha256": digests,
    }


def card(
    *,
    subject: Mapping[str, Any],
    data: Mapping[str, Any],
    masks: Mapping[str, Any],
    metrics: Mapping[str, Metric],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The protocol card.

    Args:
      subject: what was measured: "system", "config", "weights_hash" (None for a baseline), "notes"
      data: `Pictures.card`
      masks: "set", "sha256" and what else settles them
      metrics: by name
      notes: what a reader of the figures has to know
    """
    return {
        "subject": dict(subject),
        "data": dict(data),
        "masks": dict(masks),
        "composite": "known pixels pasted from the input before measuring",
        "regions": {
            "whole": "all pixels (SSIM: all window positions)",
            "hole": "hole pixels only (SSIM: window positions whose centre is in the hole)",
        },
        "average": "mean of per-picture values; each picture weighs the same; distribution metrics: of the whole set",
        "pixels": "uint8 RGB; outputs from [-1, 1] by rounding to nearest (ties to even), clipped to 0..255",
        "metrics": {name: metric.about for name, metric in metrics.items()},
        "notes": list(notes),
        "versions": {"jaxpaint": jaxpaint.__version__, "jax": jax.__version__},
    }


def to_json(report: Mapping[str, Any]) -> str:
    """The one JSON text of a report: sorted keys, no NaN."""
    return json.dumps(report, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def check_limit(limit: int | None) -> None:
    """InputError where ``--limit`` leaves nothing."""
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: nothing would be evaluated; give at least 1")


def _source(data: str, size: tuple[int, int] | None, limit: int | None):
    if data == "demo":
        return DemoSource(size or (256, 256), limit or DEMO_PICTURES, split="validation")
    if data.endswith(".npz"):
        return ArraySource(data)
    return FolderSource(data)


def dataset(data: str) -> tuple[str, str]:
    """Dataset and split as a folder's last names say: bsds500/val is ("bsds500", "val"), else (name, "all")."""
    if data == "demo":
        return "demo", "validation"
    path = pathlib.Path(data).resolve()
    name = path.stem if data.endswith(".npz") else path.name
    if name.lower() in ("train", "training", "val", "valid", "validation", "test", "testing"):
        return path.parent.name, name
    return name, "all"


def _hash_files(root: str, files: Iterable[str]) -> str:
    """SHA-256 over names and contents, in order. Raises InputError where a file cannot be read; names it."""
    digest = hashlib.sha256()
    contents: dict[str, str] = {}
    for name in files:
        if name not in contents:
            path = pathlib.Path(root, name)
            try:
                contents[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        digest.update(os.fsencode(f"{contents[name]}  {name.replace(os.sep, '/')}\n"))
    return digest.hexdigest()
