"""Checkpoints of a run: what comes back, what is kept, and everything that can be wrong with a folder."""

import errno
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpaint.io import checkpoint_folder
from jaxpaint.io.checkpoint import Checkpoints
from jaxpaint.io.checkpoint_folder import CheckpointError
from jaxpaint.io.weights import restore_weights
from jaxpaint.train.state import State
from jaxpaint.types import InputError

CONFIG = {"system": "toy", "optim": {"lr": 1e-4, "betas": [0.5, 0.9], "clip": None, "flag": True}, "empty": {}}


def toy_state(step: int, width: int = 64) -> State:
    """Two networks, optimiser states with empty records inside, bfloat16 and booleans, a typed key."""
    random = np.random.default_rng(step)
    kernel = jnp.asarray(random.standard_normal((3, 3, 4, width)), jnp.float32)
    params = {
        "generator": {"conv": {"kernel": kernel, "bias": jnp.zeros(width)}},
        "judge": {"kernel": jnp.full((4, 8), step, jnp.bfloat16)},
    }
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.constant_schedule(1e-3)))
    return State(
        step=jnp.int32(step),
        params=params,
        extra={"judge": {"spectral": {"u": jnp.arange(8.0), "ready": jnp.array([True, False])}}},
        opt={"generator": tx.init(params["generator"])},
        ema={},
        rng=jax.random.key(7),
    )


def abstract(state: State) -> dict:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state.items())


def bits(tree) -> list[bytes]:
    def one(x):
        return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x).tobytes()

    return [one(x) for x in jax.tree.leaves(tree)]


def saved(directory: Path, steps, **options) -> None:
    with Checkpoints(directory, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, toy_state(step).items(), CONFIG)


def folders_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def data_file(step: Path, item: str) -> Path:
    """The largest file with array data of an item."""
    return max((p for p in (step / item).rglob("d/*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory):
    """A directory with steps 1, 2 and 3, to be copied before it is damaged."""
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    saved(directory, [1, 2, 3])
    return directory


@pytest.fixture
def run(three_steps, tmp_path):
    return Path(shutil.copytree(three_steps, tmp_path / "checkpoints"))


def test_round_trip(run):
    state = toy_state(3)
    with Checkpoints(run) as checkpoints:
        assert checkpoints.latest() == 3
        restored = checkpoints.restore(abstract(state))
    assert (restored.step, restored.config, restored.skipped) == (3, CONFIG, [])
    back = State.from_items(restored.items)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert bits(back) == bits(state)
    assert jax.random.bits(back.rng) == jax.random.bits(state.rng)


def test_relative_path_and_config(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    (run / "9").mkdir()
    with Checkpoints("checkpoints") as checkpoints:
        assert checkpoints.latest() == 9
        assert checkpoints.config() == CONFIG
        assert checkpoints.restore(abstract(toy_state(3))).step == 3
        checkpoints.save(10, toy_state(10).items(), CONFIG)
    assert restore_weights("checkpoints").step == 10


def test_no_checkpoint_yet(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest() is None and checkpoints.config() is None
        assert checkpoints.restore(abstract(toy_state(0))) is None


def test_state_may_be_donated_at_once(tmp_path):
    state = jax.jit(lambda: {"x": jnp.arange(2**20, dtype=jnp.float32)})()
    destroy = jax.jit(lambda s: {"x": s["x"] * 0 - 1}, donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"weights": {"params": state}}, {})
        jax.block_until_ready(destroy(state))
    np.testing.assert_array_equal(restore_weights(tmp_path).weights["params"]["x"], np.arange(2**20, dtype=np.float32))


def test_a_save_in_progress_is_waited_for(tmp_path):
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        for step in range(1, 6):
            assert checkpoints.save(step, toy_state(step).items(), CONFIG)
        assert not checkpoints.save(5, toy_state(5).items(), CONFIG), "saved already"
        with pytest.raises(InputError, match="holds step 5 already"):
            checkpoints.save(4, toy_state(4).items(), CONFIG)
    assert folders_in(tmp_path) == {"1", "2", "3", "4", "5"}


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"keep": 2}, {"5", "6"}),
        ({"keep": 2, "best": "psnr", "keep_best": 1}, {"4", "5", "6"}),  # 4 ties with 2 and is newer
        ({"keep": 1, "best": "psnr", "keep_best": 2}, {"2", "4", "6"}),
        ({"keep": 1, "best": "psnr", "mode": "min"}, {"1", "6"}),
    ],
)
def test_what_is_kept(tmp_path, options, left):
    psnr = {1: 20.0, 2: 30.0, 3: float("nan"), 4: 30.0, 5: None, 6: 25.0}
    items = {"weights": {"params": {"x": jnp.ones(4)}}}
    for part in ((1, 2, 3), (4, 5, 6)):  # the rule survives a restart
        with Checkpoints(tmp_path, **options) as checkpoints:
            for step in part:
                checkpoints.save(step, items, {}, metrics=None if psnr[step] is None else {"psnr": psnr[step]})
    assert folders_in(tmp_path) == left


