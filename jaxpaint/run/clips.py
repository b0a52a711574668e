"""Clips of an evaluation and their masks, at one size, and what the protocol card says of them.

What `jaxpaint.run.protocol` is for pictures. One clip's frames are in memory at a time.
"""

import dataclasses
import hashlib
import os
import pathlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import av
import numpy as np

from jaxpaint.data.clip_sources import ArrayClips
from jaxpaint.data.decode import ENDINGS, read_header
from jaxpaint.data.demo_clips import DemoClips
from jaxpaint.data.frames import frame_files
from jaxpaint.data.geometry import cut_mask
from jaxpaint.io.frames import RATE, Clip, array_clip
from jaxpaint.io.video import open_clip
from jaxpaint.io.video_masks import open_masks
from jaxpaint.metrics import Metric
from jaxpaint.metrics.clips import AVERAGES
from jaxpaint.models import i3d, raft
from jaxpaint.ops.masks import digest
from jaxpaint.ops.masks.check import CONVENTIONS
from jaxpaint.ops.masks.moving_sets import MOVING_SETS, frozen_clip
from jaxpaint.parallel import gather
from jaxpaint.run import protocol
from jaxpaint.run.protocol import Fitting, check_limit, dataset
from jaxpaint.run.subject import Inpaint
from jaxpaint.types import InputError, did_you_mean

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".wmv", ".y4m", ".gif")
"""Endings of what is taken for a video file in a folder of them; in any case."""

DEMO = (8, 20)  # clips, frames of each

COMPOSITES = {
    "subject": "none by the evaluation: frames are measured as the subject gives them; where it keeps known pixels, "
    "outside_max_abs_diff is 0",
    "paste": "known pixels pasted from the input before measuring (STTN, FuseFormer, E2FGVI, ProPainter)",
}


class Clips(Sequence):
    """The clips of an evaluation, read when asked for: uint8 t h w 3, cut to one size by a fixed rule.

    Args:
      data: a folder of frame folders or of video files, one frame folder, one video file, an ``.npz`` file with
        ``clips``, or "demo"
      size: height and width, or None for the clips' own
      resizing: of `jaxpaint.run.protocol.RESIZING`
      limit: only the first so many clips, in the order of their names; None for all
      frames: of each clip the first so many, or all that there are; 0 for all
    """

    noun = "clip"

    def __init__(
        self, data: str, size: tuple[int, int] | None, resizing: str, limit: int | None = None, frames: int = 0
    ):
        self.fitting, self.size, self.frames = Fitting.checked(size, resizing), size, frames
        check_limit(limit)
        if frames < 0:
            raise InputError(f"--frames {frames}: expected 1 or more, or 0 for all frames")
        self.clips, self.hash = _clips(data, size, limit, frames)
        self.clips = self.clips[:limit]
        self.dataset, self.split = dataset(data)
        for clip in self.clips:
            self.fitting.check((clip.height, clip.width), clip.name)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> np.ndarray:
        clip = self.clips[index]
        return np.stack([self.fitting.cut(frame, clip.name) for frame in clip.frames(0, self.length(index))])

    def length(self, index: int) -> int:
        """Frames of a clip that are evaluated."""
        count = self.clips[index].count
        return min(self.frames, count) if self.frames else count

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of a clip as it is evaluated."""
        return self.size or (self.clips[index].height, self.clips[index].width)

    def label(self, index: int) -> str:
        """The clip's name, the same on every machine."""
        return pathlib.Path(self.clips[index].name).name

    def card(self) -> dict[str, Any]:
        """The data part of the protocol card."""
        decoded = any(clip.file is not None for clip in self.clips)
        return {
            "dataset": self.dataset,
            "split": self.split,
            "files_sha256": self.hash,
            **({"decoder": f"PyAV {av.__version__}"} if decoded else {}),
            "clips": len(self),
            "frames": sum(map(self.length, range(len(self)))),
            "frames_of_a_clip": f"the first {self.frames}, or all where there are fewer" if self.frames else "all",
            **self.fitting.card(),
        }


class ClipMasks(Sequence):
    """The masks of each clip, uint8 t h w 1, 1 = hole. What was handed out is remembered by its hash.

    Args:
      clips: what they belong to
      about: what the protocol card says of them
    """

    def __init__(self, clips: Clips, about: Mapping[str, Any]):
        self.clips, self.about = clips, dict(about)
        self.digests: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> np.ndarray:
        masks = self.masks(index)
        self.digests[index] = digest(masks)
        return masks

    def masks(self, index: int) -> np.ndarray:
        """The masks of a clip."""
        raise NotImplementedError

    def card(self) -> dict[str, Any]:
        """The mask part of the protocol card, once all masks were handed out. Every process makes this call."""
        lines = sorted(tuple(pair) for part in gather.gather(list(self.digests.items())) for pair in part)
        text = "".join(f"{index} {one}\n" for index, one in lines)
        return self.about | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


