"""The Inpainter: sizes, order, bit-exact known pixels, tiles against whole pictures, and every refusal."""

import dataclasses
import logging
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.io.weights import save_weights
from jaxpaint.ops.masks import dilate as dilate_in_jax
from jaxpaint.ops.pixels import composite
from jaxpaint.run.inpainter import Inpainter
from jaxpaint.run.prepare import dilate
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Page, System, Weights
from jaxpaint.types import InputError


@dataclasses.dataclass
class BlurConfig:
    """radius: of the window. noise: amplitude of noise drawn by position."""

    radius: int = 4
    noise: float = 0.0


def build_blur(config, optim=None, dtype=jnp.float32):
    """A local system: the hole is the mean of the known pixels in a window, plus a weight, plus noise."""

    def window(x):
        side = 2 * config.radius + 1
        for shape in [(1, side, 1, 1), (1, 1, side, 1)]:
            x = jax.lax.reduce_window(x, 0.0, jax.lax.add, shape, (1, 1, 1, 1), "SAME")
        return x

    def inpaint(weights, batch, rng):
        known = 1 - batch["mask"]
        mean = window(batch["image"] * known) / jnp.maximum(window(known), 1)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(rng, batch["position"])
        noise = jax.vmap(lambda key: jax.random.uniform(key, (3,)))(keys)[:, None, None]
        result = mean + weights.params["net"]["shift"] + config.noise * noise
        return composite(result, batch["image"], batch["mask"])

    return System(init=None, update=None, inpaint=inpaint, networks={})


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "blur", Page("A blur", BlurConfig, build_blur, BlurConfig(), watch=""))

    def inpainter(shift=0.0, devices=1, **config):
        weights = Weights(params={"net": {"shift": np.float32(shift)}})
        return Inpainter("blur", BlurConfig(**config), weights, devices=devices)

    return inpainter


def example(height, width, seed=0):
    """A smooth picture and a box of a hole."""
    rng = np.random.default_rng([seed, height, width])
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    mask = np.zeros((height, width, 1), np.uint8)
    top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
    mask[top : top + 8, left : left + 8] = 1
    return image, mask


def blur(image, mask, radius):
    """NumPy's own, slow: for the hole pixels."""
    result = image.astype(np.float64)
    for y, x in np.argwhere(mask[..., 0]):
        window = np.s_[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        known = mask[window][..., 0] == 0
        result[y, x] = image[window][known].mean(0) if known.any() else 127.5
    return result


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (100, 1000)])
def test_any_size_against_numpy(make, size):
    """A hole away from the bottom and right borders, where padding would change what a window sees."""
    image, _ = example(*size)
    mask = np.zeros((*size, 1), np.uint8)
    mask[3:12, 2:20] = 1
    result = make().inpaint(image, mask)
    assert result.shape == image.shape
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[mask[..., 0] == 0], image[mask[..., 0] == 0])
    assert np.abs(result - blur(image, mask, 4)).max() <= 0.5 + 1e-3  # rounding to uint8


@pytest.mark.parametrize("limit", [None, 128 * 128])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_known_pixels_come_back_bit_for_bit(make, kind, limit):
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (200, 190, 3), np.uint8)
    if kind is np.float32:
        image = rng.uniform(-1, 1, image.shape).astype(np.float32)
        image[0, 0, 0] = -0.0
    mask = (rng.random((200, 190, 1)) < 0.5).astype(np.uint8)
    mask[0, 0] = 0
    result = make(shift=0.3).inpaint(image, mask, max_pixels=limit)
    known = mask[..., 0] == 0
    assert result.dtype == kind
    assert result[known].tobytes() == image[known].tobytes()
    assert (result[~known] != image[~known]).mean() > 0.9


