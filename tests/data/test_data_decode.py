"""Picture files to arrays: every format and peculiarity, against the pixels that were written."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxpaint.data import decode, decode_channels
from jaxpaint.data.decode import read_header
from jaxpaint.types import InputError


def pixels(height=20, width=30, channels=3, seed=0):
    """A smooth picture, so that JPEG keeps it closely."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    phase = np.random.default_rng(seed).random(channels) * 6
    return np.stack([127 + 120 * np.sin(3 * x + 2 * y + p) for p in phase], -1).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png16(values: np.ndarray) -> bytes:
    """An RGB PNG with 16 bits a channel, which Pillow cannot write: chunks by hand, filter 0 in every row."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind,options", [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_keep_every_value(kind, options):
    image = pixels()
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(image), kind, **options)), image)


def test_grey_is_three_equal_channels():
    grey = pixels(channels=1)[..., 0]
    for kind in ("PNG", "BMP"):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(grey), kind)), np.stack([grey] * 3, -1))
    one_bit = Image.fromarray(grey > 127)
    np.testing.assert_array_equal(decode(encoded(one_bit, "PNG"))[..., 0], (grey > 127) * 255)


def test_alpha_is_dropped_over_nothing():
    image = pixels(channels=4)
    image[:10, :, 3] = 0
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(image), "PNG")), image[..., :3])
    grey = Image.fromarray(image[..., 0]).convert("LA")
    grey.putalpha(Image.fromarray(image[..., 3]))
    np.testing.assert_array_equal(decode(encoded(grey, "PNG"))[..., 1], image[..., 0])


def test_palette_with_transparency_becomes_its_colours():
    table = np.array([[255, 0, 0], [0, 128, 0], [7, 8, 9]], np.uint8)
    index = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    image = Image.frombytes("P", (4, 3), index.tobytes())
    image.putpalette(table.tobytes())
    data = encoded(image, "PNG", transparency=1)
    np.testing.assert_array_equal(decode(data), table[index])
    np.testing.assert_array_equal(decode_channels(data)[..., 3], np.where(index == 1, 0, 255))


def test_sixteen_bits_become_the_high_byte():
    """Pillow's own conversion of 16-bit grey clips: nearly all would be white."""
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(values), "PNG"))[..., 1], values // 257)
    colours = np.stack([values, values[::-1], values.T], -1)
    np.testing.assert_array_equal(decode(png16(colours)), colours // 257)


def test_cmyk_jpeg():
    image = pixels()
    got = decode(encoded(Image.fromarray(image).convert("CMYK"), "JPEG", quality=100, subsampling=0))
    assert got.shape == image.shape
    assert np.abs(got.astype(int) - image).max() <= 8  # JPEG's loss in four channels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_rotation(kind, orientation):
    """What EXIF 2.3, tag 0x0112, says of each value: which edge of the picture row 0 and column 0 are."""
    image = pixels()
    upright = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: image[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(image),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"PNG": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}[kind]
    data = encoded(Image.fromarray(image), kind, exif=exif, **options)
    got = decode(data)
    assert got.shape == upright.shape
    assert np.abs(got.astype(int) - upright).max() <= (3 if kind == "JPEG" else 0)
    header = read_header(data)
    assert (header.height, header.width) == upright.shape[:2]
    assert header.plain == (kind == "JPEG" and orientation == 1)


def test_header_sends_only_plain_jpegs_to_the_fast_decoder():
    image = Image.fromarray(pixels())
    plain = encoded(image, "JPEG")
    assert read_header(plain) == (20, 30, True)
    assert read_header(encoded(image, "JPEG", progressive=True)).plain
    assert read_header(encoded(image.convert("L"), "JPEG")).plain
    assert read_header(plain + b"\0" * 100).plain  # some writers pad
    assert not read_header(encoded(image.convert("CMYK"), "JPEG")).plain
    assert not read_header(plain[:-30]).plain  # the end marker is missing
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation='6'/>"
    assert not read_header(encoded(image, "JPEG", xmp=xmp[29:])).plain
    for kind in ("PNG", "WEBP", "BMP"):
        assert read_header(encoded(image, kind)) == (20, 30, False)


def test_mask_channels_are_kept():
    image = pixels(channels=4)
    assert decode_channels(encoded(Image.fromarray(image), "PNG")).shape == (20, 30, 4)
    assert decode_channels(encoded(Image.fromarray(image[..., :3]), "PNG")).shape == (20, 30, 3)
    one_bit = decode_channels(encoded(Image.fromarray(image[..., 0] > 127), "PNG"))
    assert one_bit.shape == (20, 30, 1) and set(np.unique(one_bit)) == {0, 255}


def keyed_png(bits: int, row: bytes, transparent: bytes) -> bytes:
    """A PNG of one row with a transparent colour, grey or RGB; Pillow writes none of 2 or 4 bits, nor RGB of 16."""
    kind, samples = (0, 1) if len(transparent) == 2 else (2, 3)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 8 * len(row) // (bits * samples), 1, bits, kind, 0, 0, 0)),
        (b"tRNS", transparent),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    )
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    "bits,row,transparent,colours,alpha",
    [
        (1, [0b01010011], [0, 1], [0, 255, 0, 255, 0, 0, 255, 255], [255, 0, 255, 0, 255, 255, 0, 0]),
        (2, [0b00011011], [0, 2], [0, 85, 170, 255], [255, 255, 0, 255]),
        (4, [0x2F], [0, 15], [34, 255], [255, 0]),
        (8, [77, 78], [0, 77], [77, 78], [0, 255]),
        (16, [7, 1, 7, 2], [7, 2], [7, 7], [255, 0]),
        (8, [1, 2, 3, 1, 2, 4], [0, 1, 0, 2, 0, 3], [[1, 2, 3], [1, 2, 4]], [0, 255]),
        (16, [1, 9, 2, 9, 3, 9, 4, 9, 5, 9, 6, 9], [4, 9, 5, 9, 6, 9], [[1, 2, 3], [4, 5, 6]], [255, 0]),
    ],
)
def test_a_transparent_colour_is_alpha(bits, row, transparent, colours, alpha):
    data = keyed_png(bits, bytes(row), bytes(transparent))
    want = np.reshape(colours, (1, len(alpha), -1))
    np.testing.assert_array_equal(decode_channels(data), np.concatenate([want, np.reshape(alpha, (1, -1, 1))], -1))
    # What is trained on has no alpha.
    np.testing.assert_array_equal(decode(data), np.broadcast_to(want, (1, len(alpha), 3)))


def test_bad_files_are_named(tmp_path):
    good = encoded(Image.fromarray(pixels(100, 100)), "JPEG")
    broken = {
        "truncated.jpg": good[: len(good) // 2],
        "empty.png": b"",
        "garbage.webp": np.random.default_rng(0).bytes(500),
        "truncated.png": encoded(Image.fromarray(pixels(100, 100)), "PNG")[:400],
        "text.bmp": b"BMthis is no picture",
        "picture.gif": encoded(Image.fromarray(pixels()), "GIF"),
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name):
            decode(tmp_path / name)
    with pytest.raises(InputError, match=r"gone\.jpg: cannot be read"):
        decode(os.fspath(tmp_path / "gone.jpg"))
    with pytest.raises(InputError, match="some name"):
        decode(b"", name="some name")
