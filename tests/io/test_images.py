"""Picture files there and back: bits, channels, EXIF, colour profile, JPEG tables."""

import io
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from jaxpaint.io.images import Picture, exact, fill, output_path, read, read_mask, write
from jaxpaint.types import InputError

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape, seed=0, kind=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, shape, kind)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def hole(height, width):
    mask = np.zeros((height, width, 1), np.uint8)
    mask[5:20, 10:30] = 1
    return mask


@pytest.mark.parametrize(
    ("ending", "channels"),
    [("png", 1), ("png", 3), ("png", 4), ("webp", 1), ("webp", 3), ("webp", 4), ("bmp", 1), ("bmp", 3)],
)
def test_lossless_formats_keep_every_bit(tmp_path, ending, channels):
    array = noise(40, 50, channels)
    source = save(tmp_path / f"in.{ending}", array[..., 0] if channels == 1 else array, lossless=True, exact=True)
    picture = read(source)
    mask, result = hole(40, 50), noise(40, 50, 3, seed=1)
    if channels == 1:
        result[:] = result[..., :1]
    write(tmp_path / f"out.{ending}", fill(picture, result, mask))
    known = mask[..., 0] == 0
    again = read(tmp_path / f"out.{ending}")
    assert exact(tmp_path / f"out.{ending}")
    np.testing.assert_array_equal(again.rgb[known], picture.rgb[known])
    np.testing.assert_array_equal(again.rgb[~known], result[~known])
    if ending != "webp":  # WebP knows no grey
        assert again.pixels.shape == picture.pixels.shape
    if channels == 4:
        np.testing.assert_array_equal(again.alpha[..., 0], array[..., 3])


def test_alpha_of_a_hole_that_came_from_alpha_becomes_opaque(tmp_path):
    array = noise(40, 50, 4)
    array[..., 3] = 255 * (1 - hole(40, 50)[..., 0])
    picture = read(save(tmp_path / "a.png", array))
    mask = hole(40, 50)
    assert (fill(picture, picture.rgb, mask, opaque=True).alpha == 255).all()
    np.testing.assert_array_equal(fill(picture, picture.rgb, mask).alpha, picture.alpha)


def test_sixteen_bit_grey_keeps_its_bits(tmp_path):
    array = noise(40, 50, kind=np.uint16)
    picture = read(save(tmp_path / "deep.png", array))
    assert picture.pixels.shape == (40, 50, 1)
    np.testing.assert_array_equal(picture.pixels[..., 0], array >> 8)
    mask = hole(40, 50)
    write(tmp_path / "out.png", fill(picture, np.full((40, 50, 3), 77, np.uint8), mask))
    with Image.open(tmp_path / "out.png") as image:
        again = np.asarray(image)
    assert again.dtype == np.uint16
    want = np.where(mask[..., 0] > 0, 77 * 257, array)
    np.testing.assert_array_equal(again, want)
    with pytest.warns(UserWarning, match=r"out.webp: WEBP has 8 bits, and .*deep.png has 16"):
        write(tmp_path / "out.webp", picture)


def test_sixteen_bit_colour_is_warned_of(tmp_path):
    """Pillow cannot write such a file, so it is put together here."""

    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    size = (32).to_bytes(4, "big")
    rows = b"".join(b"\0" + noise(32 * 6, seed=n).tobytes() for n in range(32))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + size + bytes([16, 2, 0, 0, 0]))
    (tmp_path / "deep.png").write_bytes(data + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    with pytest.warns(UserWarning, match=r"deep.png: 16-bit colour is read and written at 8 bits"):
        assert read(tmp_path / "deep.png").pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_exif_and_profile_come_along_and_the_picture_is_upright(tmp_path, ending):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010F] = "A maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:02:02 02:02:02"
    exif.get_ifd(0x8825)[1] = "N"
    options = {"lossless": True} if ending == "webp" else {}
    array = noise(40, 50, 3)
    source = save(tmp_path / f"in.{ending}", array, exif=exif, icc_profile=PROFILE, **options)
    picture = read(source)
    assert picture.pixels.shape == (50, 40, 3)
    if ending != "jpg":
        np.testing.assert_array_equal(picture.pixels, np.rot90(array, -1))
    write(tmp_path / f"out.{ending}", picture)
    with Image.open(tmp_path / f"out.{ending}") as image:
        assert image.size == (40, 50)
        assert image.info["icc_profile"] == PROFILE
        kept = image.getexif()
        assert kept[0x0112] == 1
        assert kept[0x010F] == "A maker"
        assert kept.get_ifd(0x8769)[0x9003] == "2020:02:02 02:02:02"
        assert kept.get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("quality", [50, 75, 92])
