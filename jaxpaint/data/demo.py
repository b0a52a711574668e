"""Procedural pictures: something to train on where there is nothing to download.

Each picture has what inpainting has to continue: smooth shading, a textured region, a pattern that repeats, and
shapes with hard edges. Written for speed (separable fields, small temporaries), not for looks.
"""

import hashlib

import numpy as np

from jaxpaint.types import InputError

_VERSION = 1  # of the pictures: part of the hash


class DemoSource:
    """Pictures by number: `picture` is a pure function of (split, number, size).

    Args:
      size: height and width; pictures are made at the size of an example, so that `fit` has nothing to do.
      length: how many there are.
      split: another split has other pictures.
    """

    encoded = False
    masks = None

    def __init__(self, size: tuple[int, int], length: int = 4096, split: str = "train"):
        if length < 1:
            raise InputError(f"the demo source has data.length = {length} pictures: at least 1 is expected")
        self.size, self.length, self.split = size, length, split
        self.name = f"demo {split}"
        self._key = int.from_bytes(hashlib.sha256(split.encode()).digest()[:8], "little")

    def __len__(self) -> int:
        return self.length

    def label(self, index: int) -> str:
        return f"{self.name}[{index}]"

    def picture(self, index: int) -> np.ndarray:
        """uint8 h w 3."""
        return scene(np.random.default_rng([self._key, index]), *self.size)

    @property
    def hash(self) -> str:
        return hashlib.sha256(f"demo {_VERSION} {self.split} {self.length} {self.size}".encode()).hexdigest()


def scene(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One picture, uint8 h w 3: a shaded backdrop, patterned ground below a horizon, and three to six objects."""
    side = max(height, width)
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / side
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / side
    bottom, right = height / side, width / side
    canvas = np.empty((height, width, 3), np.float32)

    sky = _gradient(rng, y / bottom, x / right)
    canvas[:] = _colour(rng) * (1 - sky[..., None]) + _colour(rng) * sky[..., None]
    canvas *= _clouds(rng, y, x)[..., None]

    horizon = bottom * (0.35 + 0.4 * rng.random()) + (rng.random() - 0.5) * 0.3 * x
    ground = np.broadcast_to(y > horizon, (height, width))
    _paint(canvas, ground, rng, _pattern(rng, y, x, side), 1 - 0.4 * (bottom - y) + 0 * x)

    for _ in range(3 + int(4 * rng.random())):
        draw_object(canvas, rng, y, x)
    return to_bytes(canvas)


def draw_object(canvas: np.ndarray, rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> None:
    """Paints one object, a disc or a box, onto a picture; by `rng` it is where coordinates are within the picture.

    Args:
      canvas: float32 h w 3 in [0, 1].
      rng: what the object is and where. Two generators of one state draw it alike: with other coordinates, elsewhere.
      y, x: float32 h 1 and 1 w: where the object's pixels are looked up, in units of the longer side.
    """
    side = max(canvas.shape[:2])
    inside, shade = _shape(rng, y, x, canvas.shape[0] / side, canvas.shape[1] / side)
    pattern = _pattern(rng, y, x, side) if rng.random() < 0.4 else None
    _paint(canvas, inside, rng, pattern, shade)


def to_bytes(canvas: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] to uint8."""
    return np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A colour of the middle of the cube: a grey level with a tint."""
    grey, tint = 0.2 + 0.65 * rng.random(), rng.random(3) - 0.5
    return np.clip(grey + 0.5 * tint, 0.02, 0.98).astype(np.float32)


def _gradient(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    turn = np.pi * rng.random()
    ramp = np.float32(np.sin(turn)) * y + np.float32(np.cos(turn)) * (x - 0.5) + np.float32(0.25)
    return np.clip(ramp, 0, 1)


def _clouds(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Slow variation of brightness around 1: products of a wave along y and a wave along x."""
    field = np.ones(np.broadcast_shapes(y.shape, x.shape), np.float32)
    for octave in (3.0, 7.0, 15.0):
        down, across, a, b = rng.random(4)
        field += np.float32(0.25 / octave**0.5) * (
            np.sin(np.float32(octave * (0.5 + down)) * y + np.float32(6.3 * a))
            * np.sin(np.float32(octave * (0.5 + across)) * x + np.float32(6.3 * b))
        )
    return field


def _pattern(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, side: int) -> np.ndarray:
    """0 to 1 over the picture: stripes, a chequerboard, bricks, dots, or a woven texture, turned by some angle."""
    turn = np.pi * rng.random()
    period = np.float32(max((0.04 + 0.12 * rng.random()), 5 / side))
    s, c = np.float32(np.sin(turn)), np.float32(np.cos(turn))
    u, v = (c * x + s * y) / period, (c * y - s * x) / period
    kind = int(5 * rng.random())
    if kind == 0:
        return (u % 1 < 0.5).astype(np.float32)
    if kind == 1:
        return ((u % 1 < 0.5) ^ (v % 1 < 0.5)).astype(np.float32)
    if kind == 2:
        row = np.floor(v)
        return (((v - row) > 0.15) & ((0.5 * u + 0.5 * (row % 2)) % 1 > 0.08)).astype(np.float32)
    if kind == 3:
        return ((u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.1).astype(np.float32)
    return 0.5 + 0.25 * np.sin(np.float32(6.2832) * u) + 0.25 * np.sin(np.float32(6.2832) * (v + 0.3 * np.sin(3 * u)))


def _shape(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, bottom: float, right: float):
    """Which pixels an object covers, and its shading: a disc lit from above, or a turned box with a ramp."""
    cy, cx, turn = rng.random() * bottom, rng.random() * right, np.pi * rng.random()
    r1, r2 = 0.06 + 0.2 * rng.random(), 0.06 + 0.2 * rng.random()
    dy, dx = y - np.float32(cy), x - np.float32(cx)
    s, c = np.float32(np.sin(turn)), np.float32(np.cos(turn))
    u, v = (c * dx + s * dy) / np.float32(r1), (c * dy - s * dx) / np.float32(r2)
    if rng.random() < 0.5:
        inside = u * u + v * v < 1
        light = ((dx + np.float32(0.4 * r1)) ** 2 + (dy + np.float32(0.4 * r1)) ** 2) / np.float32(2.5 * r1 * r1)
        return inside, np.clip(1.3 - light, 0.35, 1.3)
    return np.maximum(np.abs(u), np.abs(v)) < 1, np.float32(0.9) + np.float32(0.3) * v


def _paint(canvas: np.ndarray, inside: np.ndarray, rng: np.random.Generator, pattern, shade: np.ndarray) -> None:
    """Covers the pixels `inside` with one colour, or two mixed by `pattern`, times `shade`."""
    first, second = _colour(rng), _colour(rng)
    mix = pattern[inside][:, None] if pattern is not None else np.float32(0)
    canvas[inside] = ((first * (1 - mix) + second * mix) * shade[inside][:, None]).astype(np.float32)
