"""Masks that a user brings: every convention and every message."""

import warnings

import numpy as np
import pytest

from jaxpaint.ops import masks
from jaxpaint.types import InputError


@pytest.fixture
def picture():
    """Grey 20x30 with a white box of 1/6."""
    drawn = np.zeros((20, 30), np.uint8)
    drawn[5:15, 10:20] = 255
    return drawn


def test_conventions_agree(picture):
    hole = (picture > 0).astype(np.uint8)[..., None]
    rgb = np.repeat(picture[..., None], 3, axis=-1)
    opaque = np.full_like(picture, 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for array, convention in (
            (picture, "hole-white"),
            (picture[..., None], "hole-white"),
            (rgb, "hole-white"),
            (np.dstack([rgb, opaque]), "hole-white"),
            (np.dstack([picture, opaque]), "hole-white"),
            (255 - picture, "hole-black"),
            (255 - rgb, "hole-black"),
            (np.dstack([rgb // 3, 255 - picture]), "alpha"),
            (np.dstack([picture * 0, 255 - picture]), "alpha"),
            (picture > 0, "hole-white"),
            (picture.astype(np.uint16) * 257, "hole-white"),
        ):
            made = masks.binarise(array, convention)
            assert made.dtype == np.uint8
            np.testing.assert_array_equal(made, hole)


def test_threshold_is_half_of_the_range():
    row = np.array([[0] * 200 + [127], [255] * 200 + [128]], np.uint8)
    np.testing.assert_array_equal(masks.binarise(row)[:, -1, 0], [0, 1])
    np.testing.assert_array_equal(masks.binarise(row, "hole-black")[:, -1, 0], [1, 0])


def test_a_little_grey_is_allowed(picture):
    picture[0, :6] = 128  # exactly 1 %
    masks.binarise(picture)
    picture[0, 6] = 128
    with pytest.raises(InputError, match=r"hole\.png is not a mask: 1\.2% of its pixels are neither black nor white"):
        masks.binarise(picture, name="hole.png")


def test_empty_and_full(picture):
    nothing = np.zeros_like(picture)
    with pytest.raises(InputError, match=r"a\.png has no hole: every pixel is known under hole-white: is it the right"):
        masks.binarise(nothing, name="a.png")
    assert masks.binarise(nothing, allow_empty=True).sum() == 0
    with pytest.raises(InputError, match=r"a\.png is all hole: no pixel is known under hole-black"):
        masks.binarise(nothing, "hole-black", name="a.png")
    with pytest.raises(InputError, match="its values are 0 and 1 of 255, multiply them"):
        masks.binarise(picture // 255)
    with pytest.raises(InputError, match="its alpha channel varies, use --mask-convention alpha"):
        masks.binarise(np.dstack([nothing, nothing, nothing, picture]))


def test_likely_inverted(picture):
    with pytest.warns(
        masks.MaskWarning, match=r"b\.png is 83% hole, likely inverted: use --mask-convention hole-black"
    ):
        masks.binarise(255 - picture, name="b.png")
    with pytest.warns(masks.MaskWarning, match="use --mask-convention hole-white"):
        masks.binarise(picture, "hole-black")
    with pytest.warns(masks.MaskWarning, match="the hole is where the picture is transparent"):
        masks.binarise(np.dstack([picture, picture]), "alpha")


def test_wrong_pictures(picture):
    with pytest.raises(InputError, match=r"c\.png has no alpha channel \(it has 3\)"):
        masks.binarise(np.repeat(picture[..., None], 3, axis=-1), "alpha", name="c.png")
    with pytest.raises(InputError, match="convention 'white' is not known: give one of hole-white, hole-black, alpha"):
        masks.binarise(picture, "white")
    with pytest.raises(InputError, match=r"mask has shape \(2, 20, 30, 1\): a mask is a picture"):
        masks.binarise(np.stack([picture, picture])[..., None])
    with pytest.raises(InputError, match="mask has values of type float64"):
        masks.binarise(picture / 255)
    red = np.dstack([picture, picture * 0, picture * 0])
    with pytest.raises(InputError, match=r"mask is not a mask: 16\.7% of its pixels are coloured"):
        masks.binarise(red)


def test_match():
    mask = np.zeros((256, 256, 1), np.uint8)
    masks.match(mask, (256, 256, 3))
    with pytest.raises(InputError, match=r"d\.png is 256x256 but image is 256x320: resize one of them"):
        masks.match(mask, (256, 320, 3), name="d.png")
