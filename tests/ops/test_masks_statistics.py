"""Hole shares of the published families, against plain drawings of the recipes with NumPy and Pillow."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw

from jaxpaint.ops import masks

SIDE = 256
COUNT = 192


def _line(canvas, points, thick):
    canvas.line([tuple(point) for point in points], fill=1, width=thick)
    for x, y in points:
        canvas.ellipse((x - thick // 2, y - thick // 2, x + thick // 2, y + thick // 2), fill=1)


def _brush(rng, number, most_vertices, thickness):
    """Strokes of DeepFillv2 and MAT."""
    picture = Image.new("L", (SIDE, SIDE))
    canvas = ImageDraw.Draw(picture)
    average = math.hypot(SIDE, SIDE) / 8
    for _ in range(number):
        low, high = 2 * math.pi / 5 + np.array([-1, 1]) * rng.uniform(0, 2 * math.pi / 15, 2)
        points = [tuple(rng.integers(0, SIDE, 2).tolist())]
        for i in range(rng.integers(4, most_vertices + 1)):
            angle = rng.uniform(low, high) * (-1) ** (i + 1)
            length = np.clip(rng.normal(average, average // 2), 0, 2 * average)
            x, y = points[-1][0] + length * math.cos(angle), points[-1][1] + length * math.sin(angle)
            points.append((int(np.clip(x, 0, SIDE)), int(np.clip(y, 0, SIDE))))
        _line(canvas, points, int(rng.uniform(*thickness)))
    return np.asarray(picture) > 0


def _deepfillv2(rng):
    hole = _brush(rng, rng.integers(1, 4), 11, (12, 40))
    top, left = rng.integers(0, 128, 2)
    high, wide = rng.integers(0, 17, 2)
    hole = hole.copy()
    hole[top + high : top + 128 - high, left + wide : left + 128 - wide] = True
    return hole


def _mat(rng):
    hole = np.zeros((SIDE, SIDE), bool)
    for most, side in ((4, SIDE // 2), (2, SIDE)):
        for _ in range(rng.integers(most)):
            wide, high = rng.integers(side, size=2)
            left, top = (rng.integers(-(s // 2), SIDE - s + s // 2) for s in (wide, high))
            hole[max(top, 0) : top + high, max(left, 0) : left + wide] = True
    strokes = _brush(rng, rng.integers(8), 17, (12, 48))
    hole |= strokes[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    return hole if 0 < hole.mean() < 1 else _mat(rng)


def _lama_medium(rng):
    picture = Image.new("L", (SIDE, SIDE))
    canvas = ImageDraw.Draw(picture)
    if rng.random() < 1 / 1.3:
        for i in range(rng.integers(4, 7)):
            x, y = rng.integers(0, SIDE, 2).tolist()
            for _ in range(rng.integers(1, 6)):
                angle = (0.01 + rng.integers(4)) * (-1) ** (i + 1)
                length, thick = 10 + rng.integers(100), int(5 + rng.integers(50))
                end = [int(v) for v in np.clip([x + length * math.sin(angle), y + length * math.cos(angle)], 0, SIDE)]
                _line(canvas, [(x, y), tuple(end)], thick)
                x, y = end
    else:
        for _ in range(rng.integers(1, 6)):
            wide, high = rng.integers(10, 51, 2).tolist()
            left, top = int(rng.integers(0, SIDE - wide + 1)), int(rng.integers(0, SIDE - high + 1))
            canvas.rectangle((left, top, left + wide - 1, top + high - 1), fill=1)
    hole = np.asarray(picture) > 0
    return hole if hole.mean() <= 0.5 else _lama_medium(rng)


@pytest.mark.parametrize(
    ("family", "reference"), [("deepfillv2", _deepfillv2), ("mat", _mat), ("lama_medium", _lama_medium)]
)
def test_shares_and_places(family, reference):
    """Mean and deviation of the hole share, and where holes are, within sampling error."""
    rng = np.random.default_rng(7)
    theirs = np.stack([reference(rng) for _ in range(COUNT)])
    draw = jax.jit(lambda positions: masks.sample(jax.random.key(2), positions, SIDE, SIDE, masks.Masks(family)))
    ours = np.asarray(draw(jnp.arange(COUNT, dtype=jnp.uint32)))[..., 0]
    a, b = theirs.mean(axis=(1, 2)), ours.mean(axis=(1, 2))
    # Four standard errors of a difference of means; a deviation's error is about deviation / sqrt(2 n).
    error = a.std() * np.sqrt(2 / COUNT)
    assert abs(a.mean() - b.mean()) < 4 * error
    assert abs(a.std() - b.std()) < 4 * error
    # The same in sixteen fields of the picture, whose shares vary more.
    fields = [m.reshape(COUNT, 4, 64, 4, 64).mean(axis=(2, 4)) for m in (theirs, ours)]
    error = fields[0].std(axis=0) * np.sqrt(2 / COUNT)
    assert np.all(abs(fields[0].mean(axis=0) - fields[1].mean(axis=0)) < 4.5 * error)
