"""Weights without a run: restoring from any of the three paths, saving, and starting a run from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.io import checkpoint_folder
from jaxpaint.io.checkpoint import Checkpoints
from jaxpaint.io.checkpoint_folder import CheckpointError
from jaxpaint.io.warm_start import warm_start
from jaxpaint.io.weights import restore_weights, save_weights
from jaxpaint.train.state import Weights
from jaxpaint.types import InputError

CONFIG = {"system": "toy", "width": 4}


def toy_weights(value: float = 1.0) -> dict:
    def network(dtype, sign):
        return {"conv": {"kernel": np.full((3, 4), sign * value, dtype), "bias": np.zeros(4, dtype)}}

    return {
        "params": {"generator": network(np.float32, 1)},
        "extra": {"generator": {"spectral": {"u": np.arange(4, dtype=np.float32)}}},
        "ema": {"generator": network(jnp.bfloat16, -1)},
    }


def same(a, b) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        x.dtype == y.dtype and x.shape == y.shape and np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture
def run(tmp_path):
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        for step in (10, 20):
            train = {"step": jnp.int32(step), "rng": jax.random.key(0)}
            weights = jax.tree.map(jnp.asarray, toy_weights(step))
            checkpoints.save(step, {"weights": weights, "train": train}, CONFIG)
    return tmp_path / "run"


def spoil(step):
    files = [p for p in (step / "weights").rglob("d/*") if p.is_file()]
    for path in files:
        path.write_bytes(path.read_bytes()[:-20])


def test_three_ways_to_name_a_checkpoint(run):
    for path in (run, run / "checkpoints", run / "checkpoints" / "20", str(run)):
        loaded = restore_weights(path)
        assert (loaded.step, loaded.config, loaded.skipped) == (20, CONFIG, [])
        assert same(loaded.weights, toy_weights(20))
        assert all(type(x) is np.ndarray for x in jax.tree.leaves(loaded.weights))
    assert same(restore_weights(run, 10).weights, toy_weights(10))
    assert restore_weights(run, 10).fingerprint != restore_weights(run).fingerprint


def test_paths_that_are_no_checkpoint(run, tmp_path):
    (tmp_path / "weights.pth").write_text("x")
    (tmp_path / "photos").mkdir()
    for path, step, says in (
        (tmp_path / "nowhere", None, "does not exist"),
        (tmp_path / "weights.pth", None, "is a file.*jaxpaint convert"),
        (tmp_path / "photos", None, "holds no checkpoint"),
        (run, 15, "no step 15: it has 10, 20"),
        (run / "checkpoints" / "10", 20, "step 10, not of step 20"),
    ):
        with pytest.raises(InputError, match=says):
            restore_weights(path, step)


def test_goes_back_over_broken_weights(run, caplog):
    spoil(run / "checkpoints" / "20")
    loaded = restore_weights(run)
    assert (loaded.step, [s.step for s in loaded.skipped]) == (10, [20])
    assert "is broken" in caplog.text
    for path, step in ((run, 20), (run / "checkpoints" / "20", None)):
        with pytest.raises(InputError, match="20 is broken: weights: "):
            restore_weights(path, step)
    spoil(run / "checkpoints" / "10")
    with pytest.raises(InputError, match=r"every checkpoint in .*\n  20: weights: .*\n  10: weights: "):
        restore_weights(run)


def test_a_flipped_bit_is_named(tmp_path):
    random = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    save_weights(tmp_path / "w", {"params": {"net": {"kernel": random}}}, CONFIG)
    path = max((p for p in (tmp_path / "w").rglob("d/*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="differ from what was saved: weights/params/net/kernel"):
        restore_weights(tmp_path / "w")


def test_saved_weights(tmp_path):
    name = save_weights(tmp_path / "sub" / "w", toy_weights(), CONFIG)
    loaded = restore_weights(tmp_path / "sub" / "w")
    assert same(loaded.weights, toy_weights())
    assert (loaded.step, loaded.config, loaded.fingerprint) == (0, CONFIG, name)
    on_device = jax.tree.map(jnp.asarray, toy_weights())
    (tmp_path / "again").mkdir()  # an empty folder is no obstacle
    assert save_weights(tmp_path / "again", on_device, CONFIG) == name
    save_weights(tmp_path / "bare", {"params": toy_weights()["params"]}, {})
    expected = {"params": toy_weights()["params"], "extra": {}, "ema": {}}
    assert same(restore_weights(tmp_path / "bare").weights, expected)


def test_weights_overwrite_nothing(tmp_path):
    save_weights(tmp_path / "w", toy_weights(), CONFIG)
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "w", tmp_path / "file", tmp_path):
        with pytest.raises(InputError, match="exists and is not empty"):
            save_weights(path, toy_weights(2), CONFIG)
    assert same(restore_weights(tmp_path / "w").weights, toy_weights())
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(InputError, match="expected params"):
        save_weights(tmp_path / "x", {"generator": {}}, CONFIG)


def test_half_written_weights_vanish(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_folder, "free_bytes", lambda folder: 3)
    with pytest.raises(CheckpointError, match="no room"):
        save_weights(tmp_path / "w", toy_weights(), CONFIG)
    assert not list(tmp_path.iterdir())
    (tmp_path / f"w{checkpoint_folder.TEMPORARY}").mkdir()  # of a converter that was killed
    monkeypatch.undo()
    save_weights(tmp_path / "w", toy_weights(), CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("small_disk", [1], indirect=True)
def test_full_disk_while_saving_weights(small_disk, monkeypatch):
    monkeypatch.setattr(checkpoint_folder, "check_space", lambda folder, items: None)
    random = np.random.default_rng(0).standard_normal((2, 2**18)).astype(np.float32)
    with pytest.raises(CheckpointError, match=r"No space left|RESOURCE_EXHAUSTED"):
        save_weights(small_disk / "w", {"params": {"x": random}}, CONFIG)
    assert not list(small_disk.iterdir())


def template() -> Weights:
    """Freshly initialised: another bias, a new layer, one key, and no spectral state."""
    params = {
        "generator": {
            "conv": {"kernel": jnp.zeros((3, 4), jnp.bfloat16), "bias": jnp.full(8, 7.0)},
            "head": {"kernel": jnp.full((4, 3), 5.0)},
        }
    }
    return Weights(params=params, ema={"generator": {"conv": {"kernel": jnp.zeros((3, 4))}}})


def test_warm_start_takes_what_fits():
    start = template()
    filled, report = warm_start(start, toy_weights(2.0))
    assert report.matched == ["params/generator/conv/kernel", "ema/generator/conv/kernel"]
    assert report.missing == ["params/generator/head/kernel"]
    assert report.unexpected == ["ema/generator/conv/bias", "extra/generator/spectral/u"]
    assert [tuple(m) for m in report.misshaped] == [("params/generator/conv/bias", "float32[4]", "float32[8]")]
    assert jax.tree.structure(filled) == jax.tree.structure(start)
    assert jax.tree.map(lambda x: x.dtype, filled) == jax.tree.map(lambda x: x.dtype, start)
    net = filled.params["generator"]
    np.testing.assert_array_equal(net["conv"]["kernel"], np.full((3, 4), 2.0))
    np.testing.assert_array_equal(net["conv"]["bias"], np.full(8, 7.0))
    np.testing.assert_array_equal(net["head"]["kernel"], np.full((4, 3), 5.0))
    np.testing.assert_array_equal(filled.ema["generator"]["conv"]["kernel"], np.full((3, 4), -2.0))
    text = str(report)
    assert "2 of 4 arrays taken" in text
    assert "params/generator/conv/bias is float32[4] in the checkpoint, float32[8] here" in text
    assert "params/generator/head/kernel" in text and "extra/generator/spectral/u" in text


def test_warm_start_is_a_copy():
    loaded = {"params": {"x": np.ones(1024, np.float32)}}
    filled, report = warm_start({"params": {"x": jnp.zeros(1024)}}, loaded, strict=True)
    assert report.complete
    jax.block_until_ready(jax.jit(lambda t: jax.tree.map(lambda x: x * 0 - 1, t), donate_argnums=0)(filled))
    np.testing.assert_array_equal(loaded["params"]["x"], np.ones(1024))


def test_strict_warm_start_lists_everything():
    with pytest.raises(InputError) as caught:
        warm_start(template(), toy_weights(), strict=True)
    for name in ("generator/head/kernel", "generator/conv/bias is float32[4]", "extra/generator/spectral/u"):
        assert name in str(caught.value)


def test_warm_start_from_another_system():
    with pytest.raises(InputError, match="no array of the checkpoint fits"):
        warm_start(template(), {"params": {"flow": {"kernel": np.ones((3, 4), np.float32)}}})
    whole = {"params": {"x": jnp.zeros(3, jnp.int32), "y": jnp.zeros(2)}}
    _, report = warm_start(whole, {"params": {"x": np.zeros(3, np.float32), "y": np.ones(2, np.float32)}})
    assert [m.name for m in report.misshaped] == ["params/x"], "numbers do not turn into integers"
