"""Where an example lies in its picture, and cutting it out."""

from typing import NamedTuple

import numpy as np
from PIL import Image


class Window(NamedTuple):
    """The picture is resized to ``height`` x ``width``; the example begins there at (``top``, ``left``)."""

    height: int
    width: int
    top: int
    left: int


def window(height: int, width: int, size: tuple[int, int], fit: str, down: float, right: float) -> Window:
    """The window of an example.

    Args:
      height, width: the picture's, in pixels, after EXIF rotation.
      size: the example's height and width.
      fit: see `jaxpaint.data.Data`.
      down, right: draws in [0, 1): how far the window lies from the top and the left, of the room there is.
    """
    if fit == "resize":
        return Window(size[0], size[1], 0, 0)
    scale = max(size[0] / height, size[1] / width)
    if fit == "shorter" or scale > 1:
        # Not below the window: of the two sides one is exact by construction, but rounding may not say so.
        height, width = max(size[0], round(height * scale)), max(size[1], round(width * scale))
    return Window(height, width, int(down * (height - size[0] + 1)), int(right * (width - size[1] + 1)))


def cut(image: np.ndarray, where: Window, size: tuple[int, int]) -> np.ndarray:
    """uint8 h w 3 to uint8 size 3. Where the picture is resized, only the window is computed."""
    height, width = image.shape[:2]
    if (height, width) == where[:2]:
        return image[where.top : where.top + size[0], where.left : where.left + size[1]]
    y, x = height / where.height, width / where.width
    box = (
        where.left * x,
        where.top * y,
        min((where.left + size[1]) * x, width),
        min((where.top + size[0]) * y, height),
    )
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR, box=box))


def cut_mask(mask: np.ndarray, where: Window, size: tuple[int, int]) -> np.ndarray:
    """h w 1 to size 1 by nearest neighbour (pixel centres), which keeps a mask binary.

    The mask may have other sides than its picture: it is stretched over it.
    """
    height, width = mask.shape[:2]
    rows = ((where.top + np.arange(size[0]) + 0.5) * height / where.height).astype(np.int64)
    columns = ((where.left + np.arange(size[1]) + 0.5) * width / where.width).astype(np.int64)
    return mask[np.minimum(rows, height - 1)[:, None], np.minimum(columns, width - 1)[None, :]]
