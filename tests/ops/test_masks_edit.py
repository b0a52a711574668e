"""Mask utilities, against SciPy and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxpaint.ops import masks
from jaxpaint.types import InputError


@pytest.fixture(scope="module")
def blobs():
    drawn = np.random.default_rng(1).random((3, 37, 50, 1)) < np.array([0.01, 0.5, 0.98])[:, None, None, None]
    return drawn.astype(np.float32)


@pytest.mark.parametrize("pixels", [0, 1, 3, 20, 60])
def test_dilate_and_erode(blobs, pixels):
    grown, shrunk = jax.jit(lambda mask: (masks.dilate(mask, pixels), masks.erode(mask, pixels)))(blobs)
    for number, mask in enumerate(blobs[..., 0]):
        np.testing.assert_array_equal(
            grown[number, ..., 0], ndimage.maximum_filter(mask, 2 * pixels + 1, mode="constant")
        )
        np.testing.assert_array_equal(
            shrunk[number, ..., 0], ndimage.minimum_filter(mask, 2 * pixels + 1, mode="constant", cval=1.0)
        )


def test_dtype_is_kept(blobs):
    whole = jnp.asarray(blobs.astype(np.uint8))
    for changed in (masks.dilate(whole, 2), masks.erode(whole, 2), masks.downsample(whole, 1), masks.compose(whole)):
        assert changed.dtype == jnp.uint8


def test_compose_and_intersect(blobs):
    first, second, third = blobs.astype(bool)
    np.testing.assert_array_equal(masks.compose(*blobs), first | second | third)
    np.testing.assert_array_equal(masks.intersect(*blobs), first & second & third)


def test_ratio(blobs):
    np.testing.assert_allclose(masks.ratio(jnp.asarray(blobs)), [m.sum() / m.size for m in blobs], rtol=1e-6)


def test_downsample(blobs):
    mask = blobs[:, :36, :48]
    small = np.asarray(masks.downsample(jnp.asarray(mask), 4))
    assert small.shape == (3, 9, 12, 1)
    for row in range(9):
        for column in range(12):
            cell = mask[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            np.testing.assert_array_equal(small[:, row, column, 0], cell.any(axis=(1, 2, 3)))


def test_errors(blobs):
    with pytest.raises(InputError, match="a mask of 37x50 cannot be reduced by 4: pad"):
        masks.downsample(blobs, 4)
    with pytest.raises(InputError, match="pixels is -1: give an integer from 0 up"):
        masks.dilate(blobs, -1)
    with pytest.raises(InputError, match=r"factor is 2\.0: give an integer from 1 up"):
        masks.downsample(blobs, 2.0)
