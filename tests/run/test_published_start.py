"""A run whose network starts with published weights: what a new run needs, and a resumed one does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxpaint.convert.features import to_variables
from jaxpaint.data.config import Data
from jaxpaint.io import pretrained
from jaxpaint.io.weights import restore_weights
from jaxpaint.nn import Conv
from jaxpaint.ops.masks import Masks
from jaxpaint.ops.pixels import composite
from jaxpaint.parallel.layout import Layout
from jaxpaint.run.config import Experiment, Train
from jaxpaint.run.loop import train
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Network, Optim, Page, Player, System, begin, optimisers, play
from jaxpaint.types import InputError

NOTE = "weights of nobody"


class Features(nn.Module):
    """The beginning of a network that is published; its kernel is large enough to be divided over ``fsdp``."""

    @nn.compact
    def __call__(self, image):
        return nn.relu(Conv(40, name="0")(image)), {}


@dataclasses.dataclass
class Config:
    published: bool = True
    trained: bool = False


def build(config, optim=None, dtype=jnp.float32):
    """The player `net` paints a constant; the features of it and of the truth are compared."""
    features, net = Features(), nn.Dense(3)
    networks = {
        "features": Network(features, lambda b: (b["image"],), published="vgg19" if config.published else None),
        "net": Network(net, lambda b: (b["image"],)),
    }

    def loss(params, state, batch, rng, made):
        del rng, made
        all_ = {**state.params}
        all_["features" if "kernel" not in params else "net"] = params
        seen, wanted = (
            features.apply({"params": all_["features"]}, x)[0]
            for x in (net.apply({"params": all_["net"]}, batch["image"]), batch["image"])
        )
        return jnp.mean((seen - wanted) ** 2), ({}, {})

    def inpaint(weights, batch, rng):
        return composite(jnp.zeros_like(batch["image"]), batch["image"], batch["mask"])

    names = ("features", "net") if config.trained else ("net",)
    tx = optimisers(optim, *names)
    players = [Player(name, loss, tx[name]) for name in names]
    averaged = names if optim.ema else ()
    return System(
        begin(networks, players, averaged=averaged),
        play(players, averaged=averaged, ema=optim.ema),
        inpaint,
        networks,
        (NOTE,),
    )


def experiment(steps=1, seed=0, **model) -> Experiment:
    return Experiment(
        system="seeing",
        model=Config(**model),
        optim=Optim(ema=0.5),
        data=Data(size=(32, 32)),
        masks=Masks(family="box"),
        mesh=Layout(data=4, fsdp=2),
        train=Train(steps=steps, batch=8, seed=seed, sample_every=0),
    )


@pytest.fixture
def file(tmp_path, monkeypatch, write_safetensors):
    """Tensors by published name; they are in the folder of weights."""
    monkeypatch.setitem(SYSTEMS, "seeing", Page("sees", Config, build, Config(), "net/loss"))
    rng = np.random.default_rng(0)
    shapes = {"0.weight": (40, 3, 3, 3), "0.bias": (40,), "2.weight": (4, 40, 3, 3), "2.bias": (4,)}
    state = {f"features.{name}": rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    entry = pretrained.FILES["vgg19"]
    monkeypatch.setenv(pretrained.VARIABLE, str(tmp_path / "weights"))
    path = tmp_path / "weights" / entry.file
    sha256 = write_safetensors(path, state)
    monkeypatch.setattr(pretrained, "FILES", {"vgg19": entry._replace(sha256=sha256)})
    return state, path


def same(found, expected) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, found, expected))


def test_a_new_run_starts_with_them_and_its_checkpoint_holds_them(file, tmp_path):
    state, path = file
    expected = to_variables("vgg19", state, Features(), part=True)["params"]
    lines = []
    train(experiment(), tmp_path / "run", say=lines.append)
    assert lines.count(f"note: {NOTE}") == 1
    assert lines.count("features starts with its published weights") == 1
    assert same(restore_weights(tmp_path / "run").weights["params"]["features"], expected)

    # Neither a resumed run nor one that is told to start elsewhere reads the file.
    path.unlink()
    lines.clear()
    after = train(experiment(steps=2), tmp_path / "run", say=lines.append)
    assert any("resumed from step 1" in line for line in lines)
    assert same(jax.device_get(after.params["features"]), expected)


def test_averages_start_there_too(file, tmp_path):
    """An average of the start and of what a step of Adam makes of it."""
    state, _ = file
    expected = to_variables("vgg19", state, Features(), part=True)["params"]
    after = jax.device_get(train(experiment(trained=True), tmp_path / "run", say=lambda line: None))
    assert not same(after.params["features"], expected)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, expected, after.params["features"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.ema["features"], mean)


def test_a_missing_file_stops_the_run_before_anything_is_compiled(file, tmp_path, monkeypatch):
    file[1].unlink()
    monkeypatch.setattr("jaxpaint.run.loop.compile_training", lambda *a, **k: pytest.fail("compiled"))
    with pytest.raises(InputError, match=r"the weights of vgg19 are missing: expected vgg19-dcbb9e9d\.pth in"):
        train(experiment(), tmp_path / "run", say=lambda line: None)


def test_another_run_s_weights_come_after_the_published_ones(file, tmp_path):
    """Those of a network that nobody trains must be the published ones: random features are no start for a run."""
    state, _ = file
    expected = to_variables("vgg19", state, Features(), part=True)["params"]
    quiet = {"say": lambda line: None}
    random = train(experiment(published=False), tmp_path / "random", **quiet)
    trained = jax.device_get(train(experiment(trained=True), tmp_path / "trained", **quiet))
    assert not same(jax.device_get(random.params["features"]), expected)
    with pytest.raises(InputError, match=r"--init-from \S+random has other weights of features than the published"):
        train(experiment(), tmp_path / "a", init_from=str(tmp_path / "random"), **quiet)

    # One step of Adam from where the other one stopped; with another seed, so not from its start either.
    again = experiment(seed=1, trained=True)
    after = jax.device_get(train(again, tmp_path / "b", init_from=str(tmp_path / "trained"), **quiet))
    for name, params in after.params.items():
        for found, before in zip(jax.tree.leaves(params), jax.tree.leaves(trained.params[name]), strict=True):
            assert np.abs(found - before).max() <= 1.01 * Optim().lr
