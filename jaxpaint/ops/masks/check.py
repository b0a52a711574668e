"""Masks that a user brings: conventions, and what is wrong with them. NumPy only.

Half of the field marks the hole in white, half in black, and some in the alpha channel; files are
resized, saved as JPEG or inverted on the way. What can be told from the picture is told here.
"""

import warnings

import numpy as np

from jaxpaint.types import InputError

CONVENTIONS = ("hole-white", "hole-black", "alpha")

GREY_SHARE = 0.01
"""More pixels than this between 10 % and 90 % grey, and the picture is not a mask."""

LIKELY_INVERTED = 0.7
"""A larger share of hole than this is more often an inverted mask than a meant one."""


class MaskWarning(UserWarning):
    """A mask can be used but is probably not what was meant."""


def binarise(
    array: np.ndarray, convention: str = "hole-white", *, name: str = "mask", allow_empty: bool = False
) -> np.ndarray:
    """A mask picture as a mask: 1 = hole, split at half of the range.

    Args:
      array: h w or h w c, of an unsigned integer type (its whole range is meant) or bool; c is 1 (grey),
        2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).
      convention: "hole-white", "hole-black", or "alpha": the hole is where the picture is transparent.
        The first two ignore an alpha channel, the last ignores the colours.
      name: the file's name, for messages.
      allow_empty: a mask without a hole is meant.

    Returns:
      uint8 h w 1, 0 or 1.

    Raises:
      InputError: unknown convention, wrong shape or type, no alpha channel, a picture that is not
        black and white, no hole, nothing but hole.

    Warns:
      MaskWarning: more than 70 % is hole.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"mask convention {convention!r} is not known: give one of {', '.join(CONVENTIONS)}")
    level = _level(np.asarray(array), convention, name)
    grey = np.mean((level > 0.1) & (level < 0.9))
    if grey > GREY_SHARE:
        raise InputError(
            f"{name} is not a mask: {grey:.1%} of its pixels are neither black nor white (at most {GREY_SHARE:.0%} may "
            "be between 10 % and 90 % grey): save it as PNG in black and white, and resize it with nearest neighbour"
        )
    hole = level > 0.5 if convention == "hole-white" else level < 0.5
    share = float(np.mean(hole))
    if share == 0 and not allow_empty:
        raise InputError(f"{name} has no hole: every pixel is known under {convention}{_hint(array, convention)}")
    if share == 1:
        raise InputError(f"{name} is all hole: no pixel is known under {convention}{_hint(array, convention)}")
    if share > LIKELY_INVERTED:
        message = f"{name} is {share:.0%} hole, likely inverted: {_otherwise(convention)}"
        warnings.warn(message, MaskWarning, stacklevel=2)
    return hole.astype(np.uint8)[..., None]


def _level(array: np.ndarray, convention: str, name: str) -> np.ndarray:
    """The channel that tells the hole: float32 h w in [0, 1]."""
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or array.size == 0:
        raise InputError(f"{name} has shape {array.shape}: a mask is a picture, h w or h w c with 1 to 4 channels")
    if array.dtype != np.bool_ and not np.issubdtype(array.dtype, np.unsignedinteger):
        raise InputError(f"{name} has values of type {array.dtype}: give uint8 (0..255), uint16 (0..65535) or bool")
    full = 1 if array.dtype == np.bool_ else np.iinfo(array.dtype).max
    level = array.reshape(*array.shape[:2], channels).astype(np.float32) / full
    if convention == "alpha":
        if channels not in (2, 4):
            raise InputError(
                f"{name} has no alpha channel (it has {channels}): use --mask-convention hole-white or hole-black"
            )
        return level[..., -1]
    colours = level[..., :3] if channels >= 3 else level[..., :1]
    coloured = np.mean(np.ptp(colours, axis=-1) > 0.1)
    if coloured > GREY_SHARE:
        raise InputError(
            f"{name} is not a mask: {coloured:.1%} of its pixels are coloured: give a picture in black and white"
        )
    return colours.mean(axis=-1)


def _hint(array: np.ndarray, convention: str) -> str:
    """What may have gone wrong where all pixels fell on one side."""
    array = np.asarray(array)
    if convention != "alpha" and array.ndim == 3 and array.shape[2] in (2, 4) and np.ptp(array[..., -1]) > 0:
        return ": its alpha channel varies, use --mask-convention alpha if the hole is there"
    if array.dtype != np.bool_ and 0 < array.max() <= 1:
        return f": its values are 0 and 1 of {np.iinfo(array.dtype).max}, multiply them"
    return ": is it the right file?"


def _otherwise(convention: str) -> str:
    if convention == "alpha":
        return "the hole is where the picture is transparent"
    other = {"hole-white": "hole-black", "hole-black": "hole-white"}[convention]
    return f"use --mask-convention {other} if the small part is the hole"


def match(mask: np.ndarray, image_shape: tuple[int, ...], *, name: str = "mask") -> None:
    """Checks that a mask has the height and width of its image.

    Args:
      mask: h w 1.
      image_shape: (h, w, ...).

    Raises:
      InputError: it has not; sizes are given as height x width.
    """
    ours, theirs = tuple(mask.shape[:2]), tuple(image_shape[:2])
    if ours != theirs:
        raise InputError(
            f"{name} is {ours[0]}x{ours[1]} but image is {theirs[0]}x{theirs[1]}: "
            "resize one of them (a mask with nearest neighbour)"
        )
