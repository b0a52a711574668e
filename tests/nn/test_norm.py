"""Batch normalisation: Flax's on one device, and the statistics of the whole batch on eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxpaint.nn import BatchNorm
from jaxpaint.ops.placement import mapped
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh, replicated, split

QUICKLY = {"xla_backend_optimization_level": 0}


def pictures(dtype=jnp.float32):
    """8 pictures, each of another mean: the statistics of a part of them are far from those of all."""
    x = jax.random.normal(jax.random.key(0), (8, 4, 6, 3))
    return (x + jnp.arange(8.0).reshape(8, 1, 1, 1)).astype(dtype)


def something(variables):
    """Statistics and parameters that do something."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + rng.uniform(0.1, 0.5, x.shape).astype(np.float32), variables)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("stored", [False, True])
def test_it_is_flax_batch_norm(stored, dtype):
    x = pictures(dtype)
    options = {"momentum": 0.75, "epsilon": 1e-3, "dtype": dtype}
    ours, flax = BatchNorm(**options), nn.BatchNorm(**options)
    variables = ours.init(jax.random.key(0), x, stored)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, flax.init(jax.random.key(0), x, stored))
    variables = something(variables)

    def run(layer):
        y, changed = layer.apply(variables, x, use_running_average=stored, mutable=["batch_stats"])
        return {"y": y, **changed}

    found, expected = run(ours), run(flax)
    assert found["y"].dtype == dtype
    np.testing.assert_allclose(  # bfloat16: one rounding of the result, which may fall to the other side
        np.float32(found["y"]), np.float32(expected["y"]), atol=1e-6 if dtype == jnp.float32 else 2**-7 * 3
    )
    if stored:
        assert jax.tree.all(jax.tree.map(np.array_equal, found["batch_stats"], variables["batch_stats"]))
    else:
        # A mean of squares near 16 less the square of a mean near 3.5: rounding of 2**-24 * 16.
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-6), found["batch_stats"], expected["batch_stats"]
        )


def test_where_the_statistics_come_from_is_said_once():
    x = pictures()
    variables = BatchNorm().init(jax.random.key(0), x, True)
    given = BatchNorm(use_running_average=True).apply(variables, x)
    np.testing.assert_array_equal(given, BatchNorm().apply(variables, x, use_running_average=True))
    with pytest.raises(ValueError, match="use_running_average"):
        BatchNorm().apply(variables, x)


def loss(variables, x, target):
    """(one that looks at every element in another way, new statistics)."""
    layer = BatchNorm(use_running_average=False)
    y, changed = layer.apply(variables, x, mutable=["batch_stats"])
    return jnp.mean(jnp.square(jnp.sin(y) - target)), changed


def all_of(variables, x, target):
    """Value, gradients to parameters and pictures, statistics: the loss is the mean over all pictures."""

    def of(params, x):
        return loss({**variables, "params": params}, x, target)

    (value, changed), gradients = jax.value_and_grad(of, (0, 1), has_aux=True)(variables["params"], x)
    return value, changed, gradients


@pytest.fixture(scope="module")
def case():
    """(arguments, what one device makes of them)."""
    x = pictures()
    target = jax.random.normal(jax.random.key(1), x.shape)
    variables = something(BatchNorm(True).init(jax.random.key(0), x))
    return (variables, x, target), jax.jit(all_of, compiler_options=QUICKLY)(variables, x, target)


def assert_close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-6)


def test_pmap_equals_one_device(case):
    """A picture a device. A device's gradient, averaged, is that of the mean of all losses: through the statistics,
    too, every loss depends on all pictures."""
    (variables, x, target), expected = case

    def one(variables, x, target):
        with mapped("i"):
            value, changed, (slopes, for_x) = all_of(variables, x, target)
        value, slopes = jax.lax.pmean((value, slopes), "i")
        return value, changed, slopes, for_x / 8

    parts = [jnp.expand_dims(a, 1) for a in (x, target)]
    value, changed, slopes, for_x = jax.pmap(one, axis_name="i", in_axes=(None, 0, 0), out_axes=(None, 0, None, 0))(
        variables, *parts
    )
    for stored in jax.tree.leaves(changed):  # the same on all devices
        np.testing.assert_array_equal(stored, np.broadcast_to(stored[:1], stored.shape))
    assert_close((value, jax.tree.map(lambda a: a[0], changed), (slopes, for_x[:, 0])), expected)


def test_without_being_told_each_device_goes_its_own_way(case):
    """So the test above can fail."""
    (variables, x, target), (_, expected, _) = case
    alone = jax.pmap(lambda v, x, t: all_of(v, x, t)[1], in_axes=(None, 0, 0))(variables, x[:, None], target[:, None])
    means = alone["batch_stats"]["mean"]
    assert np.abs(means[0] - expected["batch_stats"]["mean"]).max() > 0.1


@pytest.mark.parametrize("layout", [Layout(data=8), Layout(data=2, spatial=4)], ids=["data", "spatial"])
def test_a_mesh_equals_one_device(case, layout):
    arguments, expected = case
    mesh = make_mesh(layout)
    shardings = (replicated(mesh), split(mesh, arguments[1].shape), split(mesh, arguments[2].shape))
    with jax.set_mesh(mesh):
        found = jax.jit(all_of, in_shardings=shardings, compiler_options=QUICKLY)(*jax.device_put(arguments, shardings))
    assert_close(found, expected)
