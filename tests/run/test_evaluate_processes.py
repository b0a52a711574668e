"""Evaluation and validation by two real processes of two devices each: the same bytes as by one process."""

import dataclasses
import functools
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxpaint.io.weights import save_weights
from jaxpaint.metrics.kernel import kid
from jaxpaint.metrics.networks import NETWORK_METRICS, Look, Recipe
from jaxpaint.metrics.separability import p_ids
from jaxpaint.ops.pixels import composite
from jaxpaint.parallel import gather
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh, split
from jaxpaint.run import evaluate, validate
from jaxpaint.run.config import Experiment, Validation
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import State, System
from jaxpaint.types import InputError

ROOT = pathlib.Path(__file__).parents[2]
LIMIT = 240
"""Seconds that a child may take."""

FILES = ("metrics.json", "table.md", "sheet.png", "pictures.csv")

CHILD = """
import json, sys
import jax
from jaxpaint.run import evaluate
from tests.run import test_evaluate_processes as ours

folder, *arguments = sys.argv[1:]
ours.NETWORK_METRICS.update(ours.TINY)
status = evaluate.main([*arguments, "--out", folder + "/two"])
print("STATUS", status, jax.process_count(), jax.local_device_count())
print("FIGURES", json.dumps(ours.validated(folder)))
status = evaluate.main([*ours.clips(), "--out", folder + "/clips_two"])
print("CLIPS", status)
status = evaluate.main([*arguments, "--masks", folder + "/bad", "--out", folder + "/bad_two"])
print("STATUS", status)
"""


def command(folder) -> list[str]:
    shared = ["--data", f"{folder}/pictures", "--size", "64", "--batch", "2", "--checkpoint", f"{folder}/weights"]
    metrics = f"l1,psnr,lpips.alex,{','.join(TINY)}"
    return [*shared, "--masks", f"{folder}/masks", "--metrics", metrics, "--features", "random"]


def clips() -> list[str]:
    """Three demo clips; the second process has two of them."""
    shared = ["--video", "--data", "demo", "--limit", "3", "--frames", "3", "--size", "32x40", "--baseline", "mean"]
    return [*shared, "--mask-set", "moving-box", "--metrics", "psnr,ewarp", "--flow", "tvl1"]


def tiny_extractor():
    """In the place of a network of 24 M parameters: a picture's features are the mean colours of its quarters."""

    def features(pictures):
        quarters = [picture.reshape(2, 32, 2, 32, 3).mean((1, 3)).ravel() / 255 for picture in pictures]
        return np.float32(quarters).reshape(-1, 12)

    return lambda predictions, targets, masks: {"prediction": features(predictions), "target": features(targets)}


LOOK = Look((), tiny_extractor)
TINY = {
    "kid.tiny": Recipe("distance of colours", LOOK, functools.partial(kid, subset_size=None)),
    "p_ids.tiny": Recipe("a plane between colours", LOOK, p_ids),
}
"""Metrics of the whole set: their states are arrays, of 3 and of 2 pictures."""


def validated(folder) -> dict[str, float]:
    """What a `Validator` says of weights of which every device holds a part."""
    experiment = Experiment("shift", None, validation=Validation(1, f"{folder}/pictures", count=5, mask_set="box"))
    experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, size=(64, 64)))

    def inpaint(weights, batch, rng):
        shift = weights.params["net"]["shift"].mean() + 0 * batch["position"][:, None, None, None]
        return composite(batch["image"] + shift, batch["image"], batch["mask"])

    mesh = make_mesh(Layout())
    shift = jax.make_array_from_callback(
        (8,), split(mesh, (8,)), np.linspace(0.1, 0.5, 8, dtype=np.float32).__getitem__
    )
    assert not shift.is_fully_replicated
    state = State(jnp.int32(0), {"net": {"shift": shift}}, {}, {}, {}, jax.random.key(0))
    return validate.Validator(experiment, System(None, None, inpaint, {}))(state)


