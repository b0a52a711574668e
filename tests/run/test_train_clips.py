"""The trainer on clips: a small system of clips through everything that a run does, and what is refused."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image
from run_log import by_step

from jaxpaint.data import ArrayClips, stream
from jaxpaint.ops.masks import Masks, paste
from jaxpaint.parallel.compile import compile_step
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh
from jaxpaint.run.bench import bench
from jaxpaint.run.config import load, replace
from jaxpaint.run.loop import train
from jaxpaint.run.sheet import GAP, HEADER, HOLE, sample_sheet
from jaxpaint.run.step import MASKS, ready, training_step
from jaxpaint.systems import SYSTEMS
from jaxpaint.types import InputError

CONFIG = pathlib.Path(__file__).parent / "toy_video_config.py"
EVERYTHING = {
    "train.steps": "6",
    "train.log_every": "1",
    "train.sample_every": "3",
    "train.checkpoint_every": "3",
    "validation.every": "3",
    "validation.count": "3",
}


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "toy_video", None)  # taken away again at the end

    def make(**flags):
        flags = {name.replace("__", "."): value for name, value in flags.items()}
        return load(str(CONFIG), {**EVERYTHING, **flags})

    return make


def test_a_resumed_run_goes_on_as_an_unbroken_one(experiment, tmp_path):
    lines = []
    train(experiment(), tmp_path / "one", say=lines.append)
    train(experiment(train__steps="3"), tmp_path / "two", say=lines.append)
    train(experiment(), tmp_path / "two", say=lines.append)
    one, two = by_step(tmp_path / "one"), by_step(tmp_path / "two")
    assert sorted(one) == list(range(1, 7)) and one == two
    assert one[6]["net/l1"] < one[1]["net/l1"]
    assert one[6]["validation/psnr_hole"] > 0 and one[6]["validation/l1_hole"] != one[3]["validation/l1_hole"]
    text = "\n".join(lines)
    assert "data: demo clips train, 64 clips; steps 3 to 6" in text and "clips/s" in text and "img/s" not in text
    assert "compiled in the middle" not in text
    with Image.open(tmp_path / "two/samples/00000006.png") as sheet:
        assert sheet.width > 3 * 3 * 48 * 5  # three frames of each clip in three stages, magnified


LAYOUTS = {
    "data=4,spatial=2": Layout(data=4, spatial=2),
    "data=2,fsdp=2,spatial=2": Layout(data=2, fsdp=2, spatial=2),
    "pmap": Layout(data=4, mode="pmap"),
}


def test_every_layout_takes_the_same_steps(experiment):
    """The parts of a clip lie on their devices: its example over `data` and `fsdp`, its rows over `spatial`. Sums are
    taken in another order: float32 rounding, which two steps hardly amplify."""
    one = experiment()
    system = SYSTEMS["toy_video"].build(one.model, one.optim)
    init, step = training_step(system, one.masks)
    batches = stream(one.data, batch=4, seed=0)
    first, second = next(batches), next(batches)
    batches.close()
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in first.items()}
    losses = {}
    for name, layout in {"one": Layout(data=1), **LAYOUTS}.items():
        program = compile_step(init, step, shapes, make_mesh(layout), layout.mode)
        placed = program.place(first)
        if name == "data=4,spatial=2":
            assert {shard.data.shape for shard in placed["image"].addressable_shards} == {(1, 4, 16, 48, 3)}
        state, metrics = program.step(program.begin(jax.random.key(0)), placed)
        _, again = program.step(state, program.place(second))
        losses[name] = [float(found["net/l1"]) for found in (metrics, again)]
    for name in LAYOUTS:
        np.testing.assert_allclose(losses[name], losses["one"], rtol=1e-5, err_msg=name)


def test_objects_of_other_clips_are_set_in_motion(experiment):
    """By the clip's position alone; drawn masks move, and masks of the clip's own frames are taken as they are."""
    rng = np.random.default_rng(0)
    masks = np.zeros((5, 4, 32, 48, 1), np.uint8)
    masks[:, :, 10:14, 20:26] = 1
    arrays = {"clips": rng.integers(0, 256, (5, 4, 32, 48, 3), np.uint8), "masks": masks}
    data, key = experiment(data__mask_pairing="seed").data, jax.random.key(3)
    batches = stream(data, batch=6, seed=0, source=ArrayClips(arrays))
    batch = next(batches)
    batches.close()
    made = jax.jit(lambda batch: ready(batch, Masks("box"), key))(batch)
    assert set(made) == {"image", "mask", "position"} and made["mask"].shape == (6, 4, 32, 48, 1)
    moved = np.asarray(made["mask"])
    assert (moved.sum((2, 3, 4)) == 24).all() and (moved[:, 0] != moved[:, 3]).any()
    root = jax.random.fold_in(key, MASKS)
    for number, position in enumerate(batch["position"]):
        alone = paste(jax.random.fold_in(root, position), batch["objects"][number])
        np.testing.assert_array_equal(moved[number], alone)
    own = {"image": batch["image"], "mask": batch["objects"], "position": batch["position"]}
    np.testing.assert_array_equal(ready(own, Masks("box"), key)["mask"], batch["objects"])


def test_a_sheet_shows_the_first_the_middle_and_the_last_frame():
    rng = np.random.default_rng(0)
    images, filled = (rng.integers(0, 256, (2, 6, 40, 64, 3), np.uint8) for _ in range(2))
    masks = (rng.random((2, 6, 40, 64, 1)) < 0.3).astype(np.uint8)
    got = sample_sheet(images, masks, filled, side=64)
    for row in range(2):
        top = GAP + HEADER + row * (40 + GAP)
        stages = [(np.where(masks[row] > 0, HOLE, images[row]), filled[row], images[row])[n % 3] for n in range(9)]
        for column, (stage, frame) in enumerate(zip(stages, np.repeat((0, 2, 5), 3), strict=True)):
            left = GAP + column * (64 + GAP)
            np.testing.assert_array_equal(got[top : top + 40, left : left + 64], stage[frame])


def test_the_benchmark_counts_clips(experiment):
    lines = []
    report = bench(experiment(), steps=2, repeats=2, warmup=1, memory=True, inpaint=True, say=lines.append)
    training = report["training"]
    assert training["clips_per_second"] == pytest.approx(4 * training["updates_per_second"])
    assert training["frames_per_second"] == pytest.approx(16 * training["updates_per_second"])
    assert report["about"]["frames"] == 4 and report["inpainting"]["frames_per_second"] > 0
    text = "\n".join(lines)
    assert "toy_video, 4 clips of 4 frames of 32x48 an update" in text and "clips/s a device" in text
    assert "frames/s, " in text and "ms a frame" in text and "img/s" not in text


def test_clips_are_for_systems_of_clips(experiment, tmp_path):
    with pytest.raises(InputError, match=r"toy_video learns from clips, and data.frames is 0, .* set it to the frames"):
        train(experiment(data__frames="0"), tmp_path)
    pictures = dataclasses.replace(experiment(), system="deepfillv2", model=SYSTEMS["deepfillv2"].tiny)
    with pytest.raises(InputError, match=r"deepfillv2 learns from pictures, and data.frames is 4, which means clips"):
        train(pictures, tmp_path)
    with pytest.raises(InputError, match="deepfillv2 learns from pictures"):
        bench(pictures, memory=True)
    still = replace(experiment(), "masks.family", "deepfillv2")
    with pytest.raises(
        InputError, match=r"no mask family 'deepfillv2' for clips: set masks.family to one of box, free"
    ):
        train(still, tmp_path)
    with pytest.raises(InputError, match="no mask set 'box' for clips; there are still-box"):
        train(experiment(validation__mask_set="box"), tmp_path)
