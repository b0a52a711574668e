"""Masks from a folder: paired with the pictures by name, or drawn by seed."""

import os

import numpy as np

from jaxpaint.data import draws
from jaxpaint.data.config import Data
from jaxpaint.data.decode import decode_channels
from jaxpaint.data.folder import FolderSource, list_pictures
from jaxpaint.data.geometry import Window, cut_mask
from jaxpaint.ops.masks.check import binarise
from jaxpaint.types import InputError


class MaskFolder:
    """The masks of `data.masks`, one for each example.

    Raises:
      InputError: no such folder, no mask in it, pictures without a mask (paired by name).
    """

    def __init__(self, data: Data, source):
        self.root, self.size, self.convention = data.masks, data.size, data.mask_convention
        self.files = list_pictures(data.masks)
        self.paired = None
        if data.mask_pairing == "name":
            if not isinstance(source, FolderSource):
                raise InputError(
                    f"data.mask_pairing is 'name', but {source.name} has no file names: set data.mask_pairing = 'seed'"
                )
            self.paired = pair(source.files, self.files, self.root, ", or set data.mask_pairing = 'seed' to draw them")

    def make(self, seed: int, position: int, index: int, where: Window, flip: bool) -> np.ndarray:
        """uint8 size 1 in {0, 1}, 1 = hole. It may be empty, where the crop missed the hole.

        Args:
          seed, position: select the mask where masks are drawn.
          index, where, flip: the picture, its window and whether it is mirrored, where masks are paired.

        Raises:
          InputError: the mask is broken, or is not a mask by `data.mask_convention`.
        """
        if self.paired is None:
            word = int(draws.words(seed, draws.MASK, np.array([position]))[0])
            mask = self.read(word % len(self.files))
            return cut_mask(mask, Window(*self.size, 0, 0), self.size)
        mask = cut_mask(self.read(self.paired[index]), where, self.size)
        return mask[:, ::-1] if flip else mask

    def read(self, number: int) -> np.ndarray:
        """The mask file `number`, whole: uint8 h w 1."""
        return read_mask(os.path.join(self.root, self.files[number]), self.convention)


def read_mask(path: str | os.PathLike, convention: str, *, allow_empty: bool = False) -> np.ndarray:
    """A mask file: uint8 h w 1 in {0, 1}, 1 = hole.

    Args:
      convention: as `Data.mask_convention`.
      allow_empty: as `binarise`; what is "nonzero" may always be empty.

    Raises:
      InputError: the file is broken, or is no mask by the convention.
    """
    pixels = decode_channels(path)
    if convention == "nonzero":
        colours = pixels[..., :3] if pixels.shape[-1] > 2 else pixels[..., :1]
        return colours.any(-1, keepdims=True).astype(np.uint8)
    return binarise(pixels, convention, name=os.fspath(path), allow_empty=allow_empty)


def pair(pictures: list[str], masks: list[str], root: str, instead: str = "") -> list[int]:
    """For each picture the number of its mask.

    A mask belongs to the picture that has the same path without the ending, else to the one with the same stem,
    where there is only one such mask. `instead` says, in the message, what else a caller's user can do.

    Raises:
      InputError: pictures without a mask, or with several; lists the first few.
    """
    paths: dict[str, list[int]] = {}
    stems: dict[str, list[int]] = {}
    for number, name in enumerate(masks):
        paths.setdefault(os.path.splitext(name)[0], []).append(number)
        stems.setdefault(_stem(name), []).append(number)
    found, missing, several = [], [], []
    for name in pictures:
        same = paths.get(os.path.splitext(name)[0]) or stems.get(_stem(name), [])
        if len(same) == 1:
            found.append(same[0])
        else:
            (several if same else missing).append(name)
    if missing:
        raise InputError(
            f"{len(missing)} of {len(pictures)} pictures have no mask of their name in {root!r}: "
            f"{_few(missing)}; a mask is called as its picture (any of its endings){instead}"
        )
    if several:
        raise InputError(
            f"{len(several)} pictures have several masks of their name in {root!r}: {_few(several)}; "
            f"put each mask in the same folder below the root as its picture, or remove one of them{instead}"
        )
    return found


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
