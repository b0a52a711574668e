"""One small network trained on meshes of several shapes: memory, rules, several steps a dispatch, checkpoints."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxpaint.io.checkpoint import Checkpoints
from jaxpaint.parallel.compile import compile_step
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import gathered, make_mesh
from jaxpaint.train import Network, Player, State, begin, play
from jaxpaint.types import InputError

KEY = jax.random.key(5)
SHAPES = {"image": jax.ShapeDtypeStruct((16, 8, 8, 4), jnp.float32)}
PARAMETERS = 9 * 4 * 64 + 9 * 64 * 64 + 9 * 64 * 4
MB = 4 * PARAMETERS
"""Bytes of the kernels; there are no biases."""


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.tanh(nn.Conv(64, (3, 3), use_bias=False)(x))
        y = nn.tanh(nn.Conv(64, (3, 3), use_bias=False)(y))
        return nn.Conv(4, (3, 3), use_bias=False)(y)


def system():
    network = Network(Net(), lambda batch: (batch["image"],))

    def loss(params, state, batch, rng, made):
        del state, rng, made
        x = batch["image"]
        return jnp.mean(jnp.square(Net().apply({"params": params}, x) - jnp.roll(x, 1, axis=2))), ({}, {})

    # eps keeps the update smooth in the gradient, so that sums in another order stay together.
    players = (Player("net", loss, optax.adam(1e-2, eps=1e-3)),)
    return begin({"net": network}, players, averaged=("net",)), play(players, averaged=("net",), ema=0.9)


def program(layout, steps=1):
    return compile_step(*system(), SHAPES, make_mesh(layout), layout.mode, rules=layout.rules, steps=steps)


def batches(count):
    return [{"image": np.random.default_rng(n).standard_normal((16, 8, 8, 4)).astype(np.float32)} for n in range(count)]


def trained(layout, steps=4):
    """(state on the mesh, losses)."""
    made = program(layout)
    state, losses = made.begin(KEY), []
    for batch in batches(steps):
        state, metrics = made.step(state, made.place(batch))
        losses.append(float(metrics["net/loss"]))
    return state, losses


def assert_together(found, expected):
    """Sums in another order: 1e-7 a step, amplified by lr / eps = 10; far from the 1e-2 that a step moves."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_optimiser_states_take_a_share_of_the_memory():
    """Adam's two moments and the averaged weights, three times the parameters, fall as 1/n; parameters stay whole."""
    batch = 16 * 8 * 8 * 4 * 4 // 8
    for n in (1, 2, 4, 8):
        analysis = program(Layout(fsdp=n)).compiled.memory_analysis()
        expected = MB + 3 * MB / n + batch
        assert abs(analysis.argument_size_in_bytes - expected) < 1024, n  # and a few scalars


def test_rules_divide_parameters_too():
    layout = Layout(fsdp=8, rules=(("^params/", "fsdp"),))
    made = program(layout)
    assert made.compiled.memory_analysis().argument_size_in_bytes < 4 * MB / 8 + 16 * 8 * 8 * 4 * 4 // 8 + 1024
    state, losses = trained(layout)
    kernel = state.params["net"]["Conv_1"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 8
    expected, losses_expected = trained(Layout(data=1))
    np.testing.assert_allclose(losses, losses_expected, rtol=1e-5)
    assert_together(gathered(state.params), expected.params)
    assert_together(gathered(state.ema), expected.ema)


def test_convolutions_are_not_divided_over_channels():
    """Parameters in parts are gathered whole before they are used: every device convolves its pictures, all channels.
    The compiler left to itself takes channels apart (collective-permute, all-to-all)."""
    text = program(Layout(fsdp=8, rules=(("^params/", "fsdp"),))).compiled.as_text()
    assert "all-gather" in text
    assert "collective-permute" not in text and "all-to-all" not in text


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_several_steps_a_dispatch(mode):
    layout = Layout(mode=mode)
    _, losses = trained(layout, steps=6)
    made = program(layout, steps=3)
    state, found = made.begin(KEY), []
    for start in (0, 3):
        state, metrics = made.step(state, made.place(*batches(6)[start : start + 3]))
        assert metrics["net/loss"].shape == (3,)
        found += metrics["net/loss"].tolist()
    assert int(state.step) == 6
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    with pytest.raises(InputError, match="0 steps a dispatch"):
        program(layout, steps=0)


def test_a_checkpoint_of_one_mesh_restores_on_another(tmp_path):
    """8 devices to 4 to 1, divided state to whole and back, bit for bit; and the runs go on alike."""
    layouts = [Layout(data=2, fsdp=4), Layout(data=4), Layout(data=1), Layout(data=4, fsdp=2)]
    state, _ = trained(layouts[0])
    first = jax.device_get(dataclasses.replace(state, rng=jax.random.key_data(state.rng)))
    following = []
    for number, layout in enumerate(layouts):
        made = program(layout)
        with Checkpoints(tmp_path / str(number)) as checkpoints:
            checkpoints.save(4, state.items(), {})
            checkpoints.wait()
            state = State.from_items(checkpoints.restore(made.abstract.items()).items)
        for x, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(made.abstract), strict=True):
            assert x.sharding.is_equivalent_to(wanted.sharding, x.ndim)
        again = jax.device_get(dataclasses.replace(state, rng=jax.random.key_data(state.rng)))
        jax.tree.map(np.testing.assert_array_equal, again, first)
        _, metrics = made.step(jax.tree.map(jnp.copy, state), made.place(batches(5)[4]))
        following.append(float(metrics["net/loss"]))
    np.testing.assert_allclose(following, following[0], rtol=1e-5)


def test_a_mesh_that_cannot_hold_a_checkpoint():
    """A rule that divides a dimension which the new mesh cannot divide: said before anything is read."""
    rules = (("Conv_2/kernel", (None, None, None, "fsdp")),)
    assert program(Layout(fsdp=4, rules=rules)).abstract.params["net"]["Conv_2"]["kernel"].shape == (3, 3, 64, 4)
    message = r"matches params/net/Conv_2/kernel, which is 3x3x64x4: 4 does not divide over fsdp=8"
    with pytest.raises(InputError, match=message):
        program(Layout(fsdp=8, rules=rules))
