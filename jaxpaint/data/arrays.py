"""Pictures that are arrays already. Needs no TensorFlow."""

import hashlib
import zipfile
from collections.abc import Mapping

import numpy as np

from jaxpaint.types import InputError


class ArraySource:
    """``images`` uint8 n h w 3, and optionally ``masks`` n h w 1 (or n h w) whose values are 0 and 1, 1 = hole.

    Args:
      arrays: the mapping itself, or the path of an .npz file that holds it.

    Raises:
      InputError: no such file, not an .npz, an array is missing or of another shape or type.
    """

    encoded = False

    def __init__(self, arrays: Mapping[str, np.ndarray] | str):
        self.name = f"arrays {arrays}" if isinstance(arrays, str) else "arrays in memory"
        if isinstance(arrays, str):
            arrays = load_arrays(arrays)
        if "images" not in arrays:
            raise InputError(f"{self.name}: no array 'images' (there are {sorted(arrays)}): uint8 n h w 3 is expected")
        self.images = np.asarray(arrays["images"])
        if self.images.ndim != 4 or self.images.shape[3] != 3 or self.images.dtype != np.uint8:
            raise InputError(
                f"{self.name}: 'images' is {self.images.dtype} {self.images.shape}: uint8 n h w 3 is expected"
            )
        if 0 in self.images.shape:
            raise InputError(f"{self.name}: 'images' has shape {self.images.shape}: there is no picture in it")
        self.masks = _masks(np.asarray(arrays["masks"]), len(self), self.name) if "masks" in arrays else None
        self._hash = None

    def __len__(self) -> int:
        return len(self.images)

    def label(self, index: int) -> str:
        return f"images[{index}]"

    def picture(self, index: int) -> np.ndarray:
        """The whole picture, uint8 h w 3."""
        return self.images[index]

    @property
    def hash(self) -> str:
        """SHA-256 over the shape and the content of ``images``, in hex."""
        if self._hash is None:
            digest = hashlib.sha256(f"{self.images.shape}\n".encode())
            for image in self.images:
                digest.update(np.ascontiguousarray(image))
            self._hash = digest.hexdigest()
        return self._hash


def load_arrays(path: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, by name. Raises InputError where it cannot be read, or is none."""
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise InputError(f"arrays {path!r} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"arrays {path!r} is not a readable .npz file: {error}") from error


def _masks(masks: np.ndarray, count: int, name: str) -> np.ndarray:
    if masks.ndim == 3:
        masks = masks[..., None]
    if masks.ndim != 4 or masks.shape[3] != 1 or len(masks) != count:
        raise InputError(f"{name}: 'masks' has shape {masks.shape}: {count} masks, n h w 1, are expected")
    values = np.unique(masks)
    if not np.isin(values, (0, 1)).all():
        raise InputError(
            f"{name}: 'masks' has values from {values[0]} to {values[-1]}: exactly 0 and 1 (1 = hole) are expected"
        )
    return masks.astype(np.uint8)
