"""Mask families: values, independence of the batch, hole shares, options and the drawing itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from jaxpaint.ops import masks
from jaxpaint.ops.masks import integers, options, share, spans
from jaxpaint.types import InputError

# Compiling is nearly all of the time, and whole numbers come out the same however it is done.
QUICKLY = {"xla_backend_optimization_level": 0}


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5), compiler_options=QUICKLY)
def _sample(key, positions, height, width, family, options=()):
    return masks.sample(key, positions, height, width, masks.Masks(family, dict(options)))


def _draw(family, positions, height=64, width=64, **options):
    positions = jnp.asarray(positions, jnp.uint32)
    return np.asarray(_sample(jax.random.key(5), positions, height, width, family, tuple(options.items())))


RANGES = {"mat": ({"hole_range": (0.3, 0.5)}, 0.3, 0.5), "lama_thick": ({"most": 0.3}, 0, 0.3)}
FIXED = {"centre", "half", "expand", "every_second_line", "super_resolution"}


@pytest.mark.parametrize("family", [name for name in masks.FAMILIES if not name.startswith("repaint")])
def test_family(family):
    """Exactly 0 and 1, never empty, never full, not square only; the mask of a position is always the same."""
    chosen, low, high = RANGES.get(family, ({}, 0, 1))
    positions = np.append(np.arange(95), 4294967295).astype(np.uint32)
    drawn = _draw(family, positions, 48, 72, **chosen)
    assert drawn.shape == (96, 48, 72, 1) and drawn.dtype == np.float32
    assert set(np.unique(drawn)) == {0.0, 1.0}
    shares = drawn.mean(axis=(1, 2, 3))
    assert shares.min() > low and shares.max() < 1 and shares.max() <= high
    np.testing.assert_array_equal(_draw(family, positions[::-1], 48, 72, **chosen)[::-1], drawn)
    if family not in FIXED:
        # A border on one side alone has some fifteen depths: only there do two of 96 masks coincide.
        least = 80 if family == "outpaint" else 96
        assert len({mask.tobytes() for mask in drawn}) >= least
        other = _sample(jax.random.key(6), jnp.asarray(positions), 48, 72, family, tuple(chosen.items()))
        assert not np.array_equal(other, drawn)


def test_one_by_one_equals_batch():
    batch = _draw("box", range(8))
    draw = masks.FAMILIES["box"]
    one = jax.jit(lambda position: draw(jax.random.fold_in(jax.random.key(5), position), 64, 64))
    for position in range(8):
        np.testing.assert_array_equal(one(jnp.uint32(position)), batch[position])


def test_never_empty_nor_full_where_it_would_be():
    """MAT draws nothing in one of twelve small masks; a pen of the picture's size leaves nothing known."""
    for family, chosen in (("mat", {"small": True}), ("freeform", {"thickness": (500, 600)})):
        shares = _draw(family, range(256), 32, 32, **chosen).mean(axis=(1, 2, 3))
        assert shares.min() > 0 and shares.max() < 1, family


@pytest.mark.parametrize("bucket", [*masks.BUCKETS.values(), (0.9, 0.98)])
def test_irregular_hits_its_bucket(bucket):
    shares = _draw("irregular", range(256), 64, 96, bucket=bucket).mean(axis=(1, 2, 3), dtype=np.float64)
    assert shares.min() > bucket[0] and shares.max() <= bucket[1]
    # Drawn evenly from the bucket: the mean of 256 is within 4 standard errors of the middle, or a segment's
    # size above it (a segment ends where the target is passed).
    middle, error = sum(bucket) / 2, (bucket[1] - bucket[0]) / np.sqrt(12 * 256)
    assert -4 * error < shares.mean() - middle < 4 * error + 0.025


def test_share_is_met_where_drawing_cannot():
    """The ways out: a drawing that never fits, and rows that make up for segments that did not suffice."""
    allowed = share.limits("hole_range", (0.2, 0.3), 64, 64, closed=False)
    redraw = jax.jit(
        lambda key: share.redraw(lambda _: jnp.zeros((64, 2), jnp.uint32), key, allowed, 64, 64),
        compiler_options=QUICKLY,
    )
    for number in range(4):
        assert 0.2 < float(spans.count(redraw(jax.random.key(number)))) / 4096 < 0.3
    bits = jnp.zeros((64, 2), jnp.uint32).at[5:20, 1].set(0xFF)
    made = share._make_up(bits, 1000, 64, 64)
    assert 1000 <= int(spans.count(made)) < 1064
    np.testing.assert_array_equal(share._make_up(bits, 120, 64, 64), bits)


