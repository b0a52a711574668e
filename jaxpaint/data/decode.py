"""Picture files to arrays, with Pillow: every format and peculiarity that the input accepts.

Also `read_header`, which looks at a file's first bytes and says whether TensorFlow's JPEG decoder, which is faster
but ignores EXIF rotation and knows fewer formats, gives the same picture.
"""

import io
import os
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxpaint.types import InputError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # Pillow's names

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(source: bytes | str | os.PathLike, *, name: str = "") -> np.ndarray:
    """A picture as uint8 h w 3, RGB, upright.

    EXIF rotation is applied. Grey becomes three equal channels; a palette becomes its colours; alpha is dropped and
    the colours stay as stored (nothing is put behind them); 16 bits become the high byte, as in libpng, TensorFlow
    and OpenCV; CMYK is converted without a colour profile. An embedded colour profile is not applied. Of an
    animation, the first frame.

    Args:
      source: the encoded bytes, or a path.
      name: what an error calls it; by default the path.

    Raises:
      InputError: the file is missing, truncated, broken, or of another format; names it.
    """
    return _pixels(source, name, _rgb)


def decode_channels(source: bytes | str | os.PathLike, *, name: str = "") -> np.ndarray:
    """As `decode`, but with the channels that the file has: uint8 h w c with c = 1 (grey), 2 (grey, alpha), 3 or 4.

    For masks, whose hole may be in alpha. Black and white (1 bit) becomes 0 and 255, a palette its colours. The one
    transparent colour that a PNG may name (tRNS) becomes alpha.
    """
    return _pixels(source, name, _channels)


class Header(NamedTuple):
    """height, width: of the upright picture. plain: a JPEG that any decoder reads the same way."""

    height: int
    width: int
    plain: bool


def read_header(data: bytes, *, name: str = "") -> Header:
    """Looks at the header only; 5 microseconds for most JPEG files.

    Raises:
      InputError: as `decode`, where the header already shows it.
    """
    if data[:2] == b"\xff\xd8":
        try:
            header = _jpeg_header(data)
        except (struct.error, IndexError):  # the markers end in the middle: Pillow judges the file as a whole
            header = None
        if header is not None:
            return header
    with _translated(name or "the picture"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):
            width, height = height, width
        return Header(height, width, False)


def _pixels(source: bytes | str | os.PathLike, name: str, convert) -> np.ndarray:
    if isinstance(source, bytes):
        data, name = source, name or "the picture"
    else:
        name = name or os.fspath(source)
        try:
            with open(source, "rb") as file:
                data = file.read()
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
    with _translated(name), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        turned, bits = upright(image), data[24] if image.format == "PNG" else 8
    return convert(turned, bits)


def upright(image: Image.Image) -> Image.Image:
    """The picture, loaded and turned as its EXIF orientation says.

    Pillow's own `exif_transpose` also writes the EXIF anew, and fails where any tag of it is broken.
    """
    image.load()
    turn = _TURNS.get(image.getexif().get(0x0112))
    return image if turn is None else image.transpose(turn)


class _translated:
    """Whatever Pillow raises on a bad file becomes an InputError that names the file.

    Its plugins raise OSError, SyntaxError, struct.error, ValueError, zlib.error and more, depending on which byte
    is wrong.
    """

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, Image.UnidentifiedImageError):
            raise InputError(f"{self.name}: not a {', '.join(FORMATS)} picture") from error
        if isinstance(error, Exception) and not isinstance(error, MemoryError):
            raise InputError(f"{self.name}: broken or truncated picture ({error})") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey to the high byte. Pillow itself would clip: all above 255 would be white."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return image


def _rgb(image: Image.Image, bits: int) -> np.ndarray:
    return np.array(_eight_bits(image).convert("RGB"))


def _channels(image: Image.Image, bits: int) -> np.ndarray:
    alpha = _transparent_colour(image, bits)
    image = _eight_bits(image)
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        clear = image.mode in ("PA", "La", "RGBa") or (image.mode == "P" and "transparency" in image.info)
        image = image.convert("L" if image.mode == "1" else "RGBA" if clear else "RGB")
    pixels = np.array(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return pixels if alpha is None else np.concatenate([pixels, alpha], -1)


def _transparent_colour(image: Image.Image, bits: int) -> np.ndarray | None:
    """uint8 h w 1: 0 where a PNG has the colour that it names as transparent, else 255; None where it names none.

    Pillow's conversions do not find the colour with 2, 4 or 16 bits a sample: it is named in the file's bits, the
    pixels are in 8 (but for 16-bit grey).
    """
    if "transparency" not in image.info or image.mode == "P":
        return None
    colour = np.atleast_1d(image.info["transparency"])
    if not image.mode.startswith("I"):
        colour = colour >> 8 if bits == 16 else np.minimum(colour * 255 // (2**bits - 1), 255)
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    return np.where((values.reshape(*values.shape[:2], -1) == colour).all(-1, keepdims=True), 0, 255).astype(np.uint8)


def _jpeg_header(data: bytes) -> Header | None:
    """Walks the markers of a JPEG up to its first scan. None where the picture is not a plain one.

    Plain: Huffman-coded with 8 bits, baseline or progressive, grey or three components, EXIF orientation 1 or none,
    and an end marker in its last bytes (else it may be truncated, and only decoding it whole can tell).
    """
    at, size = 2, None
    while True:
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + length]
        if marker in (0xC0, 0xC1, 0xC2):
            bits, height, width, components = struct.unpack_from(">BHHB", body)
            if bits != 8 or components not in (1, 3) or not height or not width:
                return None
            size = height, width
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return None  # lossless, hierarchical or arithmetic coding
        elif marker == 0xE1 and not _upright(body):
            return None
        elif marker == 0xDA:
            break
        at += 2 + length
    if size is None or data.rfind(b"\xff\xd9", max(at, len(data) - 1024)) < 0:
        return None
    return Header(*size, True)


def _upright(body: bytes) -> bool:
    """Whether an APP1 segment leaves the picture as it is: EXIF orientation 1 or none, none in XMP either."""
    if not body.startswith(b"Exif\0\0"):
        return b"rientation" not in body
    tiff = body[6:]
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return False
    (first,) = struct.unpack_from(order + "I", tiff, 4)
    (entries,) = struct.unpack_from(order + "H", tiff, first)
    for entry in range(entries):
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, first + 2 + 12 * entry)
        if tag == 0x0112:
            return value == 1
    return True