@pytest.mark.parametrize("sampling", [0, 2])
def test_jpeg_keeps_its_tables(tmp_path, quality, sampling):
    rows, columns = np.mgrid[:64, :96]
    array = np.stack([rows * 2, columns * 2, 255 - rows * 3], -1).astype(np.uint8)
    source = save(tmp_path / "in.jpg", array, quality=quality, subsampling=sampling, dpi=(300, 300))
    write(tmp_path / "out.jpg", read(source))
    with Image.open(source) as one, Image.open(tmp_path / "out.jpg") as other:
        assert one.quantization == other.quantization
        assert other.info["dpi"] == (300, 300)
        assert [layer[1:3] for layer in one.layer] == [layer[1:3] for layer in other.layer]
    assert not exact(tmp_path / "out.jpg")


def test_grey_jpeg_and_palette_and_cmyk(tmp_path):
    assert read(save(tmp_path / "grey.jpg", noise(40, 50))).pixels.shape == (40, 50, 1)
    image = Image.fromarray(noise(40, 50, 3)).quantize(16)
    image.save(tmp_path / "palette.png")
    picture = read(tmp_path / "palette.png")
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    Image.fromarray(noise(40, 50, 4), "CMYK").save(tmp_path / "print.jpg", icc_profile=PROFILE)
    with pytest.warns(UserWarning, match="print.jpg: CMYK is written as RGB"):
        picture = read(tmp_path / "print.jpg")
    assert picture.icc == b""
    assert picture.pixels.shape == (40, 50, 3)


def test_jpeg_refuses_alpha_and_nothing_is_left_of_a_failed_write(tmp_path, monkeypatch):
    picture = Picture(pathlib.Path("a.png"), noise(40, 50, 4))
    with pytest.raises(InputError, match=r"out.jpg: JPEG has no alpha, and a.png has: write png or webp"):
        write(tmp_path / "out.jpg", picture)
    with pytest.raises(InputError, match=r"out.bmp: BMP has no alpha"):
        write(tmp_path / "out.bmp", picture)
    with pytest.raises(InputError, match=r"no picture format ends in '\.gif'"):
        write(tmp_path / "out.gif", picture)
    (tmp_path / "out.png").write_bytes(b"the earlier one")

    def full(self, path, **options):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "out.png", picture)
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    assert (tmp_path / "out.png").read_bytes() == b"the earlier one"


@pytest.mark.parametrize(
    ("name", "choice", "want"),
    [
        ("a.JPG", "auto", "a.png"),
        ("a.png", "auto", "a.png"),
        ("sub/a.b.webp", "auto", "sub/a.b.webp"),
        ("a.bmp", "auto", "a.bmp"),
        ("a.JPEG", "keep", "a.JPEG"),
        ("a.JPEG", "jpeg", "a.JPEG"),
        ("a.png", "jpeg", "a.jpg"),
        ("a.jpg", "webp", "a.webp"),
    ],
)
def test_names_of_results(name, choice, want):
    assert output_path(pathlib.Path(name), pathlib.Path("out"), choice) == pathlib.Path("out") / want


