"""Where the clips of a training run lie: folders of frame folders, arrays, or a TFDS video set.

A source has ``len``, ``label(index)``, ``length(index)`` (frames), ``frame(index, number)``, ``masked`` (whether there
is a ``mask(index, number)``), ``counted`` (whether lengths are known without reading clips), ``name`` and ``hash``. A
frame is read when it is asked for. Only `TfdsClips` needs TensorFlow.
"""

import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxpaint.data.decode import decode, decode_channels
from jaxpaint.data.frames import frame_files
from jaxpaint.data.tfds import TfdsSource
from jaxpaint.ops.masks.check import CONVENTIONS, binarise
from jaxpaint.types import InputError


class FolderClips:
    """A folder of folders, each a clip of picture files in natural order (DAVIS, YouTube-VOS).

    Args:
      root: every folder in it that holds pictures is a clip; hidden ones are not.
      masks: a folder with one folder of masks for each clip, of the same name and as many masks as frames; or "".
      mask_convention: "hole-white", "hole-black", "alpha", or "nonzero": whatever is not black is hole (the object
        annotations of the data sets above, also where they are coloured).

    Raises:
      InputError: no such folder, no clip in it, a clip without masks or with another number of them.
    """

    counted = True

    def __init__(self, root: str | os.PathLike, masks: str | os.PathLike = "", mask_convention: str = "nonzero"):
        self.root, self.convention = pathlib.Path(root), mask_convention
        self.name = f"folder of clips {root}"
        if mask_convention not in (*CONVENTIONS, "nonzero"):
            known = ", ".join((*CONVENTIONS, "nonzero"))
            raise InputError(f"mask convention {mask_convention!r} is not known: give one of {known}")
        if not self.root.is_dir():
            raise InputError(f"{self.name}: there is no such folder")
        self.clips = sorted(path.name for path in self.root.iterdir() if path.is_dir() and path.name[0] != ".")
        if not self.clips:
            raise InputError(f"{self.name} holds no folder: each clip is a folder of its frames")
        self.files = [frame_files(self.root / clip) for clip in self.clips]
        self.mask_root = pathlib.Path(masks) if masks else None
        self.mask_files = [frame_files(self.mask_root / clip) for clip in self.clips] if masks else None
        for clip, files, others in zip(self.clips, self.files, self.mask_files or self.files, strict=True):
            if len(files) != len(others):
                raise InputError(f"clip {clip} of {self.name} has {len(files)} frames and {len(others)} masks")

    def __len__(self) -> int:
        return len(self.clips)

    def label(self, index: int) -> str:
        return self.clips[index]

    def length(self, index: int) -> int:
        """Frames of a clip."""
        return len(self.files[index])

    def frame(self, index: int, number: int) -> np.ndarray:
        """uint8 h w 3. Raises InputError where the file is broken."""
        return decode(self.root / self.clips[index] / self.files[index][number])

    def mask(self, index: int, number: int) -> np.ndarray:
        """uint8 h w 1, 1 = hole; it may be empty."""
        path = self.mask_root / self.clips[index] / self.mask_files[index][number]
        pixels = decode_channels(path)
        if self.convention == "nonzero":
            colours = pixels[..., :3] if pixels.shape[-1] > 2 else pixels[..., :1]
            return colours.any(-1, keepdims=True).astype(np.uint8)
        return binarise(pixels, self.convention, name=str(path), allow_empty=True)

    @property
    def masked(self) -> bool:
        return self.mask_files is not None

    @property
    def hash(self) -> str:
        """SHA-256 over names and sizes of the frames, in hex."""
        digest = hashlib.sha256()
        for clip, files in zip(self.clips, self.files, strict=True):
            for name in files:
                digest.update(f"{clip}/{name}\0{os.path.getsize(self.root / clip / name)}\n".encode())
        return digest.hexdigest()


class ArrayClips:
    """Clips in memory.

    Args:
      arrays: ``clips`` uint8, n t h w 3 or a list of t h w 3, and optionally ``masks`` n t h w 1 or a list of t h w 1,
        0 and 1, 1 = hole.

    Raises:
      InputError: an array is missing or of another shape or type.
    """

    name = "clips in memory"
    counted = True

    def __init__(self, arrays: Mapping[str, Sequence[np.ndarray]]):
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
    def masked(self) -> bool:
        return self.masks is not None

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
      InputError: as `TfdsSource`; while reading, the feature is no clip.
    """

    masked = counted = False

    def __init__(self, name: str, split: str = "train", *, directory: str = "", feature: str = "video"):
        self._set = TfdsSource(name, split, directory=directory, feature=feature)
        self._clips = self._set._builder.as_data_source(split=split)
        self.name, self.hash, self._feature = self._set.name, self._set.hash, feature
        self._last: tuple[int, np.ndarray | None] = (-1, None)

    def __len__(self) -> int:
        return len(self._set)

    def label(self, index: int) -> str:
        return self._set.label(index)

    def length(self, index: int) -> int:
        return len(self._clip(index))

    def frame(self, index: int, number: int) -> np.ndarray:
        return self._clip(index)[number]

    def _clip(self, index: int) -> np.ndarray:
        if self._last[0] != index:
            clip = np.asarray(self._clips[index][self._feature])  # a list of frames
            if clip.ndim != 4 or clip.shape[3] != 3 or clip.dtype != np.uint8:
                raise InputError(f"{self.label(index)}: {self._feature!r} is {clip.dtype} {clip.shape}: no RGB clip")
            self._last = (index, clip)
        return self._last[1]
