"""Masks of a clip from every source, and every way in which they can be wrong."""

import warnings

import numpy as np
import pytest
from PIL import Image

from jaxpaint.io.frames import array_clip, folder_clip
from jaxpaint.io.video_masks import open_masks, widen
from jaxpaint.io.video_sink import open_sink
from jaxpaint.ops.masks import MaskWarning
from jaxpaint.types import InputError

T, H, W = 6, 20, 30


@pytest.fixture
def holes():
    """A box that wanders; the last frame has none: uint8 t h w 1."""
    made = np.zeros((T, H, W, 1), np.uint8)
    for t in range(T - 1):
        made[t, 3 + t : 12 + t, 4 + 3 * t : 12 + 3 * t] = 1
    return made


@pytest.fixture
def clip(tmp_path):
    """A folder of frames a0.png, a1.png, ..., a5.png."""
    (tmp_path / "frames").mkdir()
    for t in range(T):
        Image.fromarray(np.full((H, W, 3), 40 * t, np.uint8)).save(tmp_path / "frames" / f"a{t}.png")
    return folder_clip(tmp_path / "frames")


def save(root, pictures, name="a{}.png"):
    root.mkdir()
    for t, picture in enumerate(pictures):
        Image.fromarray(picture.squeeze()).save(root / name.format(t))
    return root


def read(masks):
    made = np.stack(list(masks))
    assert made.dtype == np.uint8 and made.shape == (masks.count, H, W, 1)
    return made


