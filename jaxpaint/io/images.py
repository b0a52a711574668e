"""Picture files with what belongs to them: channels, alpha, 16 bits, EXIF, colour profile, JPEG tables.

`read` gives a `Picture`, `fill` puts a result into its hole, `write` writes it. A known pixel keeps its bits from file
to file wherever the format allows it: PNG, WebP (written lossless) and BMP do, JPEG cannot. So by default a JPEG comes
back as a PNG (`output_path`); who asks for JPEG gets the original's quantisation tables and chroma subsampling.

Kept: grey stays grey, alpha stays as it is, 16-bit grey stays 16 bits (the hole is filled with 8 significant
bits), EXIF, the colour profile, the resolution. Not kept, because it would be wrong: the EXIF orientation (pixels are
written upright and the tag says so), the EXIF thumbnail and XMP (both may describe or show what the hole removed), the
profile of a CMYK picture (it is written as RGB), EXIF that is broken (with a warning). 16-bit *colour*, and 16-bit grey
with alpha, are read at 8 bits, with a warning.
"""

import dataclasses
import io
import os
import pathlib
import struct
import warnings

import numpy as np
from PIL import Image, JpegImagePlugin

from jaxpaint.data.decode import FORMATS, decode_channels, upright
from jaxpaint.io.atomic import replacing
from jaxpaint.ops.masks.check import binarise
from jaxpaint.types import InputError

