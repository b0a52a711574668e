"""Procedural clips: something to train on where there is nothing to download.

A clip is a scene larger than the frame (`demo.scene`), seen by a camera that pans and zooms smoothly, with one or two
objects that move over it. So there is what video inpainting has to use: what a hole hides in one frame, other frames
show, moved by the camera; and things that move by themselves.
"""

import functools
import hashlib

import numpy as np
from PIL import Image

from jaxpaint.data.demo import draw_object, scene, to_bytes
from jaxpaint.types import InputError

_VERSION = 1  # of the clips: part of the hash
_LARGER = 1.6  # the scene's sides, in those of the frame
_ZOOM = (0.8, 1.1)  # the camera's window, in frames
_PAN, _MOVE = 0.016, 0.02  # the most a frame, of the camera along each axis and of an object, in sides of the frame


class DemoClips:
    """Clips by number: `frame` is a pure function of (split, index, number, size).

    Args:
      size: height and width; clips are made at the size of an example, so that `fit` has nothing to do.
      frames: of each clip.
      length: how many clips there are.
      split: another split has other clips.
    """

    counted = True
    masks = None

    def __init__(self, size: tuple[int, int], frames: int = 30, length: int = 4096, split: str = "train"):
        if length < 1 or frames < 1:
            raise InputError(f"data.length = {length} demo clips of {frames} frames: at least 1 of each is expected")
        self.size, self.frames, self.count, self.split = size, frames, length, split
        self.name = f"demo clips {split}"
        self._key = int.from_bytes(hashlib.sha256(split.encode()).digest()[:8], "little")
        # An example's frames have one scene, and are made one after the other.
        self._scene = functools.lru_cache(maxsize=32)(self._make_scene)

    def __len__(self) -> int:
        return self.count

    def label(self, index: int) -> str:
        return f"{self.name}[{index}]"

    def length(self, index: int) -> int:
        """Frames of a clip."""
        return self.frames

    def frame(self, index: int, number: int) -> np.ndarray:
        """uint8 h w 3."""
        height, width = self.size
        rng = np.random.default_rng([self._key, index, 1])
        sides = np.array([height, width])
        zoom = np.mean(_ZOOM) + (_ZOOM[1] - _ZOOM[0]) / 2 * _swing(rng, 1, number, 0.06)[0]
        room = (_LARGER - _ZOOM[1]) / 2
        centre = sides * (_LARGER / 2 + room * _swing(rng, 2, number, _PAN / room))
        (top, left), (bottom, right) = centre - sides * zoom / 2, centre + sides * zoom / 2
        picture = Image.fromarray(self._scene(index))
        seen = picture.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
        canvas = np.asarray(seen, np.float32) / 255

        side = max(height, width)
        y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / side
        x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / side
        for item in range(1 + int(2 * rng.random())):
            down, across = 0.25 * _swing(rng, 2, number, _MOVE / 0.25).astype(np.float32)
            draw_object(canvas, np.random.default_rng([self._key, index, 2, item]), y - down, x - across)
        return to_bytes(canvas)

    def _make_scene(self, index: int) -> np.ndarray:
        height, width = (round(_LARGER * side) + 1 for side in self.size)  # a box never reaches beyond
        return scene(np.random.default_rng([self._key, index]), height, width)

    @property
    def hash(self) -> str:
        text = f"demo clips {_VERSION} {self.split} {self.count} {self.frames} {self.size}"
        return hashlib.sha256(text.encode()).hexdigest()


def _swing(rng: np.random.Generator, count: int, time: float, most: float) -> np.ndarray:
    """`count` numbers in [-1, 1] that change smoothly with time, by `most` a frame where they change fastest."""
    begin, speed = 2 * np.pi * rng.random(count), most * (0.25 + 0.75 * rng.random(count))
    return np.sin(begin + speed * time)
