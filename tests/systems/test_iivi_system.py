"""Fitting networks to a clip: it learns, it can be made again, it does not look into holes, and it climbs through sizes
from constant memory."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.io.frames import array_clip
from jaxpaint.io.store import Store
from jaxpaint.io.video_masks import open_masks
from jaxpaint.systems import _iivi_levels as levels
from jaxpaint.systems._iivi_fit import Course, Footage, Phase, crops, descend, sizes, whole_frames
from jaxpaint.systems._iivi_held_out import HeldOut
from jaxpaint.systems._iivi_masks import MaskConfig, propagate
from jaxpaint.systems.iivi import PAGE, RELEASED, Config, build, fill_together, halved, parts
from jaxpaint.train import Weights
from jaxpaint.types import InputError

KEY = jax.random.key(4)
# Programs of one config are compiled once, which is nearly all of the time here.
CONFIG = Config(
    width=4,
    batch=2,
    base=16,
    coarse_steps=20,
    steps=5,
    refine_steps=4,
    crop=(16, 16),
    lr=5e-3,
    schedule="constant",
    warmup=3,
)


@pytest.fixture(autouse=True, scope="module")
def quick_compiles():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def arrays(scale: int = 1):
    """uint8 frames (3) of 16x16 times scale that a picture moves through, and a hole that does not move."""
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (4, 8, 3)), np.ones((4 * scale, 4 * scale, 1))).astype(np.uint8)
    side = 16 * scale
    frames = np.stack([picture[:, 2 * scale * shift :][:, :side] for shift in range(3)])
    masks = np.zeros((3, side, side, 1), np.uint8)
    masks[:, 5 * scale : 9 * scale, 6 * scale : 10 * scale] = 1
    return frames, masks


def opened(scale: int = 2):
    frames, masks = arrays(scale)
    clip = array_clip(frames)
    return clip, open_masks(masks, clip)


def fit(name: str, steps: int, footage: Footage, config: Config = CONFIG, start=None, **options):
    """(params, terms) of one phase."""
    networks = parts(config, jnp.dtype("float32"))
    start = start or levels._drawn(networks)(KEY)["generator"]
    start = {"coarse_net": start["coarse_net"]} if name == "coarse" else start
    takes = [whole_frames(footage, config, KEY)]
    (params,), (terms,) = descend(config, networks, Phase(name, steps), [start], None, takes, [KEY], **options)
    return params, terms


@functools.cache
def fitted():
    return fit("coarse", 20, Footage(*arrays()))


def test_learns():
    _, terms = fitted()
    assert set(terms) == {"coarse"} and terms["coarse"].shape == (20,)
    assert terms["coarse"][-5:].mean() < 0.92 * terms["coarse"][:3].mean()


def test_what_is_in_a_hole_is_not_looked_at():
    frames, masks = arrays()
    hidden = np.where(masks == 1, np.nan, frames / 127.5 - 1).astype(np.float32)
    watched = []
    _, terms = fit("coarse", 4, Footage(hidden, masks), watch=lambda number, _: watched.append(number))
    assert watched == [1, 2, 3, 4]
    changed = np.where(masks == 1, 99, frames).astype(np.uint8)
    _, other = fit("coarse", 4, Footage(changed, masks))
    np.testing.assert_allclose(terms["coarse"], other["coarse"], rtol=1e-6)


def test_starts_from_another_fit():
    params, terms = fitted()
    _, warm = fit("coarse", 1, Footage(*arrays()), start=params)
    assert warm["coarse"][0] < 0.92 * terms["coarse"][0]
    assert jax.tree.all(jax.tree.map(lambda leaf: not leaf.is_deleted(), params))


def test_the_regularisers_join_in():
    """Both terms are there and pull: with random VGG-19 features, which are enough for that."""
    config = dataclasses.replace(CONFIG, regular_steps=2, ambiguity_weight=0.1, features="random")
    networks = parts(config, jnp.dtype("float32"))
    small = networks._replace(features=lambda params, picture: jnp.tanh(picture @ params))
    start, takes = levels._drawn(networks)(KEY)["generator"], [whole_frames(Footage(*arrays()), config, KEY)]
    mixing = jax.random.normal(KEY, (3, 8))
    _, (terms,) = descend(config, small, Phase("regular", 2), [start], mixing, takes, [KEY])
    assert set(terms) == {"coarse", "final", "stabilisation", "ambiguity"}
    assert np.isfinite(list(terms.values())).all() and (terms["ambiguity"] > 0).all()
    assert "vgg19" in build(config).networks and build(config).notes


@functools.cache
def streamed():
    """(frames, weights, what was said), of a clip that takes two sizes."""
    said, frames = [], []
    stream = build(CONFIG).stream(Weights(params={}), *opened(), KEY, said.append)
    while True:
        try:
            frames.append(next(stream))
        except StopIteration as end:
            return np.stack(frames), end.value, said


def test_a_clip_climbs_to_its_own_size():
    frames, weights, said = streamed()
    given, masks = arrays(2)
    known = np.broadcast_to(masks == 0, given.shape)
    np.testing.assert_array_equal(frames[known], given[known])
    assert (frames[~known] != given[~known]).mean() > 0.9
    assert set(weights.params) == {"generator", "refiner"}
    assert [line for line in said if "size" in line] == ["size 16x16 (1 of 2)", "size 32x32 (2 of 2)"]
    again = np.stack(list(build(CONFIG).stream(Weights(params={}), *opened(), KEY, said.append)))
    np.testing.assert_array_equal(frames, again)


def test_a_fit_is_a_start_for_the_next():
    _, weights, _ = streamed()
    config = dataclasses.replace(CONFIG, coarse_steps=1, steps=0, refine_steps=1, warmup=0, lr=0.0)
    warm = np.stack(list(build(config).stream(weights, *opened(), KEY, print)))
    cold = np.stack(list(build(config).stream(Weights(params={}), *opened(), KEY, print)))
    truth, masks = arrays(2)
    hole = np.broadcast_to(masks == 1, truth.shape)
    errors = [np.abs(x[hole].astype(float) - truth[hole]).mean() for x in (warm, cold)]
    assert errors[0] < errors[1]


def test_steps_that_are_mapped_over_clips():
    """One program for two clips makes of each what its own makes."""
    frames, masks = arrays()
    config, networks = CONFIG, parts(CONFIG, jnp.dtype("float32"))
    keys = list(jax.random.split(KEY))
    start = [{"coarse_net": levels._drawn(networks)(key)["generator"]["coarse_net"]} for key in keys]
    takes = [whole_frames(Footage(x, masks), config, key) for x, key in zip((frames, frames[::-1]), keys, strict=True)]
    made = [
        descend(config, networks, Phase("coarse", 3), start, None, takes, keys, mapped=mapped)
        for mapped in (False, True)
    ]
    for alone, together in zip(made[0][1], made[1][1], strict=True):
        assert alone["coarse"].shape == (3,)
        np.testing.assert_allclose(alone["coarse"], together["coarse"], rtol=2e-5)
    assert not np.allclose(made[0][1][0]["coarse"], made[0][1][1]["coarse"])


def test_clips_at_once_are_as_by_themselves():
    frames, masks = arrays(2)
    clips = [array_clip(frames), array_clip(frames[::-1].copy())]
    opened_masks = [open_masks(masks, clip) for clip in clips]
    config = dataclasses.replace(CONFIG, coarse_steps=2, steps=0, refine_steps=1)
    _, together = fill_together(config, clips, opened_masks, KEY)
    for number, (clip, mask) in enumerate(zip(clips, opened_masks, strict=True)):
        alone = np.stack(
            list(build(config).stream(Weights(params={}), clip, mask, jax.random.fold_in(KEY, number), print))
        )
        np.testing.assert_array_equal(np.stack(list(together[number])), alone)  # on a CPU they take turns
    other = array_clip(frames[:, :16])
    with pytest.raises(InputError, match="one size"):
        fill_together(config, [clips[0], other], [opened_masks[0], open_masks(masks[:, :16], other)], KEY)


def test_pictures_through_the_weights_of_a_fit():
    _, weights, _ = streamed()
    frames, masks = arrays(2)
    batch = {"image": jnp.asarray(frames / 127.5 - 1, jnp.float32), "mask": jnp.asarray(masks, jnp.float32)}
    filled = np.asarray(jax.jit(build(CONFIG).inpaint)(weights, batch, KEY))
    known = np.broadcast_to(masks == 0, frames.shape)
    np.testing.assert_array_equal(filled[known], np.asarray(batch["image"])[known])
    only = Weights(params={"generator": weights.params["generator"]})
    enlarged = np.asarray(build(CONFIG).inpaint(only, batch, KEY))
    assert np.isfinite(enlarged).all() and (enlarged != filled).any()


@pytest.mark.parametrize(
    ("size", "base", "expected"),
    [
        ((96, 160), 96, [(96, 160)]),
        ((95, 161), 0, [(96, 164)]),
        ((192, 320), 96, [(96, 160), (192, 320)]),
        ((480, 854), 96, [(96, 172), (164, 292), (280, 500), (480, 856)]),
    ],
)
def test_sizes(size, base, expected):
    assert sizes(*size, base) == expected


def test_a_shrunk_clip_holds_nothing_of_its_holes():
    """Whatever the holes hold, a pixel that is known at the small size does not change."""
    frames, masks = arrays(2)
    masks[0, 7, 3] = 1  # one pixel
    shrunk = []
    for value in (0, 255):
        clip = array_clip(np.where(masks == 1, value, frames).astype(np.uint8))
        footage = levels._footage(clip, open_masks(masks, clip), (12, 20), last=False)
        known = footage.masks[range(3)] == 0
        shrunk.append(np.where(known, footage.frames[range(3)], 0))
        # 32 / 12 rows and 32 / 20 columns a pixel: the hole of 8x8 from (10, 12) covers rows 3 to 6, columns 7 to 12.
        expected = np.zeros((12, 20), bool)
        expected[3:7, 7:13] = True
        np.testing.assert_array_equal(footage.masks[1][..., 0], expected)
        assert footage.masks[0][..., 0].sum() == expected.sum() + 1
    np.testing.assert_array_equal(*shrunk)


def test_crops_lie_around_borders():
    frames, masks = arrays(4)
    small = arrays(1)[1]
    shape = frames.shape
    footage = Footage(Store.of(frames, shape), Store.of(masks, (*shape[:3], 1)), Store.of(frames, shape))
    with Store.of(small, small.shape) as small_store:
        take = crops(footage, functools.partial(levels.border_place, small_store), CONFIG, 3)
        for step in range(8):
            batch = take(step)
            assert batch["frame"].shape == (2, 16, 16, 3) and batch["prior"].shape == (2, 16, 16, 3)
            share = batch["own"].mean((1, 2, 3))
            assert (share > 0.02).all() and (share < 1).all()  # a hole of 16x16: never all of the crop
            np.testing.assert_array_equal(batch["frame"], batch["prior"])
        np.testing.assert_array_equal(take(2)["frame"], take(2)["frame"])
        empty = Store.of(np.zeros_like(small), small.shape)
        places = np.array([levels.border_place(empty, 0, np.random.default_rng(i)) for i in range(50)])
        assert places.min() >= 0 and places.max() < 1 and places.std() > 0.2


def test_held_out_pixels_are_hidden_in_some_frames():
    masks = np.zeros((9, 8, 8, 1), np.uint8)
    masks[:, 0:2, 0:2] = 1
    held = HeldOut(masks)
    assert list(held.looked_at) == [0, 4, 8]
    for number in range(9):
        assert held[number].sum() == (8 if number % 4 == 0 else 4)
    assert held[[0, 1]].shape == (2, 8, 8, 1) and held[0][4:6, 4:6].all()
    masks[3:5] = 1  # frames that are nothing but hole: their hole is not borrowed, and there is nothing to look at
    held = HeldOut(masks)
    assert list(held.looked_at) == [0, 8] and held[0].sum() == 8
    masks[:] = 1
    masks[:, 3:7, 1:5] = 0  # large holes alone: a box in the middle, of which rows 3 to 5, columns 2 to 4 are known
    assert HeldOut(masks)[4].sum() == 48 + 9 and HeldOut(masks)[5].sum() == 48


@pytest.mark.parametrize("known", [np.s_[:1], np.s_[2:6]], ids=["outside of the box", "all in the box"])
def test_frames_that_cannot_be_looked_at(known):
    masks = np.ones((5, 8, 8, 1), np.uint8)
    masks[:, known, 2:6] = 0
    held = HeldOut(masks)
    assert not held.looked_at
    np.testing.assert_array_equal(held[range(5)], masks)


def test_a_course_ends_when_nothing_is_gained():
    config = dataclasses.replace(CONFIG, schedule="plateau", lr=1.0, warmup=2, look_every=10, patience=2)
    course = Course(config, 1000)
    assert [course.rate(n) for n in (0, 1, 2, 700)] == [0, 0.5, 1, 1] and course.steps == 1000
    for number, error in ((10, 1.0), (20, 0.5), (30, 0.6)):
        assert course.looks(number) and not course.looks(number + 1)
        course.seen(number, error)
    course.seen(40, 0.499)  # half a per cent or less is no gain
    assert course.steps == 40 + 13 and not course.looks(50)
    rates = [course.rate(number) for number in range(40, 54)]
    assert rates[0] == 1 and rates[-1] < 1e-9 and all(a > b for a, b in itertools.pairwise(rates))
    cosine = Course(dataclasses.replace(config, schedule="cosine"), 10)
    assert cosine.rate(2) == 1 and cosine.rate(6) == pytest.approx(0.5) and not cosine.looks(10)


@pytest.mark.filterwarnings("ignore:the array of masks")  # nearly all is hole
@pytest.mark.parametrize(("lost", "steps"), [(False, 12), (True, 20)])
def test_early_stopping_in_a_fit(lost, steps):
    """A rate of zero gains nothing: the fit ends after its patience and a third, not after all its steps.

    Where no frame can be looked at, all steps are done.
    """
    config = dataclasses.replace(
        CONFIG, base=0, coarse_steps=20, steps=0, schedule="plateau", look_every=3, patience=2, lr=0.0
    )
    clip, masks = array_clip(arrays()[0]), arrays()[1]
    if lost:
        masks[:] = 1
        masks[0, 0] = 0  # a row is known, which the box in the middle does not cover
    said = []
    list(build(config).stream(Weights(params={}), clip, open_masks(masks, clip), KEY, said.append))
    assert said[-1].startswith(f"coarse step {steps} of {steps}")  # looks at 3, 6 and 9, and 9 // 3 steps more


def test_a_prior_of_half_the_size():
    picture = np.arange(2 * 5 * 4 * 3, dtype=np.float32).reshape(2, 5, 4, 3)
    prior = np.asarray(halved(jnp.asarray(picture)))
    np.testing.assert_allclose(prior[1, 2:4, 0:2], np.broadcast_to(picture[1, 2:4, 0:2].mean((0, 1)), (2, 2, 3)))
    np.testing.assert_array_equal(prior[:, 4], prior[:, 3])


def test_an_object_is_found_where_it_moves():
    """A bright square on a dark ground: its mask is known in the first frame alone."""
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 60, (3, 32, 48, 3)).astype(np.uint8)
    masks = np.zeros((3, 32, 48, 1), np.uint8)
    for number in range(3):
        masks[number, 8:18, 6 + 10 * number : 16 + 10 * number] = 1
    frames = np.where(masks == 1, 250, frames).astype(np.uint8)
    config = MaskConfig(width=8, base=32, steps=100, batch=2, lr=3e-3)
    found = np.stack(list(propagate(array_clip(frames), masks[0], config, KEY)))
    np.testing.assert_array_equal(found[0], masks[0])
    for number in (1, 2):
        union = (found[number] | masks[number]).sum()
        assert (found[number] & masks[number]).sum() > 0.7 * union
    with pytest.raises(InputError, match="of its size"):
        next(propagate(array_clip(frames), masks[0][:16], config, KEY))
    with pytest.raises(InputError, match="marks nothing"):
        next(propagate(array_clip(frames), 0 * masks[0], config, KEY))


def test_configs_that_cannot_be():
    with pytest.raises(InputError, match="no steps"):
        build(dataclasses.replace(CONFIG, coarse_steps=0, steps=0))
    with pytest.raises(InputError, match="second phase"):
        build(dataclasses.replace(CONFIG, coarse_steps=0, steps=0, regular_steps=5))
    build(RELEASED)
    assert PAGE.variants["released"] is RELEASED


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("crop", (30, 32), "divisible by 4"),
        ("crop", (0, 0), "4 or more"),
        ("max_pixels", 128 * 128 - 1, "16384 or more"),
        ("refine_steps", -1, "0 or more"),
        ("coarse_steps", -1, "0 or more"),
        ("look_every", 0, "1 or more"),
        ("patience", 0, "1 or more"),
        ("batch", 0, "1 or more"),
        ("width", 1, "2 or more"),
        ("features", "publised", "did you mean 'published'"),
        ("schedule", "constnat", "did you mean 'constant'"),
    ],
)
def test_values_that_cannot_be(field, value, said):
    with pytest.raises(InputError, match=f"{field} is .*{said}"):
        build(dataclasses.replace(CONFIG, **{field: value}))


def test_the_ambiguity_loss_wants_its_network():
    config = dataclasses.replace(CONFIG, regular_steps=1, ambiguity_weight=0.1)
    with pytest.raises(InputError, match="looks through VGG-19"):
        next(build(config).stream(Weights(params={}), *opened(), KEY, print))