class FrozenClipMasks(ClipMasks):
    """A set of `MOVING_SETS`: clip i has its mask i, at the clip's size."""

    def __init__(self, name: str, clips: Clips, seed: int):
        if seed < 0:
            raise InputError(f"--seed {seed}: expected 0 or more")
        if name not in MOVING_SETS:
            proposal = did_you_mean(name, MOVING_SETS, ", did you mean {}?")
            raise InputError(f"there is no mask set {name!r} for clips{proposal}; there are {', '.join(MOVING_SETS)}")
        super().__init__(clips, {"set": name, "note": MOVING_SETS[name].note, "seed": seed})
        self.name, self.seed = name, seed

    def masks(self, index: int) -> np.ndarray:
        return frozen_clip(self.name, index, self.clips.length(index), *self.clips.shape(index), self.seed)


class FolderClipMasks(ClipMasks):
    """Masks from files, in the clips' stored size or in the evaluated one.

    Args:
      root: a folder with a folder of masks, a mask video or a single picture for each clip, of the clip's name; or a
        folder of masks, a mask video or a single picture for all clips
      clips: what they belong to
      convention: see `jaxpaint.ops.masks.check`
    """

    def __init__(self, root: str, clips: Clips, convention: str):
        if convention not in CONVENTIONS:
            raise InputError(f"--mask-convention {convention}: expected one of {', '.join(CONVENTIONS)}")
        name = pathlib.Path(root).resolve().name
        super().__init__(clips, {"set": f"files {name}", "convention": convention})
        self.convention = convention
        self.sources = _mask_sources(pathlib.Path(root), [clips.label(index) for index in range(len(clips))])

    def masks(self, index: int) -> np.ndarray:
        clip, source = self.clips.clips[index], self.sources[index]
        count, stored, size = self.clips.length(index), (clip.height, clip.width), self.clips.shape(index)
        theirs = _size_of(source)
        if theirs not in (stored, size):
            raise InputError(
                f"{source}: masks of {theirs[0]}x{theirs[1]}, but {clip.name} is {stored[0]}x{stored[1]} and is "
                f"evaluated at {size[0]}x{size[1]}: make the masks in one of these sizes"
            )
        like = dataclasses.replace(clip, count=count, height=theirs[0], width=theirs[1], names=clip.names[:count])
        with warnings.catch_warnings():
            if count < clip.count:  # it is meant that masks of the later frames are left over
                warnings.filterwarnings("ignore", message=".*the rest is not used")
            opened = open_masks(str(source), like, self.convention)
        masks = np.stack(list(opened))
        if theirs == size:
            return masks
        window = self.clips.fitting.window(stored)
        return np.stack([cut_mask(mask, window, size) for mask in masks])


def clip_masks(arguments: Any, clips: Clips) -> ClipMasks:
    """The masks that the command line names: ``--masks``, or ``--mask-set``."""
    if arguments.masks:
        return FolderClipMasks(arguments.masks, clips, arguments.mask_convention)
    return FrozenClipMasks(arguments.mask_set or "still-freeform", clips, arguments.seed)


def card(
    *,
    subject: Mapping,
    data: Mapping,
    masks: Mapping,
    metrics: Mapping[str, Metric],
    notes: Sequence[str],
    average: str,
    composite: str,
) -> dict[str, Any]:
    """The protocol card of an evaluation on clips; see `jaxpaint.run.protocol.card`.

    average: of `AVERAGES`
    composite: of `COMPOSITES`
    """
    rest = "E_warp: over the pairs of a clip, then over clips; distribution metrics: of the whole set"
    about = protocol.card(subject=subject, data=data, masks=masks, metrics=metrics, notes=notes)
    return about | {"average": f"{AVERAGES[average]}; {rest}", "composite": COMPOSITES[composite]}


def check_warping(clips: Clips, flow: str) -> None:
    """InputError where a clip has no warping error by that flow ("raft", "tvl1")."""
    for index in range(len(clips)):
        label, (height, width) = clips.label(index), clips.shape(index)
        if clips.length(index) < 2:
            raise InputError(
                f"clip {label} has one frame to evaluate, and the warping error is of pairs: leave ewarp out of "
                "--metrics, or the clip out of --data"
            )
        if flow == "raft" and min(height, width) < raft.SMALLEST:
            raise InputError(
                f"clip {label} is {height}x{width}, and RAFT takes {raft.SMALLEST}x{raft.SMALLEST} at least: give "
                "--flow tvl1 for ewarp, or a larger --size"
            )