def test_repaint_strokes_are_lamas():
    key = jax.random.key(1)
    for name in ("thin", "thick"):
        mine, theirs = (
            str(jax.make_jaxpr(functools.partial(masks.FAMILIES[f"{paper}_{name}"], height=64, width=64))(key))
            for paper in ("repaint", "lama")
        )
        assert mine == theirs


def test_outpaint_is_the_named_border():
    drawn = _draw("outpaint", [0, 1], 40, 60, sides=("left", "bottom"), fraction=0.25, probability=1.0)
    expected = np.zeros((2, 40, 60, 1))
    expected[:, :, :15] = expected[:, 30:] = 1
    np.testing.assert_array_equal(drawn, expected)
    few = _draw("outpaint", range(32), 40, 60, probability=0.0)
    assert ((few[:, 20, 0] + few[:, 20, -1] + few[:, 0, 30] + few[:, -1, 30]) == 1).all()


def test_fixed_masks():
    def fixed(family, **options):
        return _draw(family, [3], 64, 64, **options)[0, :, :, 0]

    rows, columns = np.mgrid[:64, :64]
    inner = (abs(rows - 31.5) < 16) & (abs(columns - 31.5) < 16)
    np.testing.assert_array_equal(fixed("centre"), inner)
    core = (abs(rows - 31.5) < 8) & (abs(columns - 31.5) < 8)
    np.testing.assert_array_equal(fixed("expand"), ~core)
    np.testing.assert_array_equal(fixed("half"), columns >= 32)
    np.testing.assert_array_equal(fixed("every_second_line"), rows % 2)
    np.testing.assert_array_equal(fixed("super_resolution"), (rows % 2) | (columns % 2))


def test_sizes_follow_the_picture():
    """Published pixels from 256 upwards, in proportion below; a scale of one's own goes before the rule."""
    assert [options.unit(side, 300) for side in (64, 256, 300)] == [0.25, 1.0, 1.0]
    assert options.unit(512, 512) == 1.0 and options.unit(64, 64, 2.0) == 2.0
    assert options.between(12, 40, 0.25) == (3, 10) and options.between(1, 2, 0.01) == (1, 2)


def test_capsules_equal_distances():
    """Against float64 distances from segments of all kinds: outside, of no length, level, upright, broad."""
    rng = np.random.default_rng(0)
    height, width = 50, 77
    start, end = rng.integers(-10, 90, (60, 2)), rng.integers(-10, 90, (60, 2))
    end[:5], end[5:10, 0], end[10:15, 1] = start[:5], start[5:10, 0], start[10:15, 1]
    thickness = rng.integers(1, 40, 60)
    drawn = spans.capsules(
        *(jnp.asarray(value, jnp.int32) for value in (start, end, thickness)), jnp.ones(60, bool), height, width
    )
    rows, columns = np.mgrid[:height, :width]
    for number in range(60):
        direction = (end[number] - start[number]).astype(float)
        offset = np.stack([columns - start[number, 0], rows - start[number, 1]], -1).astype(float)
        along = np.clip(offset @ direction / max(direction @ direction, 1e-9), 0, 1)
        distance = np.linalg.norm(offset - along[..., None] * direction, axis=-1)
        mine = (columns >= drawn.left[number][:, None]) & (columns <= drawn.right[number][:, None])
        # A distance of half the thickness to the last bit falls on either side.
        differs = mine != (distance <= thickness[number] / 2)
        assert np.all(abs(distance[differs] - thickness[number] / 2) < 1e-4), number


