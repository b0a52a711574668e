"""Moving holes: never empty, never full, smooth, the same wherever they are drawn."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.ops.masks import Masks
from jaxpaint.ops.masks.moving import MOVING, bounce, paste, sample_clips
from jaxpaint.types import InputError

T, H, W = 12, 48, 64


@functools.cache
def drawn(name: str, **options) -> np.ndarray:
    """Six clips of masks of a family, uint8 6 t h w."""
    draw = jax.jit(lambda key: sample_clips(key, jnp.arange(6, dtype=jnp.uint32), T, H, W, Masks(name, options)))
    made = draw.lower(jax.random.key(3)).compile({"xla_backend_optimization_level": 0})(jax.random.key(3))
    assert made.shape == (6, T, H, W, 1) and made.dtype == jnp.float32
    return np.asarray(made)[..., 0]


@pytest.mark.parametrize("name", MOVING)
def test_every_frame_has_hole_and_known_pixels(name):
    made = drawn(name)
    assert set(np.unique(made)) == {0.0, 1.0}
    share = made.mean((2, 3))
    assert share.min() > 0 and share.max() < 1
    assert len({clip.tobytes() for clip in made}) == (1 if name == "fixed" else 6)  # fixed: the centred box


def test_a_clip_is_a_function_of_key_and_position():
    key = jax.random.key(3)
    alone = jax.jit(lambda place: sample_clips(key, place, T, H, W, Masks("box")))(jnp.array([4], jnp.uint32))
    np.testing.assert_array_equal(alone[0, ..., 0], drawn("box")[4])


def test_boxes_are_rigid_and_move_evenly():
    """Against the boxes' corners: the size stays, the place follows a reflected line, by less than a pixel."""
    directions = set()
    for clip in drawn("box", speed=12):  # pixels a frame of a 256 picture: 2.25 at this size
        rows, columns = clip.any(2), clip.any(1)
        assert (clip == rows[:, :, None] * columns[:, None, :]).all()
        for covered, length in ((rows, H), (columns, W)):
            size, first = covered.sum(1), covered.argmax(1)
            assert (size == size[0]).all()
            speed, room = 12 * H / 256, length - size[0]
            assert room > 0 and (np.abs(np.diff(first)) <= np.ceil(speed)).all()
            for sign in (1, -1):
                along = (first[0] + sign * speed * np.arange(T)) % (2 * room)
                if (np.abs(room - np.abs(along - room) - first) <= 1).all():
                    directions.add(sign)
                    break
            else:
                pytest.fail(f"no line explains {first}")
    assert directions == {1, -1}


def test_strokes_move_smoothly():
    """A vertex moves by at most speed + wobble = 7 * 48 / 256 pixels a frame along an axis, and flooring adds one."""
    from scipy.ndimage import binary_dilation

    clips = drawn("freeform", speed=4, wobble=3) > 0
    changed = 0
    for clip in clips:
        for before, after in itertools.pairwise(clip):
            near = binary_dilation(before, np.ones((9, 9)))  # ceil(7 * 48 / 256) + 1 = 3, and as much for rounding
            assert not (after & ~near).any()
            changed += (before != after).any()
    assert changed > 0.9 * 6 * (T - 1)


def test_still_kinds():
    assert all((clip == clip[0]).all() for clip in drawn("fixed"))
    assert all((clip[0] != clip[1]).any() for clip in drawn("jumping"))


def test_bounce_against_a_walk():
    """A walker that turns round at the walls, in floats."""
    for start, velocity, room in ((3.0, 2.5, 10), (0.0, 1.25, 7), (4.0, 33.0, 5), (6.0, -3.5, 9), (0.0, 9.0, 0)):
        place, heading, expected = start, velocity, []
        for _ in range(30):
            expected.append(int(place))
            left = abs(heading)
            while room and left:
                step = min(left, room - place if heading > 0 else place)
                place += step if heading > 0 else -step
                left -= step
                if left:
                    heading = -heading
        moved = bounce(jnp.int32(start * 256), jnp.int32(velocity * 256), room, 30)
        np.testing.assert_array_equal(moved, expected)


def test_pasted_objects_are_whole_and_elsewhere():
    """Each frame holds the object's frame, mirrored and reversed or not, at some shift, with all its pixels."""
    rng = np.random.default_rng(0)
    objects = np.zeros((T, H, W, 1), np.float32)
    for t in range(T):  # an irregular object that wanders by itself
        objects[t, 10 + t : 18 + t, 20 : 33 + t % 3, 0] = rng.integers(0, 2, (8, 13 + t % 3))
    put = jax.jit(lambda key, clip: paste(key, clip, speed=8))
    places, seen = set(), set()
    for seed in range(8):
        made = np.asarray(put(jax.random.key(seed), objects))
        assert made.shape == objects.shape and made.dtype == np.float32
        found = [
            (flip, back)
            for flip in (1, -1)
            for back in (1, -1)
            if all(_crop(a) == _crop(b) for a, b in zip(made, objects[::back, :, ::flip], strict=True))
        ]
        assert len(found) == 1
        seen.add(found[0])
        places.add(np.argwhere(made[0, ..., 0]).min(0).tobytes())
    assert len(places) == 8 and len(seen) > 2
    assert not put(jax.random.key(0), objects * 0).any()


def _crop(mask):
    """The object's bounding box as bytes."""
    where = np.argwhere(mask[..., 0])
    (top, left), (bottom, right) = where.min(0), where.max(0) + 1
    return mask[top:bottom, left:right].tobytes() + bytes([bottom - top])


def test_errors():
    key, one = jax.random.key(0), jnp.zeros(1, jnp.uint32)
    for masks, words in (
        (Masks("boxes"), r"no mask family 'boxes' for clips: did you mean 'box'\? set masks.family to one of box, "),
        (Masks("box", {"sped": 1}), r"'box' has no option 'sped': did you mean 'speed'\?"),
        (Masks("box", {"speed": 400}), "speed is 400: give numbers that rise within"),
        (Masks("fixed", {"still": "centr"}), "no mask family 'centr'"),
    ):
        with pytest.raises(InputError, match=words):
            sample_clips(key, one, T, H, W, masks)
    with pytest.raises(InputError, match="masks for 0 frames"):
        sample_clips(key, one, 0, H, W, Masks("box"))