def check_vfid(clips: Clips) -> None:
    """InputError where a clip is too small for the network of VFID."""
    for index in range(len(clips)):
        height, width = clips.shape(index)
        if min(height, width) < i3d.SMALLEST:
            raise InputError(
                f"clip {clips.label(index)} is {height}x{width}, and VFID's I3D takes {i3d.SMALLEST}x{i3d.SMALLEST} at "
                "least: leave vfid out of --metrics, or give a larger --size"
            )


def pasted(inpaint: Inpaint) -> Inpaint:
    """The same with the known pixels of the input."""

    def composited(clips, masks, positions):
        results = inpaint(clips, masks, positions)
        frames = [len(result) for result in results]
        return [
            np.where(mask[-count:] > 0, result, clip[-count:])
            for clip, mask, result, count in zip(clips, masks, results, frames, strict=True)
        ]

    return composited


def unwritten(clips: Clips, measured: int) -> list[str]:
    """A note, where fewer frames were measured than the clips have."""
    total = clips.card()["frames"]
    if measured == total:
        return []
    return [
        f"{total - measured} of {total} frames are not written by the system's protocol (the first ones of a clip): "
        f"the figures are of the other {measured}."
    ]


def spread(count: int, rows: int) -> list[int]:
    """`rows` of `count` frames, evenly spread; fewer where there are not so many."""
    return sorted({(2 * row + 1) * count // (2 * rows) for row in range(rows)})


def _clips(data: str, size: tuple[int, int] | None, limit: int | None, frames: int) -> tuple[list[Clip], str]:
    """(the clips, a hash of what there is: of names and sizes of files, or of an array's content)."""
    if data == "demo":
        source = DemoClips(size or (240, 432), frames or DEMO[1], limit or DEMO[0], split="validation")
        return [_demo(source, index) for index in range(len(source))], source.hash
    if data.endswith(".npz"):
        arrays = ArrayClips(data)
        clips = [array_clip(frames, name=arrays.label(index)) for index, frames in enumerate(arrays.clips)]
        return clips, arrays.hash
    paths = _paths(pathlib.Path(data))
    clips = [open_clip(path) for path in paths]
    lines = []
    for path, clip in zip(paths, clips, strict=True):
        files = [(f"{path.name}/{name}", path / name) for name in clip.names] or [(path.name, path)]
        lines += [f"{name}\0{os.path.getsize(file)}\n" for name, file in files]
    return clips, hashlib.sha256("".join(lines).encode()).hexdigest()


def _paths(root: pathlib.Path) -> list[pathlib.Path]:
    """Where the clips lie: the path itself, or all folders of frames and video files in it."""
    if not root.is_dir() or _pictures(root):
        return [root]
    below = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    found = [path for path in below if path.is_dir() or path.suffix.lower() in VIDEOS]
    if not found:
        raise InputError(
            f"{root} holds no clip ({len(below)} files of other kinds): expected folders of frames, or video files "
            f"({', '.join(VIDEOS)})"
        )
    return found


def _pictures(folder: pathlib.Path) -> bool:
    return any(path.suffix.lower() in ENDINGS and not path.name.startswith(".") for path in folder.iterdir())


def _demo(source: DemoClips, index: int) -> Clip:
    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        return (source.frame(index, number) for number in range(start, stop))

    return Clip(source.label(index), source.length(index), *source.size, RATE, read)


def _mask_sources(root: pathlib.Path, labels: Sequence[str]) -> list[pathlib.Path]:
    """What each clip's masks are read from."""
    if not root.exists():
        raise InputError(f"--masks {root} does not exist: give a folder, a video file or a picture")
    if not root.is_dir():
        return [root] * len(labels)
    entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    named = {path.name if path.is_dir() else path.stem: path for path in entries}
    stems = [label if label in named else pathlib.Path(label).stem for label in labels]
    missing = [label for label, stem in zip(labels, stems, strict=True) if stem not in named]
    if len(missing) == len(labels) and _pictures(root):
        return [root] * len(labels)
    if missing:
        raise InputError(
            f"{len(missing)} of {len(labels)} clips have no masks of their name in {root}: {', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}; expected a folder, a video file or a picture for each, or "
            "pictures alone, which are for all clips"
        )
    return [named[stem] for stem in stems]


def _size_of(source: pathlib.Path) -> tuple[int, int]:
    """Height and width of masks, from a header."""
    picture = source / frame_files(source)[0] if source.is_dir() else source
    if picture.suffix.lower() in ENDINGS:
        try:
            return read_header(picture.read_bytes(), name=str(picture))[:2]
        except OSError as error:
            raise InputError(f"{picture}: cannot be read: {error.strerror or error}") from error
    opened = open_clip(source)
    return opened.height, opened.width
