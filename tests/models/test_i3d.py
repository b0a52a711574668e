"""I3D: padding and pooling against torch, the two kinds of statistics, what is refused; the published file's names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.convert.features import NAMES, to_variables
from jaxpaint.models.features import random_variables
from jaxpaint.models.i3d import InceptionI3d, _Conv3d, _max_pool, _Norm
from jaxpaint.types import InputError

QUICKLY = {"xla_backend_optimization_level": 0}
NAME = "i3d_rgb_imagenet"


def same(sizes, kernel, stride):
    """The published rule, for torch's pad: the last axis first, (before, after)."""
    around = []
    for size, k, s in reversed(list(zip(sizes, kernel, stride, strict=True))):
        total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
        around += [total // 2, total - total // 2]
    return around


@pytest.mark.parametrize("kernel, stride", [(7, 2), (3, 1), (1, 1)])
def test_convolutions_are_those_of_the_published_rule(kernel, stride):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 4, 9, 10, 3)).astype(np.float32)
    unit = _Conv3d(5, kernel, stride, jnp.float32)
    found, variables = jax.jit(unit.init_with_output, compiler_options=QUICKLY)(jax.random.key(0), x)
    weights = np.transpose(variables["params"]["kernel"], (4, 3, 0, 1, 2))
    first = torch.from_numpy(x).permute(0, 4, 1, 2, 3)
    padded = torch.nn.functional.pad(first, same(x.shape[1:4], (kernel,) * 3, (stride,) * 3))
    expected = torch.nn.functional.conv3d(padded, torch.from_numpy(np.array(weights)), stride=stride)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 4, 1), atol=1e-5)


@pytest.mark.parametrize("window, stride", [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((3, 3, 3), (1, 1, 1))])
def test_pools_are_those_of_the_published_rule(window, stride):
    torch = pytest.importorskip("torch")
    x = np.abs(np.random.default_rng(0).standard_normal((1, 5, 9, 10, 2))).astype(np.float32)
    first = torch.from_numpy(x).permute(0, 4, 1, 2, 3)
    padded = torch.nn.functional.pad(first, same(x.shape[1:4], window, stride))
    expected = torch.nn.functional.max_pool3d(padded, window, stride)
    np.testing.assert_array_equal(_max_pool(jnp.asarray(x), window, stride), expected.permute(0, 2, 3, 4, 1))


def test_statistics_are_those_stored_or_each_clip_s_own():
    rng = np.random.default_rng(1)
    x = rng.normal(3, 2, (2, 3, 4, 5, 6)).astype(np.float32)
    mean, var, scale, bias = (rng.uniform(0.5, 2, 6).astype(np.float32) for _ in range(4))
    variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}
    stored = _Norm("stored").apply(variables, x)
    np.testing.assert_allclose(stored, (x - mean) / np.sqrt(var + 1e-3) * scale + bias, rtol=1e-5, atol=1e-5)
    own = _Norm("clip").apply(variables, x)
    for i in range(2):
        expected = (x[i] - x[i].mean((0, 1, 2))) / np.sqrt(x[i].var((0, 1, 2)) + 1e-3) * scale + bias
        np.testing.assert_allclose(own[i], expected, rtol=1e-5, atol=1e-5)


def test_sizes_are_divided_and_rounded_up():
    clip = jax.ShapeDtypeStruct((1, 11, 50, 70, 3), jnp.float32)
    features, out = jax.eval_shape(lambda x: InceptionI3d().init_with_output(jax.random.key(0), x)[0], clip)
    assert features.shape == (1, 1024)
    assert {name: out[name].shape[1:] for name in ("Conv3d_1a_7x7", "Mixed_3c", "Mixed_4f", "Mixed_5c")} == {
        "Conv3d_1a_7x7": (6, 25, 35, 64),
        "Mixed_3c": (6, 7, 9, 480),
        "Mixed_4f": (3, 4, 5, 832),
        "Mixed_5c": (2, 2, 3, 1024),
    }


def test_clips_that_it_cannot_look_at_are_refused():
    def look(shape, **options):
        network = InceptionI3d(**options)
        jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))

    look((1, 1, 33, 33, 3))
    with pytest.raises(InputError, match=r"frames are 33x32: .* expected 33x33 at least"):
        look((1, 20, 33, 32, 3))
    with pytest.raises(InputError, match="expected b t h w 3"):
        look((1, 33, 33, 3))
    with pytest.raises(InputError, match="expected 'stored' or 'clip'"):
        look((1, 9, 33, 33, 3), statistics="batch")


def test_the_classifier_is_left_out_and_nothing_else():
    variables = random_variables(InceptionI3d(), 0, NAMES[NAME].inputs)
    state = {"logits.conv3d.weight": np.zeros((400, 1024, 1, 1, 1), np.float32), "logits.conv3d.bias": np.zeros(400)}
    names = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        _, *module, last = (entry.key for entry in path)
        array = np.transpose(leaf, (4, 3, 0, 1, 2)) if last == "kernel" else leaf
        state[".".join([*module, names[last]])] = array
    found = to_variables(NAME, state, InceptionI3d())
    assert jax.tree.all(jax.tree.map(np.array_equal, found, variables))
    del state["Mixed_5c.b3b.bn.running_var"]
    with pytest.raises(InputError, match=r"1 no tensor for[^\n]*\n[^\n]*\n  network/batch_stats/Mixed_5c/b3b/bn/var"):
        to_variables(NAME, state, InceptionI3d())
