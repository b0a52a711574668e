"""RAFT: enlarging, sizes, any size both ways; what a published file needs. Numbers are in the golden test."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.convert.features import NAMES, to_variables
from jaxpaint.io import pretrained
from jaxpaint.models.raft import RAFT, enlarge, flow_both_ways
from jaxpaint.nn import InstanceNorm
from jaxpaint.types import InputError

QUICKLY = {"xla_backend_optimization_level": 0}
NETWORK = RAFT(iterations=2)


@functools.cache
def variables():
    picture = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), picture, picture)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        return rng.standard_normal(leaf.shape, np.float32) / np.float32(np.sqrt(np.prod(leaf.shape[:-1])) + 1)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def pictures(height, width):
    return jax.random.uniform(jax.random.key(1), (2, 1, height, width, 3), minval=-1.0)


def test_enlarge():
    """By loops: the pixel (8 y + i, 8 x + j) is a mean of the 3x3 neighbours of (y, x), zeros around."""
    flow = np.asarray(jax.random.normal(jax.random.key(0), (1, 2, 3, 2)))
    weights = np.asarray(jax.random.normal(jax.random.key(1), (1, 2, 3, 576)))
    padded = np.pad(flow, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((1, 16, 24, 2))
    for y, x, i, j in np.ndindex(2, 3, 8, 8):
        shares = np.exp(weights[0, y, x, 8 * i + j :: 64])
        shares /= shares.sum()
        for n in range(9):
            expected[0, 8 * y + i, 8 * x + j] += 8 * shares[n] * padded[0, y + n // 3, x + n % 3]
    np.testing.assert_allclose(enlarge(flow, weights), expected, atol=1e-5)
    inner = enlarge(jnp.ones((1, 3, 3, 2)), jax.random.normal(jax.random.key(2), (1, 3, 3, 576)))[:, 8:16, 8:16]
    np.testing.assert_allclose(inner, 8, rtol=1e-6)


def test_instance_norm():
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (2, 6, 5, 4))
    layer = InstanceNorm(dtype=jnp.bfloat16)
    assert not layer.init(jax.random.key(0), x)
    assert layer.apply({}, x).dtype == jnp.bfloat16
    a = np.asarray(x, np.float64)
    expected = (a - a.mean((1, 2), keepdims=True)) / np.sqrt(a.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(InstanceNorm().apply({}, x), expected, atol=1e-5)


def test_any_size_both_ways():
    """Padded, run each way and cut; a picture's flow does not depend on the order in which the ways are run."""
    first, second = pictures(130, 135)
    run = jax.jit(functools.partial(flow_both_ways, NETWORK)).lower(variables(), first, second).compile(QUICKLY)
    forward, backward = run(variables(), first, second)
    assert forward.shape == backward.shape == (1, 130, 135, 2)
    assert float(jnp.std(forward)) > 0
    swapped, other = run(variables(), second, first)
    np.testing.assert_array_equal(forward, other)
    np.testing.assert_array_equal(backward, swapped)


def test_sizes_that_it_refuses():
    apply = functools.partial(jax.eval_shape, NETWORK.apply, variables())
    apply(*pictures(128, 136))
    with pytest.raises(InputError, match=r"96x160 is too small for RAFT.*expected 128x128.*enlarge"):
        apply(*pictures(96, 160))
    with pytest.raises(InputError, match="is too small for RAFT"):
        flow_both_ways(NETWORK, variables(), *pictures(160, 127))
    with pytest.raises(InputError, match=r"132x128: .*divisible by 8.*flow_both_ways"):
        apply(*pictures(132, 128))
    with pytest.raises(InputError, match="expected two of b h w 3"):
        apply(pictures(128, 128)[0], pictures(128, 136)[0])


def test_a_published_file_needs_every_tensor():
    """A shortcut's normalisation is in the file under two names, and counters are no weights."""
    assert set(pretrained.FILES) >= {"raft_things"} <= set(NAMES)
    leaves = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    state = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables())[0]:
        _, *module, last = (entry.key for entry in path)
        array = np.moveaxis(leaf, (-2, -1), (1, 0)) if leaf.ndim == 4 else leaf
        state[".".join(["module", *module, leaves[last]])] = array
    twice = "module.cnet.layer2.0.{}.running_mean"
    state[twice.format("norm3")] = state[twice.format("downsample.1")]
    state["module.cnet.norm1.num_batches_tracked"] = np.zeros((), np.int64)
    found = to_variables("raft_things", state, NETWORK)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, variables()))
    del state["module.update_block.mask.2.bias"]
    with pytest.raises(InputError, match=r"1 no tensor for[^\n]*\n[^\n]*\n  network/params/update_block/mask/2/bias"):
        to_variables("raft_things", state, NETWORK)