_ORIENTATION = 0x0112
_WRITERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
_GREY16 = ("I", "I;16", "I;16B", "I;16L")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A decoded picture file.

    path:     where it was read
    pixels:   uint8 h w c, upright: c is 1 (grey), 2 (grey, alpha), 3 or 4
    deep:     uint16 h w 1 of a 16-bit grey picture, else None
    exif:     EXIF bytes with orientation 1 and no thumbnail, or b""
    icc:      colour profile, or b""
    dpi:      horizontal and vertical resolution, or None
    tables:   a JPEG's quantisation tables, else None
    sampling: a JPEG's chroma subsampling as Pillow numbers it, -1 where it is none of the usual
    """

    path: pathlib.Path
    pixels: np.ndarray
    deep: np.ndarray | None = None
    exif: bytes = b""
    icc: bytes = b""
    dpi: tuple[float, float] | None = None
    tables: dict | None = None
    sampling: int = -1

    @property
    def rgb(self) -> np.ndarray:
        """uint8 h w 3, what a network sees: grey three times, no alpha."""
        channels = self.pixels.shape[-1]
        return np.repeat(self.pixels[..., :1], 3, -1) if channels < 3 else self.pixels[..., :3]

    @property
    def alpha(self) -> np.ndarray | None:
        """uint8 h w 1, or None."""
        return self.pixels[..., -1:] if self.pixels.shape[-1] in (2, 4) else None


def read(path: str | os.PathLike) -> Picture:
    """Reads a picture with everything that `write` needs to give it back.

    Raises:
      InputError: the file is missing, broken, or of a format that is not read; names it.
    """
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    pixels = decode_channels(data, name=str(path))
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        tables = getattr(image, "quantization", None)
        icc = image.info.get("icc_profile") or b""
        if icc and image.mode == "CMYK":
            warnings.warn(f"{path}: CMYK is written as RGB, without its colour profile", stacklevel=2)
            icc = b""
        deep = image.mode in _GREY16 and pixels.shape[-1] == 1
        if image.format == "PNG" and data[24] == 16 and not deep:
            kind = "colour" if pixels.shape[-1] > 2 else "grey with alpha"
            warnings.warn(f"{path}: 16-bit {kind} is read and written at 8 bits a channel", stacklevel=2)
        return Picture(
            path=path,
            pixels=pixels,
            deep=_sixteen_bits(image) if deep else None,
            exif=_upright_exif(image, path),
            icc=icc,
            dpi=image.info.get("dpi"),
            tables=dict(tables) if tables else None,
            sampling=JpegImagePlugin.get_sampling(image) if tables else -1,
        )


def fill(picture: Picture, result: np.ndarray, mask: np.ndarray, *, opaque: bool = False) -> Picture:
    """The picture with the hole taken from a result.

    Args:
      picture: the original.
      result: uint8 h w 3.
      mask: uint8 h w 1, 1 = hole.
      opaque: make the hole opaque (where alpha was the mask, it would stay invisible otherwise).
    """
    hole = mask > 0
    colour = _luma(result) if picture.pixels.shape[-1] < 3 else result
    if picture.alpha is not None:
        alpha = np.where(hole, np.uint8(255), picture.alpha) if opaque else picture.alpha
        colour = np.concatenate([colour, alpha], -1)
        hole = np.concatenate([np.repeat(hole, colour.shape[-1] - 1, -1), np.ones_like(hole)], -1)
    deep = picture.deep
    if deep is not None:
        deep = np.where(mask > 0, _luma(result).astype(np.uint16) * 257, deep)
    return dataclasses.replace(picture, pixels=np.where(hole, colour, picture.pixels), deep=deep)


def output_path(source: pathlib.Path, folder: pathlib.Path, choice: str = "auto") -> pathlib.Path:
    """Where the result of a picture goes: its own name, with the ending of the format.

    Args:
      source: the picture, relative to the folder that it came from.
      folder: of the results.
      choice: auto (the same format where it is lossless, else PNG), png, jpeg, webp or keep (the same format).
    """
    ending = source.suffix.lower()
    if choice == "auto":
        new = source.suffix if ending in (".png", ".webp", ".bmp") else ".png"
    elif choice == "keep":
        new = source.suffix
    else:
        new = source.suffix if _WRITERS.get(ending) == choice.upper() else {"jpeg": ".jpg"}.get(choice, f".{choice}")
    return folder / source.with_suffix(new)


def exact(path: pathlib.Path) -> bool:
    """Whether a file of that name keeps every bit of a pixel."""
    return _WRITERS.get(path.suffix.lower()) != "JPEG"


def writable(path: pathlib.Path) -> pathlib.Path:
    """The path, if its ending names a format that `write` writes; InputError otherwise."""
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"{path}: no picture format ends in {path.suffix!r}: use one of {', '.join(_WRITERS)}")
    return path


def write(path: str | os.PathLike, picture: Picture) -> None:
    """Writes a picture in the format that the path's ending names, in one step: never half a file.

    Raises:
      InputError: the ending is of no known format, the picture has alpha and the format has none, or the format cannot
        hold it: it is too large, or its EXIF is.
      OSError: from the file system; nothing is left behind.
    """
    path = writable(pathlib.Path(path))
    kind = _WRITERS[path.suffix.lower()]
    pixels = picture.pixels
    if kind in ("JPEG", "BMP") and picture.alpha is not None:
        raise InputError(f"{path}: {kind} has no alpha, and {picture.path} has: write png or webp")
    if kind != "PNG" and picture.deep is not None:
        warnings.warn(f"{path}: {kind} has 8 bits, and {picture.path} has 16: write png to keep them", stacklevel=2)
    if picture.deep is not None and kind == "PNG":
        image = Image.fromarray(picture.deep[..., 0])
    else:
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    with replacing(path) as temporary:
        options = _options(kind, picture)
        try:
            image.save(temporary, format=kind, **options)
        except (ValueError, TypeError, struct.error) as error:
            raise InputError(f"{path}: {kind} cannot hold {picture.path} ({error}): try another format") from error


def read_mask(path: str | os.PathLike, convention: str = "hole-white", *, allow_empty: bool = False) -> np.ndarray:
    """A mask file as uint8 h w 1 in {0, 1}, 1 = hole; see `jaxpaint.ops.masks.check.binarise`."""
    return binarise(read(path).pixels, convention, name=str(path), allow_empty=allow_empty)


def _luma(rgb: np.ndarray) -> np.ndarray:
    """Grey of uint8 h w 3 as Pillow makes it (ITU-R 601), h w 1: exactly v where r = g = b = v."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L"))[..., None]


def _sixteen_bits(image: Image.Image) -> np.ndarray:
    return np.array(upright(image)).astype(np.uint16)[..., None]


def _upright_exif(image: Image.Image, path: pathlib.Path) -> bytes:
    exif = image.getexif()
    if not len(exif):
        return b""
    if _ORIENTATION in exif:
        exif[_ORIENTATION] = 1
    try:
        return exif.tobytes()
    except Exception as error:
        warnings.warn(f"{path}: its EXIF is broken ({error}) and is left out", stacklevel=3)
        return b""


def _options(kind: str, picture: Picture) -> dict:
    """Pillow's arguments for a format."""
    options = {"dpi": picture.dpi} if picture.dpi and kind != "WEBP" else {}
    if kind == "BMP":
        return options
    if picture.exif:
        options["exif"] = picture.exif
    if picture.icc:
        options["icc_profile"] = picture.icc
    if kind == "WEBP":
        options |= {"lossless": True, "exact": True}
    if kind == "JPEG" and picture.tables:
        options["qtables"] = picture.tables
        if picture.sampling >= 0:
            options["subsampling"] = picture.sampling
    elif kind == "JPEG":
        options |= {"quality": 95, "subsampling": 0}
    return options
