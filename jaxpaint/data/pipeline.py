"""`open_source` and `stream`: from a `Data` to batches."""

import os
import weakref
from collections.abc import Iterator
from typing import get_args, get_type_hints

import numpy as np

from jaxpaint.data._tensorflow import tensorflow
from jaxpaint.data.arrays import ArraySource
from jaxpaint.data.broken import Broken
from jaxpaint.data.clip_sources import ArrayClips, FolderClips, TfdsClips
from jaxpaint.data.clips import clip_batches, mask_entry
from jaxpaint.data.config import Data
from jaxpaint.data.demo import DemoSource
from jaxpaint.data.demo_clips import DemoClips
from jaxpaint.data.folder import FolderSource
from jaxpaint.data.geometry import cut, cut_mask
from jaxpaint.data.masks import MaskFolder
from jaxpaint.data.plan import Plan
from jaxpaint.data.prefetch import Prefetch
from jaxpaint.data.tfds import TfdsSource
from jaxpaint.types import InputError

SOURCES = ("demo", "folder", "tfds", "arrays")


def open_source(data: Data):
    """The pictures that `data` names, or the clips where it has `frames`.

    Returns:
      A source: ``len(source)``; ``name``; ``hash``, hex, of the list of files, for the protocol card;
      ``label(index)``, a file's name; ``picture(index)``, the whole picture, uint8 h w 3. Of clips: see
      `jaxpaint.data.clip_sources`.

    Raises:
      InputError: a field has no meaning, there is no such source, or nothing in it.
    """
    _check(data)
    if data.source == "demo":
        if data.frames:
            most = (data.frames - 1) * data.stride[1] + 1
            return DemoClips(data.size, max(30, most), data.length, data.split)
        return DemoSource(data.size, data.length, data.split)
    if not data.path:
        what = "clips" if data.frames else "pictures"
        raise InputError(f"data.source is {data.source!r} but data.path is empty: say where the {what} are")
    path = os.path.expanduser(data.path)
    if data.source == "folder":
        return FolderClips(path) if data.frames else FolderSource(path)
    if data.source == "arrays":
        return ArrayClips(path) if data.frames else ArraySource(path)
    kind, feature = (TfdsClips, "video") if data.frames else (TfdsSource, "image")
    return kind(data.path, data.split, directory=os.path.expanduser(data.directory), feature=data.feature or feature)


class Stream:
    """Iterator over this process's batches; see `stream`.

    source: what `open_source` gave
    broken: name -> reason of the broken pictures or clips met so far, by this process
    close:  ends the work in the background. Letting go of the stream does the same, and so does the end of the program:
            TensorFlow's threads call Python, and would wait for ever for an interpreter that is on its way out.
    """

    def __init__(self, source, broken: Broken, batches: Iterator):
        self.source, self.broken = source, broken.reasons
        self._batches = batches
        self.close = weakref.finalize(self, batches.close)

    def __iter__(self):
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        return next(self._batches)


def stream(
    data: Data, *, batch: int, seed: int, start_step: int = 0, process: int = 0, processes: int = 1, source=None
) -> Stream:
    """Batches without end, from `start_step` on.

    Each example is a pure function of (seed, position, the files): a run that starts at step N makes the batches that
    an unbroken run makes from N on, and makes the first of them at once; the parts of several processes, one behind
    the other, are the batch of one process.

    Args:
      data: see `Data`.
      batch: examples of a step, over all processes.
      seed: of the order, the crops, the mirroring and the choice of masks.
      start_step: the first step.
      process, processes: which part of each batch this process makes.
      source: an opened source, such as ``ArraySource({"images": ...})``; by default ``open_source(data)``.

    Returns:
      An iterator over, with b = batch / processes:
      ``image``    uint8 b h w 3
      ``position`` uint32 b: step * batch + the example's place in the whole batch
      ``mask``     uint8 b h w 1 in {0, 1}, 1 = hole: where `data.masks` is set, or the arrays hold masks. A mask may
                   be empty, where the crop missed the hole.

      Where `data.frames` is set, image and mask have a time axis, b t h w c; and where the masks are those of other
      clips (`data.mask_pairing` "seed"), their entry is ``objects`` instead of ``mask``.

    Raises:
      InputError: here, on a bad field, a bad source or a batch that cannot be divided; while iterating, on too many
        broken pictures or a broken mask.
    """
    _check(data)
    source = open_source(data) if source is None else source
    plan = Plan(data, len(source), batch=batch, seed=seed, process=process, processes=processes)
    if data.frames:
        broken = Broken(source, data.max_broken, "clips")
        return Stream(source, broken, clip_batches(data, source, plan, broken, start_step))
    broken = Broken(source, data.max_broken)
    masks = MaskFolder(data, source) if data.masks else None
    if source.encoded:
        from jaxpaint.data.encoded import encoded_batches

        tensorflow()  # where it is missing, that is said here and not at the first batch
        return Stream(source, broken, encoded_batches(source, plan, masks, broken, start_step))

    def make(step: int) -> dict[str, np.ndarray]:
        return _array_batch(source, plan, masks, step)

    return Stream(source, broken, Prefetch(make, start_step))


def specification(data: Data, source, batch: int) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of what `stream` gives, by name, for a process that makes `batch` examples a step."""
    leading = (batch, data.frames) if data.frames else (batch,)
    shapes = {"image": (*leading, *data.size, 3), "position": (batch,)}
    if data.masks or getattr(source, "masks", None) is not None:
        shapes[mask_entry(data)] = (*leading, *data.size, 1)
    return {name: (shape, np.dtype(np.uint32 if name == "position" else np.uint8)) for name, shape in shapes.items()}


def _array_batch(source, plan: Plan, masks: MaskFolder | None, step: int) -> dict[str, np.ndarray]:
    """The batch of a source whose pictures need no decoding."""
    examples, size = plan.step(step), plan.data.size
    images, holes = [], []
    for position, index, down, right, flip in zip(*examples, strict=True):
        image = source.picture(int(index))
        where = plan.window(*image.shape[:2], down, right)
        image = cut(image, where, size)
        images.append(image[:, ::-1] if flip else image)
        if masks is not None:
            holes.append(masks.make(plan.seed, int(position), int(index), where, bool(flip)))
        elif source.masks is not None:
            hole = cut_mask(source.masks[index], where, size)
            holes.append(hole[:, ::-1] if flip else hole)
    made = {"image": np.stack(images), "position": examples.position.astype(np.uint32)}
    return {**made, "mask": np.stack(holes)} if holes else made


def _check(data: Data) -> None:
    if data.source not in SOURCES:
        raise InputError(f"data.source is {data.source!r}: expected one of {', '.join(SOURCES)}")
    for field, kind in get_type_hints(Data).items():
        allowed = get_args(kind)
        if field in ("fit", "mask_pairing", "mask_convention") and getattr(data, field) not in allowed:
            raise InputError(f"data.{field} is {getattr(data, field)!r}: expected one of {', '.join(allowed)}")
    if len(data.size) != 2 or min(data.size) < 1:
        raise InputError(f"data.size is {data.size}: expected (height, width), both at least 1")
    if data.frames < 0 or len(data.stride) != 2 or not 1 <= data.stride[0] <= data.stride[1]:
        raise InputError(
            f"data.frames is {data.frames} and data.stride {data.stride}: expected 0 frames (pictures) or more, and "
            "(least, most) frames from one to the next, 1 or more"
        )
    if not 0 <= data.max_broken <= 1:
        raise InputError(f"data.max_broken is {data.max_broken}: expected a share from 0 to 1, such as 0.01")