def test_mixed_sizes_share_few_programs_and_keep_their_order(make):
    rng = np.random.default_rng(5)
    sizes = [tuple(rng.integers(200, 320, 2)) for _ in range(20)]
    pairs = [example(*size) for size in sizes]
    inpainter = make(shift=0.1)
    results = inpainter.inpaint(*zip(*pairs, strict=True))
    buckets = {tuple(-(-s // 64) * 64 for s in size) for size in sizes}
    assert len(buckets) <= 4
    assert inpainter.compiles <= len(buckets)
    alone = make(shift=0.1)
    for (image, mask), result in zip(pairs, results, strict=True):
        assert result.shape == image.shape
        np.testing.assert_array_equal(result[mask[..., 0] == 0], image[mask[..., 0] == 0])
    for number in (0, 7, 19):
        np.testing.assert_array_equal(alone.inpaint(*pairs[number]), results[number])
    inpainter.inpaint(*zip(*pairs[:3], strict=True))
    assert inpainter.compiles <= len(buckets), "a smaller call compiled anew"


def test_noise_belongs_to_the_position_not_to_the_company(make):
    pairs = [example(40, 40), example(70, 40), example(40, 41), example(50, 50)]
    images, masks = map(list, zip(*pairs, strict=True))
    inpainter = make(noise=0.5)
    together = inpainter.inpaint(images, masks, seed=3)
    reversed_ = inpainter.inpaint(images[::-1], masks[::-1], seed=3, positions=[3, 2, 1, 0], batch_size=1)
    for one, other in zip(together, reversed_[::-1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert (inpainter.inpaint(images[0], masks[0], seed=4) != together[0]).any()
    assert (inpainter.inpaint(images[0], masks[0], seed=3, positions=[9]) != together[0]).any()


@pytest.mark.parametrize("shape", [(500, 610), (100, 900), (900, 100)], ids=str)
def test_tiles_equal_the_whole_picture_for_a_local_system(make, shape):
    rng = np.random.default_rng(6)
    image = rng.uniform(-1, 1, (*shape, 3)).astype(np.float32)
    mask = (rng.random((*shape, 1)) < 0.6).astype(np.uint8)
    mask[:10], mask[-10:], mask[:, :10], mask[:, -10:] = 0, 0, 0, 0  # away from what is padded
    inpainter = make(radius=4)
    whole = inpainter.inpaint(image, mask)
    tiled = inpainter.inpaint(image, mask, max_pixels=128 * 128)
    np.testing.assert_allclose(tiled, whole, atol=2e-6)  # float32 means of 81 numbers in another order
    np.testing.assert_array_equal(tiled, inpainter.inpaint(image, mask, max_pixels=128 * 128))


def test_a_tile_that_knows_nothing_is_steered_by_the_reduced_picture(make):
    """A hole of several tiles in a picture of one colour: without the guess its middle would be mid grey."""
    image = np.full((520, 520, 3), 200, np.uint8)
    mask = np.zeros((520, 520, 1), np.uint8)
    mask[60:460, 60:460] = 1
    hole = mask[..., 0] > 0
    inpainter = make(radius=50)
    whole = inpainter.inpaint(image, mask)
    tiled = inpainter.inpaint(image, mask, max_pixels=128 * 128)
    assert (whole[hole] == 200).mean() < 0.5
    assert (tiled[hole] == 200).mean() > 0.95  # all but the far end of tiles that know a little by themselves


def test_what_lies_in_the_hole_is_not_looked_at(make):
    image, mask = example(64, 64)
    other = np.where(mask > 0, 255 - image, image)
    inpainter = make()
    np.testing.assert_array_equal(inpainter.inpaint(image, mask), inpainter.inpaint(other, mask))
    floats = np.where(mask > 0, np.nan, image / np.float32(127.5) - 1).astype(np.float32)
    assert np.isfinite(inpainter.inpaint(floats, mask)).all()


def test_masks_in_their_several_forms_are_one(make):
    image, mask = example(48, 64)
    inpainter = make()
    want = inpainter.inpaint(image, mask)
    for form in (mask[..., 0], mask > 0, mask * 255, mask.astype(np.float32), mask.astype(np.int64)):
        np.testing.assert_array_equal(inpainter.inpaint(image, form), want)
    both = inpainter.inpaint(np.stack([image, image]), mask)  # one for all
    np.testing.assert_array_equal(both, np.stack([want, want]))
    both = inpainter.inpaint(np.stack([image, image]), np.stack([mask, mask])[..., 0])
    np.testing.assert_array_equal(both, np.stack([want, want]))
    assert isinstance(inpainter.inpaint([image], [mask]), list)


def test_an_empty_mask_gives_the_picture_back(make):
    image, mask = example(48, 64)
    inpainter = make()
    with pytest.warns(UserWarning, match="picture 0: the mask has no hole"):
        result = inpainter.inpaint(image, np.zeros_like(mask))
    np.testing.assert_array_equal(result, image)
    assert inpainter.compiles == 0


@pytest.mark.parametrize("pixels", [0, 1, 5, 40])
def test_dilation_against_a_loop(pixels):
    mask = np.zeros((33, 47, 1), np.uint8)
    mask[0, 3] = mask[20, 30] = 1
    want = np.zeros_like(mask)
    for y, x in np.argwhere(mask[..., 0]):
        want[max(0, y - pixels) : y + pixels + 1, max(0, x - pixels) : x + pixels + 1] = 1
    np.testing.assert_array_equal(dilate(mask, pixels), want)
    np.testing.assert_array_equal(dilate(mask, pixels), dilate_in_jax(jnp.asarray(mask), pixels))


def test_dilation_grows_the_hole_that_is_filled(make):
    image, mask = example(64, 64)
    result = make(shift=0.9).inpaint(image, mask, mask_dilate=3)
    np.testing.assert_array_equal((result != image).any(-1), dilate(mask, 3)[..., 0] > 0)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        ((256, 320, 3), (256, 256, 1), "picture 0: mask is 256x256 but image is 256x320: resize one of them"),
        ((31, 64, 3), (31, 64, 1), "picture 0 is 31x64x3: both sides must be 32 pixels or more"),
        ((64, 64, 1), (64, 64, 1), "picture 0 is 64x64x1: expected height x width x 3"),
        ((64, 64, 3), (64, 64, 3), "mask is 64x64x3: expected height x width"),
    ],
)
def test_shapes_that_are_refused(make, image, mask, message):
    with pytest.raises(InputError, match=message):
        make().inpaint([np.zeros(image, np.uint8)], [np.eye(*mask[:2], dtype=np.uint8)[..., None].repeat(mask[2], 2)])


def test_values_that_are_refused(make):
    image, mask = example(64, 64)
    inpainter = make()
    with pytest.raises(InputError, match="picture 0 is float64: expected uint8, or float32"):
        inpainter.inpaint(image.astype(np.float64), mask)
    with pytest.raises(InputError, match=r"holds values from -?[0-9.]+ to 255: float pictures lie in \[-1, 1\]"):
        inpainter.inpaint(image.astype(np.float32), mask)
    with pytest.raises(InputError, match="picture 0: the mask is a hole from edge to edge"):
        inpainter.inpaint(image, np.ones_like(mask))
    with pytest.raises(InputError, match="the mask after dilation by 64 is a hole from edge to edge"):
        inpainter.inpaint(image, mask, mask_dilate=64)
    with pytest.raises(InputError, match="picture 0: mask is not binary: values from 3 to 255"):
        inpainter.inpaint(image, np.where(mask, 255, 3).astype(np.uint8))
    with pytest.raises(InputError, match="2 masks for 1 pictures"):
        inpainter.inpaint(image, [mask, mask])
    with pytest.raises(InputError, match="images are 64x64: expected b h w 3"):
        inpainter.inpaint(image[..., 0], mask)
    with pytest.raises(InputError, match="mask is 64x64x3: expected height x width"):
        inpainter.inpaint(image, mask.repeat(3, -1))
    with pytest.raises(InputError, match=r"6.2% of them neither 0 nor 1"):
        inpainter.inpaint(image, np.where(np.arange(64) < 4, 128, 0) * np.ones((64, 1), int))
    with pytest.raises(InputError, match="images is a str: expected an array"):
        inpainter.inpaint("photo.png", mask)
    with pytest.raises(InputError, match="masks is a PosixPath: expected an array"):
        inpainter.inpaint(image, pathlib.PosixPath("mask.png"))
    with pytest.raises(InputError, match="2 positions for 1 pictures"):
        inpainter.inpaint(image, mask, positions=[0, 1])
    with pytest.raises(InputError, match="mask_dilate is -1"):
        inpainter.inpaint(image, mask, mask_dilate=-1)
    with pytest.raises(InputError, match="batch_size is 0"):
        inpainter.inpaint(image, mask, batch_size=0)
    with pytest.raises(InputError, match="max_pixels is 100"):
        inpainter.inpaint(image, mask, max_pixels=100)


def test_no_pictures(make):
    assert make().inpaint([], []) == []
    assert make().inpaint(np.zeros((0, 64, 64, 3), np.uint8), np.ones((64, 64))).shape == (0, 64, 64, 3)


def test_weights_of_another_width_are_refused():
    page = SYSTEMS["deepfillv2"]
    image, mask = example(64, 64)
    batch = {"image": image[None] / np.float32(255), "mask": mask[None].astype(np.float32)}
    shapes = jax.eval_shape(page.build(page.tiny).init, jax.random.key(0), batch).weights
    weights = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    wider = dataclasses.replace(page.tiny, width=page.tiny.width * 2)
    with pytest.raises(InputError, match=r"the weights do not fit deepfillv2 with .*another configuration"):
        Inpainter("deepfillv2", wider, weights, devices=1).inpaint(image, mask)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"system": "blurr", "model": {}}, "names the system 'blurr'"),
        ({"system": "blur", "model": {"radio": 4}}, "no field 'radio'"),
        ({}, "names the system None"),
    ],
)
def test_a_checkpoint_of_another_system_or_version(make, tmp_path, config, message):
    make()
    save_weights(tmp_path / "weights", {"params": {"net": {"shift": np.float32(0)}}}, config)
    with pytest.raises(InputError, match=f"is a checkpoint of another system or version of jaxpaint: .*{message}"):
        Inpainter.load(tmp_path / "weights")


