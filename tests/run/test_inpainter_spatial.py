"""One picture over several devices: the same result, and a share of the memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxpaint.ops.pixels import composite
from jaxpaint.run.cli import main
from jaxpaint.run.fill import Filler, paste
from jaxpaint.run.inpainter import Inpainter
from jaxpaint.run.prepare import Job
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Weights
from jaxpaint.types import InputError


def box_blur(weights, batch, rng):
    """Local and global: the mean in a window of 9x9, half a picture's mean, and noise by position."""
    window = (1, 9, 9, 1)
    mean = jax.lax.reduce_window(batch["image"], 0.0, jax.lax.add, window, (1, 1, 1, 1), "SAME") / 81
    keys = jax.vmap(jax.random.fold_in, (None, 0))(rng, batch["position"])
    noise = jax.vmap(lambda key: jax.random.uniform(key, (3,)))(keys)[:, None, None]
    overall = batch["image"].mean((1, 2), keepdims=True)
    return composite(mean + weights.params["net"] * overall + 0.1 * noise, batch["image"], batch["mask"])


def job(height, width, position=0):
    rng = np.random.default_rng([height, width])
    image = rng.uniform(-1, 1, (height // 8 + 1, width // 8 + 1, 3)).astype(np.float32)
    image = np.kron(image, np.ones((8, 8, 1), np.float32))[:height, :width]
    mask = np.zeros((height, width, 1), np.uint8)
    mask[height // 4 : height * 3 // 4, 3 : width // 2] = 1
    return Job(image, mask, position)


def fill(filler, weights, jobs, **how):
    return paste(jobs, filler.fill(filler.place(weights), jobs, jax.random.key(3), **how))


@pytest.mark.parametrize(("devices", "spatial"), [(8, 8), (8, 2), (4, 4)])
def test_rows_over_devices_change_nothing(devices, spatial):
    """Three pictures of odd sizes: with spatial=2 on 8 devices they make a batch over 4 groups, too."""
    jobs = [job(99, 70, 5), job(33, 64, 6), job(99, 71, 7), job(98, 70, 8), job(97, 70, 9)]
    weights = Weights(params={"net": np.float32(0.5)})
    want = fill(Filler(box_blur, devices=1), weights, jobs)
    filler = Filler(box_blur, devices=devices, spatial=spatial)
    got = fill(filler, weights, jobs)
    assert filler.groups == devices // spatial
    assert {key[-1] for key in filler.programs} == {1, devices // spatial}
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, atol=3e-6)  # float32 means of up to 128x128 numbers in another order


def test_memory_falls_with_the_devices_and_the_network_says_the_same():
    """DeepFillv2, narrow: at most 1/5 of the memory of one device on eight.

    The results may differ by what float32 leaves open, which is measured: the answer of one device to a picture that
    is changed by 1e-6, sixteen units in the last place.
    """
    page = SYSTEMS["deepfillv2"]
    system = page.build(page.tiny)
    batch = {"image": jnp.zeros((1, 64, 64, 3)), "mask": jnp.zeros((1, 64, 64, 1))}
    shapes = jax.eval_shape(system.init, jax.random.key(0), batch).weights
    rng = np.random.default_rng(0)

    def draw(x):
        """Kernels that nearly keep the size of a signal: larger ones make the network chaotic."""
        scale = 2 / np.sqrt(np.prod(x.shape[:-1])) if x.ndim > 1 else 0.01
        return rng.normal(0, scale, x.shape).astype(x.dtype)

    weights = jax.tree.map(draw, shapes)
    picture = job(256, 256)
    changed = picture._replace(image=picture.image * np.float32(1 - 1e-6))
    need, results = {}, {}
    for spatial in (1, 8):
        filler = Filler(system.inpaint, devices=spatial, spatial=spatial)
        pictures = [picture, changed] if spatial == 1 else [picture]
        results[spatial] = [fill(filler, weights, [one], batch_size=1)[0] for one in pictures]
        (program,) = filler.programs.values()
        plan = program.memory_analysis()
        need[spatial] = plan.argument_size_in_bytes + plan.temp_size_in_bytes + plan.output_size_in_bytes
    assert need[8] < need[1] / 5
    hole = picture.mask[..., 0] > 0
    (want, other), (got,) = results[1], results[8]
    left_open = np.abs(want - other)[hole].max()
    assert left_open < 1e-3 * want[hole].std()
    assert np.abs(got - want)[hole].max() <= left_open
    np.testing.assert_array_equal(got[~hole], picture.image[~hole])


def test_a_picture_may_have_the_pixels_of_all_its_devices(caplog):
    """max_pixels is of a device: what one would have to cut into tiles, four take whole."""
    page = SYSTEMS["deepfillv2"]
    inpainter = Inpainter("deepfillv2", page.tiny, {"params": {}}, devices=4, spatial=4)
    inpainter.filler = Filler(box_blur, devices=4, spatial=4)
    inpainter._weights = inpainter.filler.place(Weights(params={"net": np.float32(0.5)}))
    picture = job(256, 256)
    inpainter.run([picture], max_pixels=128 * 128)
    assert [key[:2] for key in inpainter.filler.programs] == [(256, 256)]
    inpainter.run([job(384, 256)], max_pixels=128 * 128)
    assert all(height * width <= 256 * 256 for height, width, *_ in inpainter.filler.programs)


@pytest.mark.parametrize(("devices", "spatial"), [(0, 9), (4, 8), (9, 1), (0, 0)])
def test_more_devices_than_there_are(devices, spatial):
    with pytest.raises(InputError, match=f"spatial .* is {spatial}, and this process has 8 .cpu.: expected 1"):
        Filler(box_blur, devices=devices, spatial=spatial)


def test_the_command(tmp_path, monkeypatch):
    """``--spatial 2 --max-pixels N`` takes a picture of 2 N pixels whole."""
    picture = job(192, 168)
    Image.fromarray(np.uint8(picture.image * 127 + 127)).save(tmp_path / "a.png")
    Image.fromarray(picture.mask[..., 0] * 255).save(tmp_path / "mask.png")
    made = []

    def load(path, step=None, *, options=None, **how):
        assert not options
        page = SYSTEMS["deepfillv2"]
        inpainter = Inpainter("deepfillv2", page.tiny, {"params": {}}, **how)
        inpainter.filler = Filler(box_blur, spatial=inpainter.filler.spatial)
        inpainter._weights = inpainter.filler.place(Weights(params={"net": np.float32(0)}))
        made.append(inpainter.filler)
        return inpainter

    monkeypatch.setattr(Inpainter, "load", load)
    files = [tmp_path / "a.png", "--mask", tmp_path / "mask.png", "--out", tmp_path / "out.png", "--checkpoint", "x"]
    assert main(["inpaint", *map(str, files), "--spatial", "2", "--max-pixels", str(128 * 128)]) == 0
    assert made[0].spatial == 2 and made[0].groups == 4
    assert 128 * 128 < 192 * 168 < 2 * 128 * 128
    assert [key[:2] for key in made[0].programs] == [(192, 192)]
    assert (tmp_path / "out.png").exists()
