"""``jaxpaint stylize``: what it paints is the system's own function; what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxpaint.io.weights import save_weights
from jaxpaint.ops.pixels import from_uint8, to_uint8
from jaxpaint.run.cli import main
from jaxpaint.systems import SYSTEMS, contextual
from jaxpaint.train import Weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(a checkpoint of the tiny system with weights that paint something, the weights)."""
    page = SYSTEMS["contextual"]
    batch = {"image": jnp.zeros((1, 64, 64, 3)), "mask": jnp.zeros((1, 64, 64, 1))}
    state = jax.eval_shape(page.build(page.tiny).init, jax.random.key(0), batch)
    rng = np.random.default_rng(0)

    def draw(x):
        return rng.normal(0, 0.1, x.shape).astype(np.float32)

    weights = {
        "params": jax.tree.map(draw, state.params),
        "extra": jax.tree.map(np.ones_like, jax.tree.map(draw, state.extra)),
    }
    path = tmp_path_factory.mktemp("stylize") / "trained"
    save_weights(path, weights, {"system": "contextual", "model": dataclasses.asdict(page.tiny)})
    return path, weights


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(1)
    for name, shape in [("content.png", (42, 52, 4)), ("style.jpg", (36, 45, 3)), ("large.png", (40, 90))]:
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / name)
    return tmp_path


def run(capsys, *arguments):
    status = main(["stylize", *map(str, arguments)])
    return status, *capsys.readouterr()


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_picture_in_the_style_of_another(trained, pictures, capsys):
    path, weights = trained
    content, style, out = pictures / "content.png", pictures / "style.jpg", pictures / "made" / "out.png"
    arguments = (content, style, "--checkpoint", path, "--out", out, "--model.patch", "1")
    status, said, noted = run(capsys, *arguments)
    assert (status, said) == (0, f"{out}\n")
    assert noted.count(f"note: {contextual.NOTE}\n") == 1
    config = dataclasses.replace(SYSTEMS["contextual"].tiny, patch=1)
    inputs = [from_uint8(jnp.asarray(pixels(p)[..., :3]))[None] for p in (content, style)]
    expected = jax.jit(lambda *given: contextual.stylize(config, *given))(Weights(**weights), *inputs)
    found = pixels(out)
    assert found.shape == (42, 52, 3)
    assert found.std() > 0
    assert np.abs(found.astype(int) - np.asarray(to_uint8(expected[0]))).max() <= 1
    status, _, error = run(capsys, *arguments)
    assert status == 2 and f"{out} exists already: give --overwrite" in error


def test_a_large_grey_picture_is_reduced(trained, pictures, capsys):
    out = pictures / "out.jpg"
    arguments = (pictures / "large.png", pictures / "style.jpg", "--checkpoint", trained[0], "--out", out)
    assert run(capsys, *arguments, "--max-side", 75)[0] == 0
    assert pixels(out).shape == (33, 75, 3)
    status, _, error = run(capsys, *arguments, "--max-side", 60, "--overwrite")
    assert status == 2 and "large.png is 27x60 once reduced: both sides must be 32 pixels or more" in error


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A checkpoint of another system."""
    path = tmp_path_factory.mktemp("stylize") / "other"
    save_weights(path, {"params": {"generator": {"x": np.ones(1, np.float32)}}}, {"system": "deepfillv2", "model": {}})
    return path


def test_what_is_refused(trained, other, pictures, capsys):
    content, style, out = pictures / "content.png", pictures / "style.jpg", pictures / "out.png"

    def refused(*arguments, checkpoint=trained[0], out=out):
        status, said, error = run(capsys, *arguments, "--checkpoint", checkpoint, "--out", out)
        assert (status, said) == (2, "")
        assert error.startswith("error: ") or "\nerror: " in error
        return error

    assert "is a checkpoint of the system 'deepfillv2': styles are" in refused(content, style, checkpoint=other)
    assert "nowhere does not exist" in refused(content, style, checkpoint=pictures / "nowhere")
    assert "nothing.png does not exist: give a picture" in refused(content, pictures / "nothing.png")
    assert "is a folder: give a picture" in refused(pictures, style)
    assert "would replace an input" in refused(content, style, out=content)
    assert "no picture format ends in '.gif'" in refused(content, style, out=pictures / "out.gif")
    assert "--max-side is 20: expected 32 or more" in refused(content, style, "--max-side", 20)
    assert "did you mean --model.patch?" in refused(content, style, "--model.patsch=1")
    assert not out.exists()


def test_weights_that_are_broken(trained, pictures, capsys, tmp_path):
    _, weights = trained
    broken = jax.tree.map(np.copy, weights)
    broken["params"]["feature2image"]["conv1"]["bias"][0] = np.nan
    model = {
        "system": "contextual",
        "model": {**dataclasses.asdict(SYSTEMS["contextual"].tiny), "stage": "image2feature"},
    }
    save_weights(tmp_path / "broken", broken, model)
    arguments = (pictures / "content.png", pictures / "style.jpg", "--checkpoint", tmp_path / "broken")
    status, _, error = run(capsys, *arguments, "--out", tmp_path / "x.png")
    assert status == 2 and "the result is not finite" in error
    assert "note: this run did not train Feature2Image" in error