def test_an_old_step_that_somebody_deleted_is_no_error(tmp_path, caplog):
    items = {"weights": {"params": {"x": jnp.ones(4)}}}
    with caplog.at_level(logging.WARNING, "jaxpaint"), Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(1, items, {})
        checkpoints.save(2, items, {}, wait=True)
        shutil.rmtree(tmp_path / "1")
        checkpoints.save(3, items, {})
    assert folders_in(tmp_path) == {"2", "3"}
    assert "has been deleted by somebody else" in caplog.text


def test_best_metric_must_be_there(tmp_path):
    with Checkpoints(tmp_path, best="psnr") as checkpoints, pytest.raises(InputError, match=r"'psnr'.*'ssim'"):
        checkpoints.save(1, {"weights": {"params": {"x": jnp.ones(4)}}}, {}, metrics={"ssim": 1.0})


def flip_weights(step):
    flip_bit(data_file(step, "weights"))


def flip_train(step):
    # Optimiser states of a fresh run are zeros and compress to nothing: any file may hold them.
    for path in (p for p in (step / "train").rglob("d/*") if p.is_file()):
        flip_bit(path)


def truncate(step):
    os.truncate(data_file(step, "weights"), 1000)


def remove_data(step):
    data_file(step, "weights").unlink()


def remove_metadata(step):
    (step / "_CHECKPOINT_METADATA").unlink()


def spoil_record(step):
    path = step / "record" / "data.json"
    path.write_text(path.read_text()[:-40])


def edit_record(step):
    path = step / "record" / "data.json"
    path.write_text(path.read_text().replace("judge", "jadge"))


def remove_item(step):
    shutil.rmtree(step / "train")


def remove_index(step):
    (step / "weights" / "_METADATA").unlink()


def empty(step):
    shutil.rmtree(step)
    step.mkdir()


def strip_record(step):
    path = step / "record" / "data.json"
    path.write_text(json.dumps({"step": 3}))


def edit_config(step):
    path = step / "config" / "data.json"
    path.write_text(path.read_text().replace("toy", "tox"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip_weights, "weights/params/generator/conv/kernel"),
        (flip_train, "^train: .*DATA_LOSS"),
        (truncate, r"^weights: .*OUT_OF_RANGE.*params\.generator\.conv\.kernel"),
        (remove_data, r"^weights: .*DATA_LOSS.*params\.generator\.conv\.kernel"),
        (remove_metadata, "^the folder is incomplete: _CHECKPOINT_METADATA"),
        (spoil_record, "^record: JSONDecodeError"),
        (edit_record, "^record: it differs"),
        (strip_record, "^record: it differs"),
        (remove_item, "^train: .*not found in the checkpoint"),
        (remove_index, "^weights: .*_METADATA"),
        (empty, "the folder is empty"),
        (edit_config, "the config differs"),
    ],
)
def test_goes_back_over_a_broken_step(run, caplog, damage, says):
    damage(run / "3")
    state = toy_state(2)
    with caplog.at_level(logging.WARNING, "jaxpaint"), Checkpoints(run) as checkpoints:
        restored = checkpoints.restore(abstract(state))
        assert restored.step == 2
        assert bits(State.from_items(restored.items)) == bits(state)
        assert [s.step for s in restored.skipped] == [3]
        assert re.search(says, restored.skipped[0].reason), restored.skipped[0].reason
        assert any(
            "is broken" in r.getMessage() and restored.skipped[0].reason in r.getMessage() for r in caplog.records
        )
        assert folders_in(run) == {"1", "2", "3"}, "restoring changes nothing"
        checkpoints.save(3, toy_state(3).items(), CONFIG, wait=True)  # the run passes the broken step again
        assert folders_in(run) == {"1", "2", "3", "3.broken"}
        assert checkpoints.restore(abstract(state)).step == 3


