"""Tiles: where they lie, how they blend, what a starved one is given."""

import numpy as np
import pytest

from jaxpaint.ops import tiles
from jaxpaint.types import InputError


def hole(height, width, *boxes):
    mask = np.zeros((height, width, 1), np.uint8)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = 1
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        hole(700, 900, (300, 200, 420, 700)),
        hole(700, 900, (0, 0, 30, 30), (690, 880, 700, 900)),
        hole(150, 2000, (0, 0, 150, 1900)),
        hole(2000, 150, (5, 20, 1990, 60)),
        hole(511, 1037, (0, 0, 511, 1036)),
    ],
    ids=["one box", "two corners", "wide strip", "high strip", "nearly all"],
)
@pytest.mark.parametrize("max_pixels", [128 * 128, 50_000, 256 * 256])
def test_tiles_cover_the_hole_within_the_limit(mask, max_pixels):
    height, width = mask.shape[:2]
    plan = tiles.plan(mask, max_pixels)
    total = np.zeros(mask.shape, np.float32)
    for tile in plan:
        assert tile.height * tile.width <= max_pixels
        assert tile.top >= 0
        assert tile.left >= 0
        assert tile.top + tile.height <= height
        assert tile.left + tile.width <= width
        share = tiles.weights(tile, height, width)
        assert (share * mask[tile.window] > 0).any(), "a tile that the hole does not need"
        total[tile.window] += share
    assert len({(t.height, t.width) for t in plan}) == 1
    assert len(set(plan)) == len(plan)
    assert (total[mask > 0] > 0).all()


def test_a_small_hole_gets_one_tile_centred_on_it():
    (tile,) = tiles.plan(hole(1000, 1000, (400, 600, 440, 660)), 256 * 256)
    assert tile == tiles.Tile(420 - 128, 630 - 128, 256, 256)


def test_two_small_holes_far_apart_get_two_tiles():
    mask = hole(3000, 3000, (10, 10, 40, 40), (2900, 2900, 2940, 2940))
    assert len(tiles.plan(mask, 256 * 256)) == 2


def test_no_hole_no_tile():
    assert tiles.plan(hole(500, 500), 128 * 128) == []


def test_too_small_a_limit_is_refused():
    with pytest.raises(InputError, match="max_pixels is 1000"):
        tiles.plan(hole(500, 500, (0, 0, 9, 9)), 1000)


def test_blend_of_crops_is_the_picture():
    """Blending the crops of a picture gives the picture, whatever the weights."""
    rng = np.random.default_rng(0)
    mask = hole(400, 500, (20, 30, 390, 480))
    picture = rng.normal(size=(400, 500, 3)).astype(np.float32)
    plan = tiles.plan(mask, 128 * 128)
    assert len(plan) > 9
    blended = tiles.blend(((tile, picture[tile.window]) for tile in plan), 400, 500)
    known = np.broadcast_to(mask > 0, picture.shape)
    np.testing.assert_allclose(blended[known], picture[known], atol=1e-5)


def test_blend_has_no_step():
    """Two tiles that disagree by 1 meet in a ramp, not in an edge."""
    mask = hole(128, 400, (0, 60, 128, 340))
    plan = tiles.plan(mask, 128 * 128)
    blended = tiles.blend(((t, np.full((t.height, t.width, 3), i % 2)) for i, t in enumerate(plan)), 128, 400)
    line = blended[64, 60:340, 0]
    assert line.min() == 0
    assert line.max() == 1
    assert np.abs(np.diff(line)).max() < np.pi / 2 / 16 + 1e-6  # slope of sin^2 over a ramp of 16 pixels


def test_reduce_means_known_pixels_only():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (300, 410, 3), np.uint8)
    mask = hole(300, 410, (17, 20, 250, 333))
    small, small_mask, k = tiles.reduce(image, mask, 5000)
    assert k == 5
    assert small.shape == (60, 82, 3)
    for row, column in [(0, 0), (3, 7), (20, 20), (50, 66), (59, 81)]:
        cell = np.s_[row * k : (row + 1) * k, column * k : (column + 1) * k]
        known = image[cell][mask[cell][..., 0] == 0].astype(float)
        assert small_mask[row, column, 0] == (len(known) == 0)
        np.testing.assert_allclose(small[row, column], known.mean(0) if len(known) else 0, rtol=1e-5)


def test_enlarge_is_exact_for_a_plane():
    """Linear interpolation of cell means gives a plane back, away from the border."""
    rows, columns = np.mgrid[:300, :400].astype(np.float32)
    plane = np.stack([rows, columns, rows - 2 * columns], -1)
    small, _, k = tiles.reduce(plane, hole(300, 400), 10_000)
    tile = tiles.Tile(100, 30, 90, 120)
    np.testing.assert_allclose(tiles.enlarge(small, k, tile), plane[tile.window], atol=1e-2)


def test_starved():
    assert tiles.starved(hole(100, 100, (0, 0, 80, 100)))
    assert not tiles.starved(hole(100, 100, (0, 0, 70, 100)))
