"""Masks of a clip: a folder of mask pictures, a mask clip, one picture for all frames, or arrays.

What a mask is taken for follows the rules for pictures (`jaxpaint.ops.masks.check`), with one difference: a frame
may have no hole, or be nothing but hole, as long as the clip as a whole has both holes and known pixels. Masks are
not resized: one of another size than its clip is an error.
"""

import collections
import dataclasses
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxpaint.data.decode import ENDINGS, decode_channels
from jaxpaint.data.frames import frame_files
from jaxpaint.io.frames import Clip
from jaxpaint.io.video import container_clip
from jaxpaint.ops.masks.check import CONVENTIONS, LIKELY_INVERTED, MaskWarning, binarise, match
from jaxpaint.types import InputError

PAIRINGS = ("auto", "name", "order")


def open_masks(source: Any, clip: Clip, convention: str = "hole-white", *, pairing: str = "auto") -> Clip:
    """The masks of a clip, one for each frame: a clip of uint8 h w 1 in {0, 1}, 1 = hole.

    All masks are looked at once, here, one at a time: what is wrong with the last of them is said before an hour of
    work, not after it.

    Args:
      source: a folder of mask pictures; a video file of masks; a picture, for all frames; or an array, t h w 1 or
        t h w, or h w 1 or h w for all frames: bool, {0, 1} or {0, 255}, 1 = hole.
      clip: whose masks they are.
      convention: how a file marks the hole: hole-white, hole-black, or alpha (transparent; pictures only).
      pairing: of a folder's masks with frames. "name": a mask has its frame's name, any ending. "order": the n-th mask
        is the n-th frame's. "auto": by name where one mask at least has a frame's name, else by order.

    Raises:
      InputError: no such file; unreadable; not black and white; of another size; fewer masks than frames; a frame
        without a mask of its name; no hole in any frame; no known pixel in any frame.

    Warns:
      MaskWarning: more than 70 % of all pixels are hole; masks are left over.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"mask convention {convention!r} is not known: give one of {', '.join(CONVENTIONS)}")
    if pairing not in PAIRINGS:
        raise InputError(f"mask pairing {pairing!r} is not known: give one of {', '.join(PAIRINGS)}")
    if not isinstance(source, str | os.PathLike):
        masks = _from_array(np.asarray(source), clip)
    elif pathlib.Path(source).is_dir():
        masks = _from_folder(pathlib.Path(source), clip, convention, pairing)
    elif pathlib.Path(source).suffix.lower() in ENDINGS:
        hole = _hole(decode_channels(source), convention, str(source))
        masks = _one_for_all(hole, clip, str(source))
    else:
        masks = _from_video(pathlib.Path(source), clip, convention)
    _check(masks)
    return masks


def widen(masks: Clip, frames: int) -> Clip:
    """Masks with a hole where there is one in any of the `frames` frames before or after (against flicker at edges).

    2 * frames + 1 masks are in memory.
    """
    if frames < 0:
        raise InputError(f"masks are to be widened by {frames} frames: expected 0 or more")

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        first = max(start - frames, 0)
        coming = masks.frames(first, min(stop + frames, masks.count)) if start < stop else iter(())
        near: collections.deque = collections.deque()
        for index in range(start, stop):
            while first + len(near) <= min(index + frames, masks.count - 1):
                near.append(next(coming))
            while first < index - frames:
                near.popleft()
                first += 1
            yield np.maximum.reduce(list(near))

    return dataclasses.replace(masks, reader=read)


def _from_array(array: np.ndarray, clip: Clip) -> Clip:
    name = "the array of masks"
    whole = array.shape[:-1] if array.ndim > 2 and array.shape[-1] == 1 else array.shape
    if len(whole) not in (2, 3) or not array.size:
        raise InputError(f"{name} has shape {array.shape}: expected t h w 1, or h w 1 for all frames")
    full = 255 if array.max() == 255 else 1
    if not ((array == 0) | (array == full)).all():
        raise InputError(
            f"{name} is not binary: it has values from {array.min():g} to {array.max():g}; expected bool, {{0, 1}} or "
            "{0, 255}, 1 = hole: threshold it"
        )
    hole = (array.reshape(*whole, 1) > 0).astype(np.uint8)
    if hole.ndim == 3:
        return _one_for_all(hole, clip, name)
    _check_count(len(hole), clip, name)
    match(hole[0], (clip.height, clip.width), name=name)
    return Clip(name, clip.count, clip.height, clip.width, clip.rate, lambda start, stop: iter(hole[start:stop]))


def _one_for_all(hole: np.ndarray, clip: Clip, name: str) -> Clip:
    match(hole, (clip.height, clip.width), name=name)

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        return (hole for _ in range(start, stop))

    return Clip(name, clip.count, clip.height, clip.width, clip.rate, read)


def _from_folder(root: pathlib.Path, clip: Clip, convention: str, pairing: str) -> Clip:
    files = frame_files(root)
    stems = {_stem(file): file for file in files}
    named = [stems.get(_stem(frame)) for frame in clip.names]
    if pairing == "name" and not named:
        raise InputError(f"masks {root}: {clip.name} has no file names to pair by: use pairing 'order'")
    if pairing == "name" or (pairing == "auto" and any(named)):
        missing = [frame for frame, mask in zip(clip.names, named, strict=True) if mask is None]
        if missing:
            raise InputError(
                f"{len(missing)} of {clip.count} frames of {clip.name} have no mask of their name among the "
                f"{len(files)} in {root}: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}"
            )
        chosen = named
    else:
        _check_count(len(files), clip, str(root))
        chosen = files[: clip.count]

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        for index in range(start, stop):
            path = root / chosen[index]
            hole = _hole(decode_channels(path), convention, str(path))
            match(hole, (clip.height, clip.width), name=str(path))
            yield hole

    return Clip(str(root), clip.count, clip.height, clip.width, clip.rate, read, names=tuple(chosen))


def _from_video(path: pathlib.Path, clip: Clip, convention: str) -> Clip:
    if convention == "alpha":
        raise InputError(f"{path}: a mask clip is read without alpha: use hole-white or hole-black, or PNG files")
    masks = container_clip(path)
    _check_count(masks.count, clip, str(path))
    match(np.empty((masks.height, masks.width, 1)), (clip.height, clip.width), name=str(path))

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        for index, frame in enumerate(masks.frames(start, stop), start):
            yield _hole(frame, convention, masks.label(index))

    return Clip(str(path), clip.count, clip.height, clip.width, clip.rate, read)


def _hole(pixels: np.ndarray, convention: str, name: str) -> np.ndarray:
    """`binarise` for one of many frames: it may be nothing but hole, and a large hole alone is no reason to warn.

    `binarise` refuses and warns by the share of what it marks; so it is asked for the known pixels where they are few.
    """
    if convention == "alpha" and pixels.shape[-1] in (2, 4):
        pixels, convention = pixels[..., -1:], "hole-black"  # transparent, 0, is the hole
    if convention == "alpha":
        return binarise(pixels, convention, name=name, allow_empty=True)  # refuses: there is no alpha
    colours = pixels[..., :3] if pixels.shape[-1] > 2 else pixels[..., :1]
    white = colours.mean() > 127.5
    if white == (convention == "hole-white"):
        other = "hole-black" if convention == "hole-white" else "hole-white"
        return 1 - binarise(pixels, other, name=name, allow_empty=True)
    return binarise(pixels, convention, name=name, allow_empty=True)


def _check_count(count: int, clip: Clip, name: str) -> None:
    if count < clip.count:
        raise InputError(
            f"{name} holds {count} masks, and {clip.name} has {clip.count} frames: give one for each frame, or a "
            "single picture for all"
        )
    if count > clip.count:
        message = f"{name} holds {count} masks, and {clip.name} has {clip.count} frames: the rest is not used"
        warnings.warn(message, MaskWarning, stacklevel=4)


def _check(masks: Clip) -> None:
    """One look at every mask."""
    hole = sum(int(mask.sum()) for mask in masks)
    share = hole / (masks.count * masks.height * masks.width)
    if share == 0:
        raise InputError(f"{masks.name}: no hole in any of {masks.count} frames: is it the right source?")
    if share == 1:
        raise InputError(f"{masks.name}: no known pixel in any of {masks.count} frames: is it the right source?")
    if share > LIKELY_INVERTED:
        message = f"{masks.name}: {share:.0%} of all pixels are hole, likely inverted: see the mask convention"
        warnings.warn(message, MaskWarning, stacklevel=3)


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