def test_stroke_looks_like_a_drawn_line():
    """Against Pillow, which the released generators draw with: a line with a disc at each vertex."""
    points = np.array([[20, 30], [90, 60], [70, 150], [180, 200], [230, 90], [230, 20]])
    for thick in (12, 25, 39):
        picture = Image.new("L", (256, 256))
        canvas = ImageDraw.Draw(picture)
        canvas.line([tuple(point) for point in points.tolist()], fill=1, width=thick)
        for x, y in points.tolist():
            canvas.ellipse((x - thick // 2, y - thick // 2, x + thick // 2, y + thick // 2), fill=1)
        reference = np.asarray(picture) > 0
        segments = jnp.asarray(points[:-1], jnp.int32), jnp.asarray(points[1:], jnp.int32)
        bits = spans.paint(*segments, jnp.full(5, thick), jnp.ones(5, bool), 256, 256)
        mine = np.asarray(spans.unpack(bits, 256))[..., 0] > 0
        # Pillow's lines lie half a pixel off and are up to one thinner: no pixel is further than one from the other's.
        around = ndimage.binary_dilation(np.stack([mine, reference]), np.ones((1, 3, 3)))
        assert not (mine & ~around[1]).any() and not (reference & ~around[0]).any()


def test_integer_helpers():
    number = jnp.arange(-3000, 3000, dtype=jnp.int32)
    for divisor in (1, 2, 3, 7, 255, 2999):
        np.testing.assert_array_equal(
            integers.floor_divide(number, jnp.int32(divisor)), np.arange(-3000, 3000) // divisor
        )
    squares = jnp.array([0, 1, 2, 3, 4, 8, 9, 4095 * 4095 - 1, 4095 * 4095, 2**24 - 1], jnp.int32)
    np.testing.assert_array_equal(integers.floor_root(squares), [0, 1, 1, 1, 2, 2, 3, 4094, 4095, 4095])
    drawn = integers.uniform(jax.random.bits(jax.random.key(0), (6000,)), -1, 5)
    np.testing.assert_array_equal(np.unique(drawn), np.arange(-1, 5))
    assert np.bincount(np.asarray(drawn) + 1).min() > 1000 - 4 * np.sqrt(1000)
    lengths = np.asarray(integers.normal(jax.random.bits(jax.random.key(1), (20000,)), 45.0, 10.0)) / 16
    # The error of a mean of 20000 is 0.07, of a deviation 0.05; four of each.
    assert abs(lengths.mean() - 45) < 0.28 and abs(lengths.std() - 10) < 0.2


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("deepfilv2", {}, "no mask family 'deepfilv2': did you mean 'deepfillv2'"),
        ("freeform", {"stroke": 2}, "'freeform' has no option 'stroke': did you mean 'strokes'"),
        ("half", {"side": 2}, "'half' has no option 'side': it has none"),
        ("irregular", {"bucket": (0.3, 0.1)}, "bucket is \\(0.3, 0.1\\): give numbers that rise within \\[0, 1\\]"),
        ("irregular", {"bucket": "wide"}, "bucket is 'wide': give a number or a pair of numbers"),
        ("irregular", {"bucket": (0.1, 0.11)}, "must be wider than a row of 64"),
        ("outpaint", {"sides": ("left", "up")}, "sides is \\['left', 'up'\\]: give one or more of left, top"),
        ("box", {"side": 1.5}, "side is 1.5: give numbers that rise within"),
        ("deepfillv2", {"scale": 3.0}, "a box of 384 pixels.*does not fit a mask of 64x64"),
        ("freeform", {"scale": -1.0}, "scale is -1.0: give a positive number"),
        ("freeform", {"strokes": (1, 2.5)}, "strokes is \\(1, 2.5\\): give whole numbers"),
        ("super_resolution", {"factor": 2.5}, "factor is 2.5: give whole numbers"),
    ],
)
def test_bad_configuration(family, options, message):
    with pytest.raises(InputError, match=message):
        masks.sample(jax.random.key(0), jnp.zeros(1, jnp.uint32), 64, 64, masks.Masks(family, options))


def test_a_number_stands_for_a_range():
    """Also as lists, which is what a checkpoint's JSON gives back."""
    key = jax.random.key(0)
    number, pair = (
        masks.FAMILIES["freeform"](key, 64, 64, strokes=s, vertices=v, thickness=t)
        for s, v, t in ((2, 5, 20), ([2, 2], [5, 5], [20, 20]))
    )
    np.testing.assert_array_equal(number, pair)


def test_too_small():
    with pytest.raises(InputError, match="a mask of 4x64 was asked for"):
        _draw("box", [0], 4, 64)
