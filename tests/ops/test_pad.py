"""The padding rule against an index formula written a second time."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.ops.pad import pad_to, pad_to_multiple, unpad


def reflected(length, size):
    """Index of the source pixel for each of `size` places: a triangle wave of period 2 (length - 1)."""
    place = np.arange(size) % (2 * (length - 1))
    return np.where(place < length, place, 2 * (length - 1) - place)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (5, 3)])
@pytest.mark.parametrize("target", [(33, 47), (64, 48), (200, 130)])
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_pad_follows_the_triangle_wave_and_unpad_inverts_it(size, target, kind):
    x = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    want = x[:, reflected(size[0], target[0])][:, :, reflected(size[1], target[1])]
    padded = pad_to(kind(x), *target)
    assert type(padded) is type(kind(x))
    assert padded.dtype == np.uint8
    np.testing.assert_array_equal(padded, want)
    np.testing.assert_array_equal(unpad(padded, *size), x)


@pytest.mark.parametrize("height", [32, 33, 39, 40, 41])
def test_pad_to_multiple(height):
    x = np.random.default_rng(1).normal(size=(height, 47, 1)).astype(np.float32)
    padded = pad_to_multiple(x, 8)
    assert padded.shape == ((height + 7) // 8 * 8, 48, 1)
    np.testing.assert_array_equal(unpad(padded, height, 47), x)


def test_no_padding_is_no_operation():
    x = np.zeros((1, 64, 32, 3))
    assert pad_to_multiple(x, 8) is x


def test_a_hole_at_the_border_stays_a_hole_in_the_padding():
    mask = np.zeros((1, 33, 47, 1), np.float32)
    mask[:, -4:, 10:20] = 1
    padded = pad_to(mask, 64, 64)
    assert padded[:, 33:36, 10:20].all()
    assert set(np.unique(padded)) == {0.0, 1.0}


def test_wrong_direction_is_refused():
    with pytest.raises(ValueError, match="40x40 cannot be padded to 32x64"):
        pad_to(np.zeros((40, 40, 1)), 32, 64)
    with pytest.raises(ValueError, match="32x32 is not a padded picture of 40x20"):
        unpad(np.zeros((32, 32, 1)), 40, 20)
