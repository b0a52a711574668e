"""Weights of feature networks: every tensor finds its place, or one error says which do not."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from jaxpaint.convert import CONVERSIONS
from jaxpaint.convert.features import LPIPS_WIDTHS, load, load_linear, to_linear, to_variables
from jaxpaint.io import pretrained
from jaxpaint.models.alexnet import AlexNet
from jaxpaint.models.inception import InceptionV3
from jaxpaint.models.squeezenet import SqueezeNet
from jaxpaint.nn import Conv
from jaxpaint.types import InputError

LAYERS = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def alexnet() -> dict[str, np.ndarray]:
    """A file's tensors as published, in their order, the classifier's narrower."""
    rng = np.random.default_rng(0)
    shapes = {}
    for n, (o, i, k) in LAYERS.items():
        shapes |= {f"features.{n}.weight": (o, i, k, k), f"features.{n}.bias": (o,)}
    shapes["classifier.1.weight"] = (4, 4)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_layout():
    state = alexnet()
    found = to_variables("alexnet", state, AlexNet())["params"]
    assert sorted(found) == sorted(map(str, LAYERS))
    assert found["3"]["kernel"][1, 4, 7, 9] == state["features.3.weight"][9, 7, 1, 4]
    np.testing.assert_array_equal(found["3"]["bias"], state["features.3.bias"])


def test_all_that_does_not_fit_is_one_error():
    state = alexnet()
    del state["features.6.bias"]
    state["features.12.weight"] = state.pop("features.10.weight")
    state["features.8.bias"] = np.zeros(7, np.float32)
    state["features.0.bias"][3] = np.nan
    with pytest.raises(InputError) as error:
        to_variables("alexnet", state, AlexNet())
    for part in (
        "does not fit alexnet (1 no place for, 2 no tensor for, 2 cannot be used)",
        "features.12.weight (256, 256, 3, 3)",
        "network/params/6/bias (384,)",
        "network/params/10/kernel (3, 3, 256, 256)",
        "features.8.bias: shape (7,)",
        "features.0.bias: holds values that are not finite",
    ):
        assert part in str(error.value)
    with pytest.raises(InputError, match="belongs to squeezenet1_1"):
        to_variables("squeezenet1_1", {"lin0.model.1.weight": np.zeros((1, 4, 1, 1), np.float32)}, SqueezeNet())
    with pytest.raises(InputError, match=r"'vgg18'.*did you mean"):
        load("vgg18", AlexNet())


class FirstTwo(nn.Module):
    """AlexNet up to its second convolution."""

    biases: bool = True

    @nn.compact
    def __call__(self, image):
        x = Conv(64, 11, stride=4, padding=2, name="0")(image)
        return Conv(192, 5, use_bias=self.biases, name="3")(x)


def test_the_first_layers_alone():
    """What comes after them in the file is not looked at; what belongs to them, or lies between, is."""
    state = alexnet()
    with pytest.raises(InputError, match="6 no place for"):
        to_variables("alexnet", state, FirstTwo())
    found = to_variables("alexnet", state, FirstTwo(), part=True)["params"]
    whole = to_variables("alexnet", state, AlexNet(), part=True)["params"]
    assert (sorted(found), sorted(whole)) == (["0", "3"], sorted(map(str, LAYERS)))
    assert jax.tree.all(jax.tree.map(np.array_equal, found, {name: whole[name] for name in found}))

    with pytest.raises(InputError, match=r"1 no place for[^\n]*\n[^\n]*\n  features\.3\.bias"):
        to_variables("alexnet", state, FirstTwo(biases=False), part=True)
    between = {"features.0.weight": None, "features.1.weight": state["features.0.weight"]} | state
    with pytest.raises(InputError, match=r"1 no place for[^\n]*\n[^\n]*\n  features\.1\.weight"):
        to_variables("alexnet", between, FirstTwo(), part=True)
    del state["features.3.bias"]
    with pytest.raises(InputError, match=r"1 no tensor for[^\n]*\n[^\n]*\n  network/params/3/bias"):
        to_variables("alexnet", state, FirstTwo(), part=True)
    with pytest.raises(InputError, match="none of the 1 tensors belongs to alexnet"):
        to_variables("alexnet", {"features.13.weight": np.zeros((1, 1, 1, 1), np.float32)}, FirstTwo(), part=True)


def inception() -> dict[str, np.ndarray]:
    """Ours, by published names: the inverse of the converter, written from the rule of names alone."""
    variables = jax.eval_shape(InceptionV3().init, jax.random.key(0), np.zeros((1, 96, 96, 3), np.float32))
    names = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    state = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
        _, *module, last = (entry.key for entry in path)
        shape = leaf.shape if len(leaf.shape) < 2 else (*leaf.shape[:-3:-1], *leaf.shape[:-2])
        state[".".join([*module, names[last]])] = np.zeros(shape, np.float32)
    return state


def test_counters_of_normalisation_may_be_in_the_file_or_not():
    state = inception()
    assert state["fc.weight"].shape == (1008, 2048)
    assert state["Mixed_6b.branch7x7_2.conv.weight"].shape == (128, 128, 1, 7)
    counter = {"Mixed_6b.branch7x7_2.bn.num_batches_tracked": np.zeros((), np.int64)}
    without, given = (to_variables("inception_fid", s, InceptionV3()) for s in (state, state | counter))
    assert jax.tree.structure(without) == jax.tree.structure(given)
    with pytest.raises(InputError, match=r"1 no place for.*\n.*\n.*AuxLogits"):
        to_variables("inception_fid", {**state, "AuxLogits.fc.bias": np.zeros(1008, np.float32)}, InceptionV3())


def test_linear_weights_need_every_tap():
    for name, widths in LPIPS_WIDTHS.items():
        state = {
            f"lin{tap}.model.1.weight": np.arange(c, dtype=np.float32).reshape(1, c, 1, 1)
            for tap, c in enumerate(widths)
        }
        for found, width in zip(to_linear(name, state), widths, strict=True):
            np.testing.assert_array_equal(found, np.arange(width))
        del state["lin2.model.1.weight"]
        with pytest.raises(InputError, match="1 no tensor for"):
            to_linear(name, state)


def test_load_looks_in_the_folder(tmp_path, monkeypatch, write_safetensors):
    monkeypatch.setenv(pretrained.VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"lpips/v0\.1/vgg\.pth"):
        load_linear("lpips_vgg")
    state = alexnet()
    entry = pretrained.FILES["alexnet"]
    sha256 = write_safetensors(tmp_path / entry.file, state)
    with pytest.raises(InputError, match="not the published file of alexnet"):
        load("alexnet", AlexNet())
    monkeypatch.setattr(pretrained, "FILES", {"alexnet": entry._replace(sha256=sha256)})
    found, expected = load("alexnet", AlexNet()), to_variables("alexnet", state, AlexNet())
    assert jax.tree.all(jax.tree.map(np.array_equal, found, expected))


def test_feature_networks_are_no_systems():
    assert "features" not in CONVERSIONS