@pytest.fixture
def folder(tmp_path):
    """Five pictures, their masks, a folder of masks of which the last is bad, and weights of a tiny system."""
    rng = np.random.default_rng(0)
    for part in ("pictures", "masks", "bad"):
        (tmp_path / part).mkdir()
    for number in range(5):
        image = np.kron(rng.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
        mask = np.zeros((64, 64), np.uint8)
        mask[8 + number : 40, 20:50] = 255
        Image.fromarray(image).save(tmp_path / "pictures" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
        Image.fromarray(mask if number < 4 else 0 * mask).save(tmp_path / "bad" / f"{number}.png")
    page = SYSTEMS["deepfillv2"]
    batch = {"image": jnp.zeros((1, 64, 64, 3)), "mask": jnp.zeros((1, 64, 64, 1))}
    shapes = jax.eval_shape(page.build(page.tiny).init, jax.random.key(0), batch).weights
    weights = jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(x.dtype), shapes)
    config = dataclasses.asdict(Experiment("deepfillv2", page.tiny))
    save_weights(tmp_path / "weights", {"params": weights.params, "extra": weights.extra}, config)
    return tmp_path


def start(folder, process: int, port: int) -> subprocess.Popen:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": str(process),
    }
    run = [sys.executable, "-c", CHILD, str(folder), *command(folder)]
    return subprocess.Popen(run, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_write_the_bytes_of_one(folder, monkeypatch):
    for name, recipe in TINY.items():
        monkeypatch.setitem(NETWORK_METRICS, name, recipe)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [start(folder, process, port) for process in range(2)]
    try:
        assert evaluate.main([*command(folder), "--out", str(folder / "one")], say=lambda line: None) == 0
        figures = validated(folder)
        assert evaluate.main([*clips(), "--out", str(folder / "clips_one")], say=lambda line: None) == 0
        ended = [child.communicate(timeout=LIMIT) for child in children]
    finally:
        for child in children:
            child.kill()
    for child, (out, err) in zip(children, ended, strict=True):
        assert child.returncode == 0, err
        assert "STATUS 0 2 2" in out, out + err
        (line,) = [line for line in out.splitlines() if line.startswith("FIGURES ")]
        assert json.loads(line.removeprefix("FIGURES ")) == figures
        assert "CLIPS 0" in out, err
        # The last picture is the second process's: both say so, and neither waits for the other.
        assert "STATUS 2" in out
        assert "4.png has no hole" in err
    assert "psnr" in ended[0][0]
    assert "psnr" not in ended[1][0].replace(json.dumps(figures), "")
    for name in FILES:
        assert (folder / "two" / name).read_bytes() == (folder / "one" / name).read_bytes(), name
    for name in (*FILES[:3], "clips.csv"):
        assert (folder / "clips_two" / name).read_bytes() == (folder / "clips_one" / name).read_bytes(), name
    report = json.loads((folder / "one/metrics.json").read_text())
    assert report["results"]["l1"]["hole"]["n"] == 5 and report["results"]["l1"]["hole"]["value"] > 0.01
    lpips, kernel, plane = (report["results"][name]["whole"] for name in ("lpips.alex[random features]", *TINY))
    assert lpips["n"] == kernel["n"] == plane["n"] == 5
    assert lpips["value"] > 1e-4 and abs(kernel["value"]) > 1e-4 and "N = 5 is not above" in plane["flag"]
    assert not (folder / "bad_two").exists()


# The parts, in one process that plays several


def test_shares_are_contiguous_and_complete(monkeypatch):
    for count, processes in ((5, 2), (7, 3), (2, 4), (0, 2)):
        monkeypatch.setattr(jax, "process_count", lambda n=processes: n)
        shares = []
        for process in range(processes):
            monkeypatch.setattr(jax, "process_index", lambda n=process: n)
            shares.append(gather.share(count))
        assert [number for share in shares for number in share] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_values_come_back_to_the_last_bit():
    value = {
        "sums": [(3**90, 0.1, float("inf"), None, "too small", True), []],
        "pictures": [np.arange(12, dtype=np.uint8).reshape(2, 2, 3), np.array([], np.float64)],
        "number": np.float64(1 / 3),
    }
    (back,) = gather.gather(value)
    assert back["sums"] == [list(value["sums"][0]), []]
    assert back["number"] == 1 / 3
    for got, want in zip(back["pictures"], value["pictures"], strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_what_cannot_be_sent_is_refused():
    with pytest.raises(TypeError, match=r"keys \[3\] .* use strings"):
        gather.gather({3: 4})
    with pytest.raises(TypeError, match="not JSON serializable"):
        gather.gather(object())


def test_a_failure_elsewhere_is_a_failure_here(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(gather, "gather", lambda value: [value, [True, "picture 3 is broken"]])
    with pytest.raises(InputError, match="picture 3 is broken"), gather.together():
        pass
    monkeypatch.setattr(gather, "gather", lambda value: [value, [False, "no memory"]])
    with pytest.raises(gather.PeerError, match="process 1 of 2 failed: no memory"), gather.together():
        pass
    with pytest.raises(KeyError, match="mine"), gather.together():
        raise KeyError("mine")