def test_all_sources_agree(tmp_path, clip, holes):
    white = holes * 255
    with open_sink(tmp_path / "m.mkv", clip, lossless=True) as put:
        for hole in white:
            put(np.repeat(hole, 3, -1))
    rgba = np.concatenate([np.full((T, H, W, 3), 9, np.uint8), 255 - white], -1)
    black = np.repeat(255 - white, 3, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source, options in (
            (save(tmp_path / "by_name", white), {}),
            (save(tmp_path / "by_name_black", black), {"convention": "hole-black", "pairing": "name"}),
            (save(tmp_path / "alpha", rgba), {"convention": "alpha"}),
            (save(tmp_path / "by_order", white, "mask_{}.bmp"), {}),
            (tmp_path / "m.mkv", {}),
            (holes, {}),
            (holes[..., 0] > 0, {}),
            (white, {}),
        ):
            masks = open_masks(source, clip, **options)
            np.testing.assert_array_equal(read(masks), holes, err_msg=str(source))
            np.testing.assert_array_equal(np.stack(list(masks.frames(2, 5))), holes[2:5])


def test_one_picture_for_all_frames(tmp_path, clip, holes):
    Image.fromarray(holes[1, ..., 0] * 255).save(tmp_path / "m.png")
    for source in (tmp_path / "m.png", str(tmp_path / "m.png"), holes[1], holes[1, ..., 0]):
        np.testing.assert_array_equal(read(open_masks(source, clip)), np.repeat(holes[1:2], T, 0))


def test_pairs_by_name_and_by_order_differ(tmp_path, clip, holes):
    """Masks of other frames lie in the folder, too; order would take them."""
    more = np.concatenate([holes[::-1] * 255, holes[:2] * 255])
    root = save(tmp_path / "masks", more, "a{}.png")
    for t in range(T):
        (root / f"a{t}.png").rename(root / f"x{t}.png")
    for t in range(T):
        (root / f"x{t}.png").rename(root / f"a{T - 1 - t}.png")
    np.testing.assert_array_equal(read(open_masks(root, clip, pairing="name")), holes)
    with pytest.warns(MaskWarning, match="holds 8 masks, and .* has 6 frames: the rest is not used"):
        by_order = open_masks(root, clip, pairing="order")
    np.testing.assert_array_equal(read(by_order), holes)
    (root / "a3.png").rename(root / "b.png")
    with pytest.raises(InputError, match=r"1 of 6 frames of .* have no mask of their name among the 8 in .*: a3\.png"):
        open_masks(root, clip)
    unnamed = array_clip(np.zeros((T, H, W, 3), np.uint8))
    with pytest.raises(InputError, match="has no file names to pair by"):
        open_masks(root, unnamed, pairing="name")


def test_a_frame_may_be_all_hole(tmp_path, clip, holes):
    """Not one frame, the clip has to have known pixels; a large hole in one frame is no reason to warn either."""
    holes[2] = 1
    holes[3, :, :25] = 1
    for convention, pictures in (("hole-white", holes * 255), ("hole-black", 255 - holes * 255)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            masks = open_masks(save(tmp_path / convention, pictures), clip, convention)
        np.testing.assert_array_equal(read(masks), holes)


@pytest.mark.parametrize("as_files", [True, False])
def test_holes_nowhere_and_everywhere(tmp_path, clip, holes, as_files):
    def source(name, masks):
        return save(tmp_path / name, masks * 255) if as_files else masks

    with pytest.raises(InputError, match="no hole in any of 6 frames"):
        open_masks(source("none", holes * 0), clip)
    with pytest.raises(InputError, match="no known pixel in any of 6 frames"):
        open_masks(source("all", holes * 0 + 1), clip)
    with pytest.warns(MaskWarning, match="90% of all pixels are hole, likely inverted"):
        open_masks(source("inverted", 1 - holes), clip)


def test_errors_carry_the_numbers(tmp_path, clip, holes):
    white = holes * 255
    grey = white.copy()
    grey[4, :5] = 128
    wide = np.pad(white, ((0, 0), (0, 0), (0, 2), (0, 0)))
    with open_sink(tmp_path / "short.mkv", clip, lossless=True) as put:
        for hole in white[:4]:
            put(np.repeat(hole, 3, -1))
    Image.fromarray(wide[0, ..., 0]).save(tmp_path / "wide.png")
    for source, options, words in (
        (save(tmp_path / "few", white[:4], "m{}.png"), {}, "holds 4 masks, and .* has 6 frames: give one for each"),
        (save(tmp_path / "few_named", white[:4]), {}, r"2 of 6 frames .*: a4\.png, a5\.png"),
        (tmp_path / "short.mkv", {}, "holds 4 masks, and .* has 6 frames"),
        (holes[:4], {}, "holds 4 masks, and .* has 6 frames"),
        (save(tmp_path / "grey", grey), {}, r"a4\.png is not a mask: 25\.0% of its pixels are neither"),
        (save(tmp_path / "wide", wide), {}, r"a0\.png is 20x32 but image is 20x30: resize"),
        (tmp_path / "wide.png", {}, r"wide\.png is 20x32 but image is 20x30"),
        (wide, {}, "the array of masks is 20x32 but image is 20x30"),
        (holes * 7, {}, "is not binary: it has values from 0 to 7"),
        (np.zeros((1, T, H, W, 1)), {}, "has shape"),
        (save(tmp_path / "plain", white), {"convention": "alpha"}, r"a0\.png has no alpha channel"),
        (tmp_path / "short.mkv", {"convention": "alpha"}, "is read without alpha"),
        (tmp_path / "few", {"convention": "white"}, "mask convention 'white' is not known"),
        (tmp_path / "few", {"pairing": "sorted"}, "mask pairing 'sorted' is not known"),
        (tmp_path / "nothing", {}, "does not exist"),
        (tmp_path / "nothing.png", {}, "cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            open_masks(source, clip, **options)


def test_widening_in_time(clip, holes):
    masks = open_masks(holes, clip)
    for frames in (0, 1, 2, 9):
        expected = np.stack([holes[max(t - frames, 0) : t + frames + 1].max(0) for t in range(T)])
        wide = widen(masks, frames)
        np.testing.assert_array_equal(read(wide), expected)
        np.testing.assert_array_equal(np.stack(list(wide.frames(2, 4))), expected[2:4])
    with pytest.raises(InputError, match="by -1 frames"):
        widen(masks, -1)
