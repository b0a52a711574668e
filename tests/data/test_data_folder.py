"""A folder of pictures: all formats through the pipeline, broken files, masks beside them."""

import logging
import os

import numpy as np
import pytest
from PIL import Image

from jaxpaint.data import Data, FolderSource, decode, list_pictures, open_source, stream
from jaxpaint.data.geometry import cut
from jaxpaint.data.plan import Plan
from jaxpaint.types import InputError

SIDE = 16


def picture(number, height=24, width=28):
    y, x = np.mgrid[:height, :width]
    return np.stack([8 * x + number, 8 * y + 3 * number, 4 * (x + y) + 20 * number], -1).astype(np.uint8)


def folder_of(root, count, kind="jpg"):
    root.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(picture(number)).save(root / f"{number:03d}.{kind}", subsampling=0)
    return root


def take(data, count, **options):
    batches = stream(data, **{"batch": 4, "seed": 1, **options})
    return [next(batches) for _ in range(count)], batches


@pytest.mark.parametrize("fit", ["crop", "resize", "shorter"])
def test_every_format_gives_what_pillow_gives(tmp_path, fit):
    """Whichever decoder a file goes through, an example is `cut` out of `decode`, bit for bit.

    But for the outermost columns of a JPEG with subsampled colours, cropped while it is decoded.
    """
    plain = Image.fromarray(picture(1))
    exif = Image.Exif()
    exif[0x0112] = 6
    plain.save(tmp_path / "plain.jpg", quality=90, subsampling=0)
    plain.save(tmp_path / "progressive.JPEG", quality=90, subsampling=0, progressive=True)
    plain.save(tmp_path / "subsampled.jpg", quality=90, subsampling=2)
    plain.save(tmp_path / "rotated.jpg", exif=exif)
    plain.convert("L").save(tmp_path / "grey.jpg")
    plain.convert("CMYK").save(tmp_path / "cmyk.jpg")
    plain.convert("P").save(tmp_path / "palette.png")
    plain.convert("RGBA").save(tmp_path / "alpha.PNG")
    Image.fromarray((picture(2)[..., 0].astype(np.uint16) << 8) + 77).save(tmp_path / "sixteen.png")
    (tmp_path / "deeper").mkdir()
    plain.save(tmp_path / "deeper" / "a.webp")
    plain.save(tmp_path / "deeper" / "b.bmp")
    Image.fromarray(picture(3, 10, 12)).save(tmp_path / "small.jpg")
    Image.fromarray(picture(4, SIDE, SIDE)).save(tmp_path / "exact.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    Image.fromarray(picture(0)).save(tmp_path / ".hidden.jpg")
    data = Data(source="folder", path=str(tmp_path), size=(SIDE, SIDE), fit=fit, flip=True)
    source = open_source(data)
    assert len(source) == 13 and source.files == sorted(source.files) and "deeper/b.bmp" in source.files
    plan, seen = Plan(data, 13, batch=6, seed=1), set()
    for step, batch in enumerate(take(data, 7, batch=6)[0]):
        for image, (_, index, down, right, flip) in zip(
            batch["image"], zip(*plan.step(step), strict=True), strict=True
        ):
            whole = decode(source.path(index))
            expected = cut(whole, plan.window(*whole.shape[:2], down, right), (SIDE, SIDE))
            expected = expected[:, ::-1] if flip else expected
            inner = slice(1, -1) if source.label(index) == "subsampled.jpg" else slice(None)
            np.testing.assert_array_equal(image[:, inner], expected[:, inner], err_msg=source.label(index))
            seen.add(source.label(index))
    assert seen == set(source.files)


def test_hash_is_of_names_and_sizes(tmp_path):
    first = FolderSource(str(folder_of(tmp_path / "a", 3))).hash
    assert FolderSource(str(folder_of(tmp_path / "b", 3))).hash == first
    (tmp_path / "b" / "000.jpg").rename(tmp_path / "b" / "009.jpg")
    assert FolderSource(str(tmp_path / "b")).hash != first

    os.rename(tmp_path / "a" / "000.jpg", os.fsencode(tmp_path / "a") + b"/\xff.jpg")  # no UTF-8
    assert FolderSource(str(tmp_path / "a")).hash != first
    (tmp_path / "b" / "z.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"z\.jpg: cannot be read: No such file"):
        FolderSource(str(tmp_path / "b")).hash  # noqa: B018


BREAKS = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "garbage": lambda data: np.random.default_rng(0).bytes(len(data)),
    # The header is whole and the end marker there, but the tables that decoding needs are not.
    "no tables": lambda data: data.replace(b"\xff\xdb", b"\xff\xee"),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_picture_is_replaced_by_the_next(tmp_path, caplog, how):
    """Named, counted, and replaced in the same way before and after it was noticed, on one process or two."""
    count, bad = 12, 5
    data = Data(source="folder", path=str(folder_of(tmp_path, count)), size=(SIDE, SIDE), flip=True, max_broken=0.1)
    whole, _ = take(data, 9)
    file = tmp_path / f"{bad:03d}.jpg"
    file.write_bytes(BREAKS[how](file.read_bytes()))
    with caplog.at_level(logging.WARNING):
        batches, made = take(data, 9)
    assert list(made.broken) == [file.name] and str(file) in made.broken[file.name]
    assert sum(str(file) in record.getMessage() for record in caplog.records) == 1

    plan, source, replaced = Plan(data, count, batch=4, seed=1), open_source(data), 0
    for step, (before, after) in enumerate(zip(whole, batches, strict=True)):
        examples = plan.step(step)
        for row, index in enumerate(examples.index):
            expected = before["image"][row]
            if index == bad:
                replaced += 1
                where = plan.window(24, 28, examples.down[row], examples.right[row])
                expected = cut(source.picture(bad + 1), where, (SIDE, SIDE))
                expected = expected[:, ::-1] if examples.flip[row] else expected
            np.testing.assert_array_equal(after["image"][row], expected)
    assert replaced == 3  # once in each of three epochs

    resumed, _ = take(data, 3, start_step=6)
    halves = [take(data, 9, process=k, processes=2)[0] for k in range(2)]
    for step, batch in enumerate(batches):
        np.testing.assert_array_equal(np.concatenate([half[step]["image"] for half in halves]), batch["image"])
        if step >= 6:
            np.testing.assert_array_equal(resumed[step - 6]["image"], batch["image"])


def test_too_many_broken_pictures(tmp_path):
    root = folder_of(tmp_path, 10)
    for number in (2, 7, 8):
        (root / f"{number:03d}.jpg").write_bytes(b"")
    data = Data(source="folder", path=str(root), size=(SIDE, SIDE), max_broken=0.2)
    with pytest.raises(InputError) as caught:
        take(data, 10)
    message = str(caught.value)
    assert "3 of 10 pictures (30.00%) are broken" in message and "data.max_broken = 20.00%" in message
    assert all(f"{number:03d}.jpg" in message for number in (2, 7, 8))
    data.max_broken = 0.3
    _, batches = take(data, 5)
    assert len(batches.broken) == 3


def test_one_broken_picture_is_put_up_with_unless_none_may_be(tmp_path):
    root = folder_of(tmp_path, 4)
    (root / "001.jpg").write_bytes(b"")
    data = Data(source="folder", path=str(root), size=(SIDE, SIDE))
    assert list(take(data, 3)[1].broken) == ["001.jpg"]  # a quarter of the files, but one
    data.max_broken = 0.0
    with pytest.raises(InputError, match=r"1 of 4 pictures .*001\.jpg"):
        take(data, 3)
    for file in root.iterdir():
        file.write_bytes(b"")
    data.max_broken = 1.0
    with pytest.raises(InputError, match="4 of 4 pictures"):
        take(data, 1)


def test_a_file_that_vanished_is_named(tmp_path):
    root = folder_of(tmp_path, 6)
    data = Data(source="folder", path=str(root), size=(SIDE, SIDE))
    source = open_source(data)
    (root / "003.jpg").unlink()
    _, batches = take(data, 4, source=source)
    assert "No such file" in batches.broken["003.jpg"]


def test_folders_without_pictures(tmp_path):
    with pytest.raises(InputError, match=r"nowhere' does not exist"):
        list_pictures(str(tmp_path / "nowhere"))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"holds no picture \(1 other files\).*\.jpg, \.jpeg, \.png, \.webp, \.bmp"):
        list_pictures(str(tmp_path))
    with pytest.raises(InputError, match="is a file"):
        list_pictures(str(tmp_path / "notes.txt"))


def test_links_that_go_round_are_followed_once(tmp_path):
    folder_of(tmp_path / "pictures", 2)
    (tmp_path / "pictures" / "round").symlink_to(tmp_path / "pictures")
    folder_of(tmp_path / "elsewhere", 1, "png")
    (tmp_path / "pictures" / "more").symlink_to(tmp_path / "elsewhere")
    assert list_pictures(str(tmp_path / "pictures")) == ["000.jpg", "001.jpg", "more/000.png"]


def mask_of(number, height=24, width=28):
    """A hole whose place tells the number."""
    mask = np.zeros((height, width), np.uint8)
    mask[number : number + 8, 2 * number : 2 * number + 9] = 255
    return mask


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("convention", ["hole-white", "hole-black", "alpha"])
def test_masks_paired_by_name(tmp_path, convention, scale):
    """The mask is cut and mirrored as its picture, of which red tells the column and green the row."""
    root, masks = folder_of(tmp_path / "pictures", 6, "png"), tmp_path / "masks"
    masks.mkdir()
    for number in range(6):
        mask = mask_of(number).repeat(scale, 0).repeat(scale, 1)
        if convention == "alpha":
            colours = np.zeros((*mask.shape, 3), np.uint8)
            image = Image.fromarray(np.concatenate([colours, 255 - mask[..., None]], -1))
        else:
            image = Image.fromarray(mask if convention == "hole-white" else 255 - mask)
        image.save(masks / f"{number:03d}.png")
    data = Data(source="folder", path=str(root), size=(SIDE, SIDE), flip=True)
    data.masks, data.mask_convention = str(masks), convention
    plan = Plan(data, 6, batch=4, seed=1)
    for step, batch in enumerate(take(data, 4)[0]):
        assert batch["mask"].dtype == np.uint8 and batch["mask"].shape == (4, SIDE, SIDE, 1)
        for image, mask, index in zip(batch["image"], batch["mask"], plan.step(step).index, strict=True):
            column = ((image[..., 0].astype(int) - index) % 256) // 8
            row = ((image[..., 1].astype(int) - 3 * index) % 256) // 8
            np.testing.assert_array_equal(mask[..., 0], mask_of(index)[row, column] // 255)


def test_masks_drawn_by_seed(tmp_path):
    root, masks = folder_of(tmp_path / "pictures", 6, "png"), tmp_path / "masks"
    masks.mkdir()
    for number in range(4):
        Image.fromarray(mask_of(number, SIDE, SIDE)).save(masks / f"m{number}.png")
    data = Data(source="folder", path=str(root), size=(SIDE, SIDE), masks=str(masks), mask_pairing="seed")
    known = {(mask_of(number, SIDE, SIDE) // 255).tobytes() for number in range(4)}
    batches, _ = take(data, 10)
    drawn = [mask.tobytes() for batch in batches for mask in batch["mask"]]
    assert set(drawn) == known and min(drawn.count(mask) for mask in known) >= 3
    other = [m.tobytes() for b in take(data, 10, seed=2)[0] for m in b["mask"]]
    assert other != drawn
    resumed, _ = take(data, 2, start_step=8)
    np.testing.assert_array_equal(resumed[0]["mask"], batches[8]["mask"])
    demo = Data(size=(SIDE, SIDE), masks=str(masks), mask_pairing="seed")
    assert {m.tobytes() for m in take(demo, 1)[0][0]["mask"]} <= known


def test_pictures_without_their_mask_are_listed(tmp_path):
    root, masks = folder_of(tmp_path / "pictures", 9, "png"), folder_of(tmp_path / "masks", 2, "png")
    data = Data(source="folder", path=str(root), size=(SIDE, SIDE), masks=str(masks))
    with pytest.raises(InputError, match=r"7 of 9 pictures have no mask .*002\.png, 003\.png, .*006\.png, \.\.\."):
        stream(data, batch=2, seed=0)
    folder_of(masks / "more", 9, "png")  # where two have the stem, the one with the picture's own path counts
    stream(data, batch=2, seed=0).close()
    folder_of(masks / "again", 9, "png")
    with pytest.raises(InputError, match=r"7 pictures have several masks .*: 002\.png"):
        stream(data, batch=2, seed=0)
    (root / "000.png").rename(masks / "000.jpg")
    folder_of(root, 1, "png")
    with pytest.raises(InputError, match=r"8 pictures have several masks .*: 000\.png, .*, or remove one of them"):
        stream(data, batch=2, seed=0)
    with pytest.raises(InputError, match="has no file names"):
        stream(Data(masks=str(masks)), batch=2, seed=0)


def test_a_broken_mask_is_an_error(tmp_path):
    root, masks = folder_of(tmp_path / "pictures", 4, "png"), folder_of(tmp_path / "masks", 4, "png")
    for file in masks.iterdir():
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"masks/00\d\.png: not a"):
        take(Data(source="folder", path=str(root), size=(SIDE, SIDE), masks=str(masks)), 1)
