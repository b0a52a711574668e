"""Where the clips of a training run lie: folders of frame folders, arrays, or a TFDS video set.

A source has ``len``, ``label(index)``, ``length(index)`` (frames), ``frame(index, number)``, ``masks`` (None, or there
is a ``mask(index, number)``), ``counted`` (whether lengths are known without reading clips), ``name`` and ``hash``. A
frame is read when it is asked for, by any thread. Only `TfdsClips` needs TensorFlow.
"""

import hashlib
import os
import pathlib
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from jaxpaint.data.arrays import load_arrays
from jaxpaint.data.decode import decode
from jaxpaint.data.frames import frame_files
from jaxpaint.data.masks import read_mask
from jaxpaint.data.tfds import TfdsSource
from jaxpaint.types import InputError


class _Folders:
    """The folders in a folder, each with picture files in natural order; hidden folders are not taken.

    Raises:
      InputError: no such folder, no folder in it, one without pictures.
    """

    counted = True

    def __init__(self, root: str | os.PathLike, name: str):
        self.root, self.name = pathlib.Path(root), name
        if not self.root.is_dir():
            raise InputError(f"{name}: there is no such folder")
        self.clips = sorted(path.name for path in self.root.iterdir() if path.is_dir() and path.name[0] != ".")
        if not self.clips:
            raise InputError(f"{name} holds no folder: each clip is a folder of its frames")
        self.files = [frame_files(self.root / clip) for clip in self.clips]

    def __len__(self) -> int:
        return len(self.clips)

    def label(self, index: int) -> str:
        return self.clips[index]

    def length(self, index: int) -> int:
        """Frames of a clip."""
        return len(self.files[index])

    def path(self, index: int, number: int) -> pathlib.Path:
        """The file of a frame."""
        return self.root / self.clips[index] / self.files[index][number]


class FolderClips(_Folders):
    """A folder of folders, each a clip of picture files in natural order (DAVIS, YouTube-VOS).

    Args:
      root: every folder in it that is not hidden is a clip.

    Raises:
      InputError: no such folder, no clip in it, a clip without frames.
    """

    masks = None

    def __init__(self, root: str | os.PathLike):
        super().__init__(root, f"folder of clips {root}")

    def frame(self, index: int, number: int) -> np.ndarray:
        """uint8 h w 3. Raises InputError where the file is broken."""
        return decode(self.path(index, number))

    @property
    def hash(self) -> str:
        """SHA-256 over names and sizes of the frames, in hex."""
        digest = hashlib.sha256()
        for clip, files in zip(self.clips, self.files, strict=True):
            for name in files:
                digest.update(f"{clip}/{name}\0{os.path.getsize(self.root / clip / name)}\n".encode())
        return digest.hexdigest()


class FolderMasks(_Folders):
    """A folder of folders of mask files, as `FolderClips` of frames.

    Args:
      root: every folder in it that is not hidden is a clip of masks.
      convention: see `Data.mask_convention`.

    Raises:
      InputError: as `FolderClips`.
    """

    def __init__(self, root: str | os.PathLike, convention: str):
        super().__init__(root, f"folder of masks {root}")
        self.convention = convention

    def mask(self, index: int, number: int) -> np.ndarray:
        """uint8 h w 1, 1 = hole; it may be empty. Raises InputError where the file is broken, or is no mask."""
        return read_mask(self.path(index, number), self.convention, allow_empty=True)


class ArrayClips:
    """Clips in memory.

    Args:
      arrays: ``clips`` uint8, n t h w 3 or a list of t h w 3, and optionally ``masks`` n t h w 1 or a list of t h w 1,
        0 and 1, 1 = hole; or the path of an .npz file that holds them.

    Raises:
      InputError: no such file, not an .npz, an array is missing or of another shape or type.
    """

    counted = True

    def __init__(self, arrays: Mapping[str, Sequence[np.ndarray]] | str):
        self.name = f"arrays {arrays}" if isinstance(arrays, str) else "clips in memory"
        if isinstance(arrays, str):
            arrays = load_arrays(arrays)
        if "clips" not in arrays or not len(arrays["clips"]):
            raise InputError(
                f"{self.name}: no 'clips' (there are {sorted(arrays)}): a list of uint8 t h w 3 is expected"
            )
        self.clips = [np.asarray(clip) for clip in arrays["clips"]]
        for number, clip in enumerate(self.clips):
            if clip.ndim != 4 or clip.shape[3] != 3 or clip.dtype != np.uint8 or 0 in clip.shape:
                raise InputError(f"clips[{number}] is {clip.dtype} {clip.shape}: uint8 t h w 3 is expected")
        self.masks = [np.asarray(clip) for clip in arrays["masks"]] if "masks" in arrays else None
        if self.masks is not None and len(self.masks) != len(self.clips):
            raise InputError(
                f"{self.name}: {len(self.masks)} masks for {len(self.clips)} clips: one for each is expected"
            )
        for number, clip in enumerate(self.masks or ()):
            expected = (*self.clips[number].shape[:3], 1)
            if clip.shape != expected or not ((clip == 0) | (clip == 1)).all():
                raise InputError(f"masks[{number}] is {clip.shape}: {expected} with values 0 and 1 is expected")

    def __len__(self) -> int:
        return len(self.clips)

    def label(self, index: int) -> str:
        return f"clips[{index}]"

    def length(self, index: int) -> int:
        return len(self.clips[index])

    def frame(self, index: int, number: int) -> np.ndarray:
        return self.clips[index][number]

    def mask(self, index: int, number: int) -> np.ndarray:
        return self.masks[index][number].astype(np.uint8)

    @property
    def hash(self) -> str:
        """SHA-256 over shapes and contents, in hex."""
        digest = hashlib.sha256()
        for clip in self.clips:
            digest.update(f"{clip.shape}\n".encode() + np.ascontiguousarray(clip).tobytes())
        return digest.hexdigest()


class TfdsClips:
    """A prepared TFDS data set with a `Video` feature, in the array_record format.

    TFDS decodes a clip as a whole, whichever frames are wanted; the last clip read is kept. For long clips a folder of
    frame folders is faster.

    Args:
      name, split, directory: as of `jaxpaint.data.tfds.TfdsSource`.
      feature: name of the video's feature, uint8 t h w 3.

    Raises:
      InputError: as `TfdsSource`; the feature is no clip.
    """

    masks = None
    counted = False

    def __init__(self, name: str, split: str = "train", *, directory: str = "", feature: str = "video"):
        self._set = TfdsSource(name, split, directory=directory, feature=feature)
        kind = self._set._builder.info.features[feature]
        if kind.np_dtype != np.uint8 or len(kind.shape) != 4 or kind.shape[-1] != 3:
            raise InputError(
                f"{self._set.name}: {feature!r} is {np.dtype(kind.np_dtype)} {kind.shape}: no clip, uint8 t h w 3; "
                "set data.feature"
            )
        self._clips = self._set._builder.as_data_source(split=split)
        self.name, self.hash, self._feature = self._set.name, self._set.hash, feature
        self._last: tuple[int, np.ndarray | None] = (-1, None)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._set)

    def label(self, index: int) -> str:
        return self._set.label(index)

    def length(self, index: int) -> int:
        return len(self._clip(index))

    def frame(self, index: int, number: int) -> np.ndarray:
        return self._clip(index)[number]

    def _clip(self, index: int) -> np.ndarray:
        with self._lock:
            if self._last[0] != index:
                self._last = (index, np.asarray(self._clips[index][self._feature]))  # a list of frames
            return self._last[1]
