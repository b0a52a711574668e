"""Infer, Match, and Translate, beyond what the battery asks of every system: the pairs, the rim, the swap, the scales,
and the choice between truth and prediction."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.ops.swap import patch_swap
from jaxpaint.systems import SYSTEMS
from jaxpaint.systems import contextual as page
from jaxpaint.train import Optim
from jaxpaint.types import InputError

KEY = jax.random.key(3)
TINY = dataclasses.replace(SYSTEMS["contextual"].tiny, base=32)
QUICK = {"xla_backend_optimization_level": 0}


def stripes(count: int, side: int) -> np.ndarray:
    """Textured pictures in [-1, 1]: stripes of a direction, a width and a colour each."""
    rng = np.random.default_rng(5)
    grid = np.mgrid[:side, :side]
    pictures = []
    for _ in range(count):
        angle, length = rng.uniform(0, np.pi), rng.uniform(5, 9)
        wave = np.sin(2 * np.pi * (np.cos(angle) * grid[0] + np.sin(angle) * grid[1]) / length)
        pictures.append(rng.uniform(-0.4, 0.4, 3) + wave[..., None] * rng.uniform(0.2, 0.5, 3))
    return np.stack(pictures).astype(np.float32)


def batch(count: int = 2, side: int = 32):
    mask = np.zeros((count, side, side, 1), np.float32)
    mask[:, side // 4 : side // 4 + side // 3, side // 3 : side // 3 + side // 4] = 1
    return {"image": stripes(count, side), "mask": mask, "position": np.arange(count, dtype=np.uint32)}


@functools.cache
def first_state():
    return jax.jit(page.build(TINY).init, compiler_options=QUICK)(KEY, batch())


def weights():
    return first_state().weights


def inpainted(given, **changes):
    system = page.build(dataclasses.replace(TINY, **changes))
    return np.asarray(jax.jit(system.inpaint, compiler_options=QUICK)(weights(), given, KEY))


def players(config=TINY):
    """name -> Player, as `play` is given them."""
    kept = {}
    real = page.play

    def spy(players, **options):
        kept.update({player.name: player for player in players})
        return real(players, **options)

    page.play, before = spy, page.play
    try:
        page.build(config)
    finally:
        page.play = before
    return kept


def made_from(config, given):
    """What Feature2Image is given in training, and the features of the truth."""
    forward = players(config)["feature2image"].forward
    state = first_state()

    @functools.partial(jax.jit, compiler_options=QUICK)
    def both(given):
        _, source, truth, _ = forward(state.params["feature2image"], state, given, KEY)
        return source, truth

    return jax.device_get(both(given))


def test_a_cell_with_one_hole_pixel_is_a_hole():
    mask = np.zeros((1, 8, 12, 1), np.float32)
    mask[0, 3, 8] = 1
    assert np.array_equal(page.cells(mask)[0, ..., 0], [[0, 0, 1], [0, 0, 0]])


def test_weights_are_zero_outside_hole_and_rim():
    mask = np.zeros((1, 9, 9, 1), np.float32)
    mask[0, 2:7, 2:7] = 1
    weight = np.asarray(page.hole_weights(mask, 3.0))[0, ..., 0]
    expected = np.zeros((9, 9))
    expected[1:8, 1:8] = 3
    expected[3:6, 3:6] = 1
    assert np.array_equal(weight, expected)


def test_a_hole_at_the_pictures_edge_has_no_rim_there():
    mask = np.zeros((1, 5, 5, 1), np.float32)
    mask[0, :, :3] = 1
    weight = np.asarray(page.hole_weights(mask, 3.0))[0, ..., 0]
    assert np.array_equal(weight, np.broadcast_to([1, 1, 3, 3, 0], (5, 5)))


def test_discriminators_judge_pairs_in_the_papers_order(monkeypatch):
    """(I0, picture) and (features, picture), real and made: the first of a pair is what the second was made from."""
    seen, state = {}, first_state()

    def noting(module):
        call = module.__call__

        def noted(self, first, second):
            seen.setdefault(type(self).__name__, []).append((first, second))
            return call(self, first, second)

        return noted

    for module in (page.PatchGAN, page.FeaturePairDiscriminator):
        monkeypatch.setattr(module, "__call__", noting(module))
    given = jax.tree.map(jnp.asarray, batch())
    guess = (jnp.full_like(given["image"], 0.25), {})
    made = {"image2feature": guess, "feature2image": (guess[0], jnp.full((2, 8, 8, 256), 2.0), None, {})}
    for name in ("image2feature_discriminator", "feature2image_discriminator"):
        players()[name].loss(state.params[name], state, given, KEY, made)
    (given_real, real), (given_made, fake) = seen["PatchGAN"][:2]
    without = np.where(given["mask"] > 0, 0, given["image"])
    assert np.array_equal(given_real, without) and np.array_equal(given_made, without)
    assert np.array_equal(real, given["image"]) and np.array_equal(fake, guess[0])
    (features_real, real), (features_made, fake) = seen["FeaturePairDiscriminator"]
    assert np.all(np.asarray(features_real) == 2) and np.all(np.asarray(features_made) == 2)
    assert np.array_equal(real, given["image"]) and np.array_equal(fake, guess[0])


def test_feature2image_is_trained_on_swapped_features_of_the_truth():
    """Not of a guess: Image2Feature's weights do not matter, and the input is the swap of the truth's features."""
    given = batch()
    source, truth = made_from(TINY, given)
    expected = patch_swap(jnp.asarray(truth), page.cells(given["mask"]), size=TINY.patch).features
    np.testing.assert_allclose(source, expected, atol=1e-6)  # the mean of nine, compiled into other company
    assert not np.array_equal(source, truth)
    source, truth = made_from(dataclasses.replace(TINY, swap=False), given)
    assert np.array_equal(source, truth)


def test_predictions_are_chosen_by_position():
    positions = jnp.arange(4000, dtype=jnp.uint32)
    chosen = np.asarray(page._chosen(KEY, positions, 0.3))
    assert abs(chosen.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)
    assert np.array_equal(chosen[1000:1008], page._chosen(KEY, positions[1000:1008], 0.3))


def test_predictions_are_what_image2feature_paints():
    given = batch(side=48)
    source, truth = made_from(dataclasses.replace(TINY, predictions=1.0, swap=False), given)
    difference = np.abs(source - truth).max((0, 3))
    rows, columns = (np.flatnonzero(page.cells(given["mask"])[0, ..., 0].max(axis)) for axis in (1, 0))
    assert difference[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].min() > 0
    # relu3_1 looks 12 pixels to either side of its own four: three cells.
    assert difference[rows[-1] + 4 :].max() == 0 and difference[:, columns[-1] + 4 :].max() == 0
    assert difference[rows[-1] + 1].max() > 0


@pytest.mark.parametrize(("stage", "moved"), [("image2feature", "image2feature"), ("feature2image", "feature2image")])
def test_a_stage_trains_its_own_networks(stage, moved):
    names = set(players(dataclasses.replace(TINY, stage=stage)))
    assert names == {moved, f"{moved}_discriminator"}


def test_learning_rates_of_players_that_do_not_play_are_refused():
    with pytest.raises(InputError, match="image2feature"):
        page.build(dataclasses.replace(TINY, stage="feature2image"), Optim(lr_scale={"image2feature": 10.0}))


def test_a_stage_that_there_is_not_is_refused():
    with pytest.raises(InputError, match="stage is 'image2features': expected one of 'both', 'image2feature', "):
        page.build(dataclasses.replace(TINY, stage="image2features"))


def test_large_pictures_are_filled_by_doubling(monkeypatch):
    """128 with a base of 32: guessed at 32, translated at 32, 64 and 128, known pixels pasted at each."""
    sides = {"guess": [], "swap": []}
    swap, call = page.patch_swap, page.Image2Feature.__call__

    def noted_swap(features, mask, **options):
        sides["swap"].append(features.shape[1])
        return swap(features, mask, **options)

    def noted_guess(self, image, mask, **options):
        sides["guess"].append(image.shape[1])
        return call(self, image, mask, **options)

    monkeypatch.setattr(page, "patch_swap", noted_swap)
    monkeypatch.setattr(page.Image2Feature, "__call__", noted_guess)
    given = batch(1, 128)
    shape = jax.eval_shape(page.build(TINY).inpaint, weights(), given, KEY).shape
    assert shape == (1, 128, 128, 3)
    assert sides == {"guess": [32], "swap": [8, 16, 32]}
    sides["guess"].clear(), sides["swap"].clear()
    jax.eval_shape(page.build(dataclasses.replace(TINY, multi_scale=False)).inpaint, weights(), given, KEY)
    assert sides == {"guess": [128], "swap": [32]}
    sides["swap"].clear()
    jax.eval_shape(page.build(dataclasses.replace(TINY, iterations=2)).inpaint, weights(), given, KEY)
    assert sides["swap"] == [8, 8, 16, 16, 32, 32]


def test_what_covers_a_hole_pixel_is_unknown_at_a_smaller_scale():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1).repeat(3, -1)
    mask = np.zeros((1, 4, 4, 1), np.float32)
    mask[0, 0, 1] = 1
    small, hole = page._reduced(jnp.asarray(image), jnp.asarray(mask), 2)
    assert np.array_equal(hole[0, ..., 0], [[1, 0], [0, 0]])
    assert np.array_equal(small[0, ..., 0][hole[0, ..., 0] == 0], [4.5, 10.5, 12.5])


def test_the_flags_of_the_ablations_change_the_result():
    given = batch()
    plain = inpainted(given)
    for change in ({"swap": False}, {"iterations": 2}, {"stage": "image2feature"}, {"restore": False}):
        other = inpainted(given, **change)
        assert not np.array_equal(other, plain), change
        assert np.array_equal(np.where(given["mask"] > 0, 0, other), np.where(given["mask"] > 0, 0, plain))


def test_stylize_paints_the_contents_size_with_the_styles_patches(monkeypatch):
    kept = {}
    swap = page.patch_swap

    def noted(features, mask, **options):
        kept.update(mask=mask.shape, source=options["source"].shape, result=swap(features, mask, **options))
        return kept["result"]

    monkeypatch.setattr(page, "patch_swap", noted)
    content, style = stripes(1, 33), stripes(2, 47)[1:]
    paint = jax.jit(
        lambda *pictures: (page.stylize(TINY, weights(), *pictures), kept.pop("result")), compiler_options=QUICK
    )
    result, swapped = paint(content, style)
    assert result.shape == content.shape
    assert np.all(np.asarray(swapped.index) >= 0)  # every patch, the content's own included
    assert kept == {"mask": (1, 9, 9, 1), "source": (1, 47 // 4, 47 // 4, 256)}


def test_reports_say_that_features_are_random():
    assert "random weights" in page.build(TINY).notes[0]
    published = page.build(page.Config())
    assert published.notes == ()
    assert published.networks["vgg19"].published == "vgg19"
    assert page.build(TINY).networks["vgg19"].published is None