def test_broken_steps_do_not_push_out_good_ones(run):
    for step in (8, 9, 10):
        (run / str(step)).mkdir()
    with Checkpoints(run, keep=2) as checkpoints:
        assert checkpoints.restore(abstract(toy_state(3))).step == 3
        checkpoints.save(4, toy_state(4).items(), CONFIG)
    assert folders_in(run) == {"3", "4", "8.broken", "9.broken", "10.broken"}


def test_all_broken_is_an_error(run):
    for step in (1, 2, 3):
        flip_weights(run / str(step))
    with Checkpoints(run) as checkpoints, pytest.raises(InputError, match="every checkpoint") as caught:
        checkpoints.restore(abstract(toy_state(3)))
    assert re.search(r"\n  3: .*conv/kernel\n  2: .*conv/kernel\n  1: .*conv/kernel\n", str(caught.value))


def test_other_leaves_are_an_error_not_a_broken_step(run):
    other = toy_state(3, width=32)
    other = other.replace(params={**other.params, "flow": {"kernel": jnp.ones((2, 2))}}, extra={})
    with Checkpoints(run) as checkpoints, pytest.raises(InputError) as caught:
        checkpoints.restore(abstract(other))
    message = str(caught.value)
    assert (
        "mis-shaped: weights/params/generator/conv/kernel is float32[3,3,4,64] in the checkpoint, float32[3,3,4,32]"
        in message
    )
    assert "missing from the checkpoint: weights/params/flow/kernel float32[2,2]" in message
    assert "only in the checkpoint: weights/extra/judge/spectral/u float32[8]" in message
    assert "train/opt/generator/1/0/mu/conv/bias" in message
    assert "--init-from" in message


def test_unknown_user_is_explained(run, monkeypatch):
    def record(path, abstract):
        raise ValueError("wrapped") from KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(checkpoint_folder.ocp, "load_checkpointables", record)
    with pytest.raises(CheckpointError, match="no entry in /etc/passwd"):
        Checkpoints(run)


def test_directory_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        Checkpoints(tmp_path / "file")


def test_config_comes_back_as_json(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"weights": {"params": {"x": jnp.ones(4)}}}, {"sizes": (1, 2), "by": {9: "a", 10: "b"}})
        assert checkpoints.config() == {"sizes": [1, 2], "by": {"9": "a", "10": "b"}}


def test_config_must_be_json(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError, match="JSON"):
        checkpoints.save(1, {"weights": {"params": {"x": jnp.ones(4)}}}, {"f": print})


def big_items(mebibytes: int) -> dict:
    random = np.random.default_rng(0)
    return {"weights": {"params": {"x": jnp.asarray(random.standard_normal((mebibytes, 2**18)), jnp.float32)}}}


def test_full_disk_is_seen_before_saving(run, monkeypatch):
    monkeypatch.setattr(checkpoint_folder, "free_bytes", lambda folder: 1000)
    with Checkpoints(run) as checkpoints, pytest.raises(CheckpointError, match=r"needs 3\.00 MiB, 0\.00 MiB are free"):
        checkpoints.save(4, big_items(3), CONFIG)
    assert folders_in(run) == {"1", "2", "3"}


