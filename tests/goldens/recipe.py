"""Weights, pictures and masks that are made from names: what stands in for downloads in the golden tests.

A golden folder stores inputs and outputs but no weights. Each value here is drawn from a generator seeded with the
CRC-32 of a name, so that everyone who follows the recipe has the same weights, and a right port gives the stored
outputs. The order of the draws is part of the recipe.
"""

import zlib

import numpy as np

KINDS = ("kernel", "kernel_io", "bias", "scale", "mean", "var", "unit", "normal", "zero")


def rng_for(name: str, salt: str = "") -> np.random.Generator:
    """The random generator of one name."""
    return np.random.default_rng(zlib.crc32(f"{salt}{name}".encode()))


def tensor(name: str, shape: tuple[int, ...], kind: str, salt: str = "") -> np.ndarray:
    """One tensor, float32, of the shape given.

    kind: ``kernel`` and ``kernel_io``: normal / sqrt(fan in), where the fan in leaves out the first or the last axis;
      ``bias``, ``mean``: normal / 10; ``scale``: one plus that; ``var``: uniform in [0.5, 1.5); ``unit``: normal, of
      length 1; ``normal``; ``zero``
    """
    shape = tuple(shape)
    rng = rng_for(name, salt)
    match kind:
        case "zero":
            values = np.zeros(shape)
        case "var":
            values = rng.uniform(0.5, 1.5, shape)
        case "normal":
            values = rng.standard_normal(shape)
        case "kernel" | "kernel_io":
            fan_in = np.prod(shape[1:] if kind == "kernel" else shape[:-1], dtype=np.int64)
            values = rng.standard_normal(shape) / np.sqrt(max(1, fan_in))
        case "bias" | "mean":
            values = 0.1 * rng.standard_normal(shape)
        case "scale":
            values = 1 + 0.1 * rng.standard_normal(shape)
        case "unit":
            values = rng.standard_normal(shape)
            values = values / np.linalg.norm(values)
        case _:
            raise ValueError(f"tensor {name!r} is of kind {kind!r}: expected one of {', '.join(KINDS)}")
    return np.asarray(values, np.float32)


def weights(state: list, salt: str = "") -> dict[str, np.ndarray]:
    """All tensors of a manifest's ``state``, rows of (name, shape, kind), but the buffers, which code computes."""
    return {name: tensor(name, shape, kind, salt) for name, shape, kind in state if kind != "buffer"}


def image(name: str, height: int, width: int, channels: int = 3) -> np.ndarray:
    """A picture of waves and discs, h w c, float32 in [0, 1]."""
    rng = rng_for(name)
    y = (np.arange(height, dtype=np.float64) / height)[:, None]
    x = (np.arange(width, dtype=np.float64) / width)[None, :]
    picture = np.zeros((height, width, channels))
    for channel in range(channels):
        for _ in range(4):
            down, right = rng.uniform(-4, 4, 2)
            height_of_wave = rng.uniform(0.3, 1.0)
            phase = rng.uniform(0, 6.28)
            picture[..., channel] += height_of_wave * np.sin(2 * np.pi * (down * y + right * x) + phase)
    for _ in range(3):
        centre_y, centre_x, radius = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9), rng.uniform(0.05, 0.25)
        disc = (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius * radius
        picture[disc] += rng.uniform(-1.5, 1.5, channels)
    picture -= picture.min()
    return (picture / picture.max()).astype(np.float32)


def mask(name: str, height: int, width: int) -> np.ndarray:
    """A box and a disc, h w 1, float32: 1 in the hole."""
    rng = rng_for(name)
    top, left = (int(rng.uniform(0.1, 0.4) * side) for side in (height, width))
    down, right = (int(rng.uniform(0.2, 0.4) * side) for side in (height, width))
    centre_y, centre_x = (rng.uniform(0.5, 0.9) * side for side in (height, width))
    radius = rng.uniform(0.08, 0.18) * height
    hole = np.zeros((height, width), bool)
    hole[top : top + down, left : left + right] = True
    y, x = np.ogrid[:height, :width]
    hole |= (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius * radius
    return hole[..., None].astype(np.float32)