def test_a_checkpoint_without_a_newer_field(make, tmp_path):
    make()
    weights = {"params": {"net": {"shift": np.float32(0)}}}
    save_weights(tmp_path / "weights", weights, {"system": "blur", "model": {"radius": 2}})
    assert Inpainter.load(tmp_path / "weights").config == BlurConfig(radius=2)


def test_broken_weights_are_named_not_returned(make):
    image, mask = example(64, 64)
    with pytest.raises(InputError, match="position 0 is not finite"):
        make(shift=np.nan).inpaint(image, mask)


def test_unknown_system_and_wrong_config(make):
    with pytest.raises(InputError, match=r"there is no system .blurr.: there are .*blur"):
        Inpainter("blurr", BlurConfig(), {"params": {}})
    with pytest.raises(InputError, match="blur takes a BlurConfig or a dict"):
        Inpainter("blur", 3, {"params": {}})
    assert Inpainter("blur", {"radius": 2}, {"params": {}}).config == BlurConfig(radius=2)


def test_memory_is_planned_before_the_first_run(make, monkeypatch, caplog):
    image, mask = example(64, 64)
    inpainter = make()
    with caplog.at_level(logging.INFO, "jaxpaint"):
        inpainter.inpaint(image, mask)
    assert "compiled 1 x 64x64 uint8" in caplog.text
    monkeypatch.setattr("jaxpaint.run.fill.device_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"a batch of 1 x 128x64 uint8 needs .* GiB .* --max-pixels"):
        inpainter.inpaint(*example(100, 64))


def test_max_pixels_bounds_a_batch(make, caplog):
    image, mask = example(128, 128)
    with caplog.at_level(logging.INFO, "jaxpaint"):
        make().inpaint([image] * 8, [mask] * 8, max_pixels=2 * 128 * 128)
    assert "compiled 2 x 128x128" in caplog.text


def test_many_devices_share_a_batch(make, caplog):
    """The same pictures, whatever the number of devices."""
    pairs = [example(40, 40 + n) for n in range(11)]
    images, masks = map(list, zip(*pairs, strict=True))
    devices = len(jax.local_devices())
    with caplog.at_level(logging.INFO, "jaxpaint"):
        results = make(noise=0.5, devices=devices).inpaint(images, masks, batch_size=2)
    assert f"on {devices} device(s)" in caplog.text
    for one, other in zip(results, make(noise=0.5).inpaint(images, masks), strict=True):
        np.testing.assert_array_equal(one, other)


def test_deepfillv2_at_an_odd_size():
    """The real thing, tiny: random weights, through the whole path."""
    page = SYSTEMS["deepfillv2"]
    system = page.build(page.tiny)
    image, mask = example(45, 61)
    batch = {"image": jnp.zeros((1, 64, 64, 3)), "mask": jnp.zeros((1, 64, 64, 1))}
    shapes = jax.eval_shape(system.init, jax.random.key(0), batch).weights
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(x.dtype), shapes)
    result = Inpainter("deepfillv2", page.tiny, weights).inpaint(image, mask)
    np.testing.assert_array_equal(result[mask[..., 0] == 0], image[mask[..., 0] == 0])