def test_files_that_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"missing.png: cannot be read: No such file"):
        read(tmp_path / "missing.png")
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 50, 3)).save(buffer, "JPEG")
    (tmp_path / "broken.jpg").write_bytes(buffer.getvalue()[:600])
    with pytest.raises(InputError, match=r"broken\.jpg: broken or truncated picture"):
        read(tmp_path / "broken.jpg")


def test_masks_by_convention(tmp_path):
    mask = hole(40, 50)[..., 0]
    white = save(tmp_path / "white.png", mask * 255)
    black = save(tmp_path / "black.png", (1 - mask) * 255)
    alpha = np.concatenate([noise(40, 50, 3), (1 - mask)[..., None] * 255], -1).astype(np.uint8)
    clear = save(tmp_path / "clear.png", alpha)
    for path, convention in [(white, "hole-white"), (black, "hole-black"), (clear, "alpha")]:
        got = read_mask(path, convention)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, mask[..., None])
    with pytest.raises(InputError, match=r"white.png has no alpha channel"):
        read_mask(white, "alpha")
    with pytest.raises(InputError, match=r"grey.png is not a mask"):
        read_mask(save(tmp_path / "grey.png", noise(40, 50)), "hole-white")


def odd_exif(tag):
    """EXIF that says "turn by 90 degrees", with text where a number belongs: Pillow reads it and cannot write it.

    The bytes of TIFF 6.0: a header, then entries of tag, type (3: 16 bits, 2: text), count and value.
    """
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHI4s", tag, 2, 2, b"ab")
    return b"Exif\0\0II*\0\x08\0\0\0\2\0" + entries + bytes(4)


@pytest.mark.parametrize("tag", [0x0100, 0x011A])
def test_broken_exif_is_left_out_with_a_warning(tmp_path, tag):
    array = noise(40, 50, 3)
    source = save(tmp_path / "odd.png", array, exif=odd_exif(tag))
    with pytest.warns(UserWarning, match=r"odd\.png: its EXIF is broken \(.*\) and is left out"):
        picture = read(source)
    assert picture.exif == b""
    np.testing.assert_array_equal(picture.pixels, np.rot90(array, -1))


def test_what_a_format_cannot_hold_is_an_input_error(tmp_path):
    wide = Picture(pathlib.Path("wide.png"), np.zeros((40, 16384, 3), np.uint8))
    with pytest.raises(InputError, match=r"out\.webp: WEBP cannot hold wide\.png .*: try another format"):
        write(tmp_path / "out.webp", wide)
    much = Picture(pathlib.Path("much.png"), noise(40, 50, 3), exif=b"Exif\0\0" + bytes(70000))
    with pytest.raises(InputError, match=r"out\.jpg: JPEG cannot hold much\.png"):
        write(tmp_path / "out.jpg", much)
    assert not list(tmp_path.iterdir())


def test_the_transparent_colour_of_a_png_is_alpha(tmp_path):
    """It was dropped in silence."""
    grey = noise(40, 50)
    source = save(tmp_path / "grey.png", grey, transparency=9)
    picture = read(source)
    np.testing.assert_array_equal(picture.pixels, np.stack([grey, np.where(grey == 9, 0, 255)], -1))
    write(tmp_path / "out.png", picture)
    np.testing.assert_array_equal(read(tmp_path / "out.png").pixels, picture.pixels)
    clear = np.full((40, 50, 3), 7, np.uint8)
    clear[hole(40, 50)[..., 0] > 0] = 255, 0, 255
    mask = read_mask(save(tmp_path / "clear.png", clear, transparency=(255, 0, 255)), "alpha")
    np.testing.assert_array_equal(mask, hole(40, 50))
    deep = (noise(40, 50).astype(np.uint16) << 8) + 77
    source = save(tmp_path / "deep.png", deep, transparency=int(deep[3, 4]))
    with pytest.warns(UserWarning, match=r"deep.png: 16-bit grey with alpha is read and written at 8 bits"):
        picture = read(source)
    assert picture.deep is None
    np.testing.assert_array_equal(picture.pixels, np.stack([deep >> 8, np.where(deep == deep[3, 4], 0, 255)], -1))
