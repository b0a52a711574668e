"""Masks: drawn on the accelerator, edited, checked, and frozen into sets.

`sample` draws one mask for each example of a batch from a family of `FAMILIES`, `sample_clips` one that moves for each
clip from a family of `MOVING`, and `paste` sets the masks of another clip's object in motion; `frozen` makes the named
sets of `SETS` for evaluation; `binarise` and `match` look after masks that a user brings. A mask is float32
``... h w 1``, exactly 0 or 1, **1 = hole**.
"""

from jaxpaint.ops.masks.check import CONVENTIONS, MaskWarning, binarise, match
from jaxpaint.ops.masks.edit import compose, dilate, downsample, erode, intersect, ratio
from jaxpaint.ops.masks.families import FAMILIES, Masks, family, sample
from jaxpaint.ops.masks.moving import MOVING, paste, sample_clips
from jaxpaint.ops.masks.sets import BUCKETS, SETS, MaskSet, digest, frozen

__all__ = [
    "BUCKETS",
    "CONVENTIONS",
    "FAMILIES",
    "MOVING",
    "SETS",
    "MaskSet",
    "MaskWarning",
    "Masks",
    "binarise",
    "compose",
    "digest",
    "dilate",
    "downsample",
    "erode",
    "family",
    "frozen",
    "intersect",
    "match",
    "paste",
    "ratio",
    "sample",
    "sample_clips",
]
