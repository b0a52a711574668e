"""Pictures and their masks, checked: what stands between a user's arrays and a network."""

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpaint.ops.masks.check import match
from jaxpaint.types import InputError

SMALLEST = 32
"""The least height and width of a picture."""


class Job(NamedTuple):
    """One picture, checked.

    image:    h w 3, uint8 or float32
    mask:     uint8 h w 1, 1 = hole, dilated
    position: uint32, by which its noise is drawn
    """

    image: np.ndarray
    mask: np.ndarray
    position: int


def pictures_in(images: Any) -> tuple[list, bool]:
    """(list of pictures, whether a lone one was given)."""
    if isinstance(images, np.ndarray | jax.Array):
        if images.ndim == 3:
            return [np.asarray(images)], True
        if images.ndim != 4:
            raise InputError(f"images are {shape_of(images)}: expected b h w 3, h w 3, or a list of h w 3")
    return [np.asarray(image) for image in _listed(images, "images")], False


def masks_for(masks: Any, count: int, lone: bool) -> list:
    """One mask for each picture."""
    if isinstance(masks, np.ndarray | jax.Array):
        single = masks.ndim == 2 or (masks.ndim == 3 and (masks.shape[-1] == 1 or (lone and len(masks) > 1)))
        masks = [np.asarray(masks)] * count if single else list(np.asarray(masks))
    masks = _listed(masks, "masks")
    if len(masks) != count:
        raise InputError(f"{len(masks)} masks for {count} pictures: give one for each, or a single h w 1 for all")
    return masks


def prepare(image: Any, mask: Any, position: int, *, mask_dilate: int = 0, name: str = "the picture") -> Job:
    """Checks one picture and its mask.

    Args:
      image: h w 3, uint8 or float32.
      mask: h w or h w 1; bool, {0, 1} or {0, 255}.
      position, mask_dilate: as in `Inpainter.inpaint`.
      name: what an error calls the picture.

    Raises:
      InputError: says what is wrong with it. A mask without a hole is no error.
    """
    image, mask = np.asarray(image), np.asarray(mask)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise InputError(f"{name} is {shape_of(image)}: expected height x width x 3 (RGB, channels last)")
    if min(image.shape[:2]) < SMALLEST:
        raise InputError(f"{name} is {shape_of(image)}: both sides must be {SMALLEST} pixels or more; enlarge it")
    if image.dtype not in (np.uint8, np.float32):
        raise InputError(f"{name} is {image.dtype}: expected uint8, or float32 in [-1, 1]")
    mask = _binary(mask, name)
    match(mask, image.shape, name=f"{name}: mask")
    mask = dilate(mask, mask_dilate)
    if mask.all():
        after = f" after dilation by {mask_dilate}" if mask_dilate else ""
        raise InputError(f"{name}: the mask{after} is a hole from edge to edge: there is nothing known to fill it from")
    if image.dtype == np.float32:
        known = image[mask[..., 0] == 0]
        if not (np.abs(known) <= 1).all():
            low, high = float(known.min()), float(known.max())
            raise InputError(f"{name} holds values from {low:g} to {high:g}: float pictures lie in [-1, 1]")
    return Job(image, mask, int(position))


def dilate(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A hole that reaches `pixels` further to each side and corner (a square); h w 1.

    On the host: `jaxpaint.ops.masks.dilate` would be compiled for every size of picture.
    """
    if pixels < 0:
        raise InputError(f"mask_dilate is {pixels}: expected 0 or more pixels")
    for axis in (0, 1):
        count = np.pad(mask.astype(np.int32), [(pixels + 1, pixels) if a == axis else (0, 0) for a in range(3)])
        count = count.cumsum(axis)
        length = mask.shape[axis]
        high, low = np.arange(length) + 2 * pixels + 1, np.arange(length)
        mask = (count.take(high, axis) > count.take(low, axis)).astype(np.uint8)
    return mask


def _binary(mask: np.ndarray, name: str) -> np.ndarray:
    """A mask as uint8 h w 1 in {0, 1}."""
    if mask.ndim == 2:
        mask = mask[..., None]
    if mask.ndim != 3 or mask.shape[-1] != 1:
        raise InputError(f"{name}: mask is {shape_of(mask)}: expected height x width, or height x width x 1")
    high = mask.max() if mask.size else 0
    full = 255 if high == 255 else 1
    if not ((mask == 0) | (mask == full)).all():
        grey = float(np.mean((mask != 0) & (mask != full)))
        raise InputError(
            f"{name}: mask is not binary: values from {mask.min():g} to {high:g}, {grey:.1%} of them neither 0 nor "
            f"{full}; expected bool, {{0, 1}} or {{0, 255}}, 1 = hole: threshold it (mask > 127)"
        )
    return (mask > 0).astype(np.uint8)


def _listed(values: Any, name: str) -> list:
    """A sequence of arrays as a list."""
    if isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
        raise InputError(
            f"{name} is a {type(values).__name__}: expected an array or a list of arrays: "
            "np.asarray(PIL.Image.open(path).convert('RGB'), or 'L' for a mask) makes one"
        )
    return list(values)


def shape_of(array: Any, axes: int | None = None) -> str:
    """300x200x3, for messages; the first `axes` only."""
    return "x".join(map(str, array.shape[:axes])) or "a single number"