@pytest.mark.parametrize("small_disk", [6], indirect=True)
def test_full_disk_while_saving(small_disk, monkeypatch):
    """A real, small file system; the look before the save is switched off, as if another process filled it."""
    saved(small_disk, [1])
    with Checkpoints(small_disk) as checkpoints:
        with pytest.raises(CheckpointError, match=r"needs 16\.00 MiB, \d\.\d\d MiB are free"):
            checkpoints.save(2, big_items(16), CONFIG)
        monkeypatch.setattr(checkpoint_folder, "check_space", lambda folder, items: None)
        checkpoints.save(2, big_items(16), CONFIG)
        with pytest.raises(CheckpointError, match=r"step 2 was not saved.*checkpoint of step 1 is untouched") as caught:
            checkpoints.wait()
        assert re.search(r"RESOURCE_EXHAUSTED|No space left", str(caught.value)), caught.value
        assert folders_in(small_disk) == {"1"}, "the torn save gives its space back"
        assert checkpoints.restore(abstract(toy_state(1))).step == 1
        checkpoints.save(3, toy_state(3).items(), CONFIG)  # and the run can go on
    assert folders_in(small_disk) == {"1", "3"}


CHILD = """
import os, resource, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxpaint.io.checkpoint import Checkpoints, CheckpointError

job, directory = sys.argv[1:]
def tree(rows):
    x = np.random.default_rng(0).standard_normal((rows, 2**18)).astype(np.float32)
    return {"weights": {"params": {"x": jnp.asarray(x), "y": jnp.arange(16.0)}}, "train": {"step": jnp.int32(5)}}

if job == "limit":  # no file above 64 KiB: the system refuses while the save runs
    checkpoints = Checkpoints(directory)
    checkpoints.save(1, {"weights": {"params": {"y": jnp.arange(16.0)}}}, {}, wait=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
    checkpoints.save(2, tree(4), {})
    try:
        checkpoints.save(3, tree(4), {})
    except CheckpointError as error:
        print("SEEN", error)
    checkpoints.close()
if job == "kill":
    assert jax.device_count() == 8
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    place = lambda x: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*["data"][: x.ndim])))
    checkpoints = Checkpoints(directory)
    checkpoints.save(1, jax.tree.map(place, tree(8)), {"devices": 8}, wait=True)
    big = jax.block_until_ready(jax.tree.map(place, tree(64)))
    checkpoints.save(2, big, {"devices": 8})
    checkpoints.close()
    print("NOT KILLED")
"""


def child(job: str, directory: Path) -> subprocess.Popen:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, job, str(directory)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_refused_write_surfaces_at_the_next_save(tmp_path):
    process = child("limit", tmp_path)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert re.search(r"SEEN the checkpoint of step 2 was not saved.*checkpoint of step 1 is untouched", out), (
        out + errors
    )
    assert os.strerror(errno.EFBIG) in out or "RESOURCE_EXHAUSTED" in out, out
    assert folders_in(tmp_path) == {"1"}
    assert restore_weights(tmp_path).step == 1


def test_killed_while_saving_and_other_devices(tmp_path):
    """Saved by 8 devices, killed during the next save, restored by one device."""
    process = child("kill", tmp_path)
    deadline = time.monotonic() + 120
    while not any(checkpoint_folder.TEMPORARY in name and name.startswith("2") for name in folders_in(tmp_path)):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert "NOT KILLED" not in out
    left = folders_in(tmp_path)
    assert "2" not in left and len(left) == 2, left

    expected = np.random.default_rng(0).standard_normal((8, 2**18)).astype(np.float32)
    loaded = restore_weights(tmp_path)
    assert (loaded.step, loaded.config) == (1, {"devices": 8})
    np.testing.assert_array_equal(loaded.weights["params"]["x"], expected)
    assert folders_in(tmp_path) == left, "readers clean nothing up"
    shapes = {
        "weights": {
            "params": {
                "x": jax.ShapeDtypeStruct((8, 2**18), jnp.float32),
                "y": jax.ShapeDtypeStruct((16,), jnp.float32),
            }
        },
        "train": {"step": jax.ShapeDtypeStruct((), jnp.int32)},
    }
    with Checkpoints(tmp_path) as checkpoints:
        assert folders_in(tmp_path) == {"1"}, "leftovers are removed at start"
        restored = checkpoints.restore(shapes)
        np.testing.assert_array_equal(restored.items["weights"]["params"]["x"], expected)
        assert restored.items["train"]["step"] == 5
        checkpoints.save(2, restored.items, {"devices": 1})
    assert folders_in(tmp_path) == {"1", "2"}
