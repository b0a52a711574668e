"""The engine: order of players, accumulation, averaging, laziness, the guard inside the step, mixed precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxpaint.nn import BatchNorm
from jaxpaint.train import Network, Optim, Player, begin, compute_dtype, optimiser, optimisers, play
from jaxpaint.train.optim import learning_rate
from jaxpaint.types import InputError

KEY = jax.random.key(3)


class Line(nn.Module):
    """y = a x, with a counter in a mutable collection."""

    @nn.compact
    def __call__(self, x):
        a = self.param("a", nn.initializers.ones, ())
        calls = self.variable("counts", "calls", lambda: jnp.zeros((), jnp.int32))
        if self.is_mutable_collection("counts") and not self.is_initializing():
            calls.value += 1
        return a * x


def batch(*values):
    return {"x": jnp.array(values, jnp.float32)}


NETWORKS = {name: Network(Line(), lambda b: (b["x"],)) for name in ("first", "second")}


def pull(name, towards=None):
    """A player that pulls its slope to zero, or to the other network's slope."""

    def loss(params, state, batch, rng, made):
        del rng, made
        y, changed = Line().apply({"params": params, **state.extra[name]}, batch["x"], mutable=["counts"])
        target = 0.0 if towards is None else state.params[towards]["a"] * batch["x"]
        return jnp.mean((y - target) ** 2), ({name: changed}, {"slope": params["a"]})

    return Player(name, loss, optax.sgd(0.25))


def slopes(state):
    return {name: float(p["a"]) for name, p in state.params.items()}


def test_players_move_in_order_within_one_step():
    """The second player sees the first one's new slope: d/da mean((a x - b x)²) = 2 (a - b) for x = 1."""
    players = (pull("first"), pull("second", towards="first"))
    state = begin(NETWORKS, players)(KEY, batch(1.0))
    state, metrics = jax.jit(play(players))(state, batch(1.0))
    assert slopes(state) == {"first": 0.5, "second": 0.75}
    assert float(metrics["first/slope"]) == 1.0
    assert float(metrics["first/grad_norm"]) == 2.0
    assert int(state.step) == 1
    assert int(state.extra["first"]["counts"]["calls"]) == 1


def test_accumulation_equals_the_whole_batch():
    """Exact: the mean of equal micro-batches' gradients is the gradient of the mean (powers of two, no rounding)."""
    players = (pull("first"), pull("second"))
    state = begin(NETWORKS, players)(KEY, batch(1.0))
    x = batch(1.0, 2.0, 4.0, 8.0)
    whole, metrics = play(players)(state, x)
    parts, metrics_parts = play(players, accumulate=2)(state, x)
    assert slopes(whole) == slopes(parts)
    assert metrics["first/loss"] == metrics_parts["first/loss"]
    assert int(parts.extra["first"]["counts"]["calls"]) == 2
    with pytest.raises(InputError, match="accumulate is 3 but the batch has 4"):
        play(players, accumulate=3)(state, x)


def test_pmap_keeps_counters_and_averages_the_rest():
    """Eight devices with an example each make the step of one device with all eight."""
    players = (pull("first"), pull("second", towards="first"))
    state = begin(NETWORKS, players)(KEY, batch(1.0))
    x = batch(*range(8))
    step = functools.partial(play(players), axis="i")
    many, metrics = jax.pmap(step, axis_name="i", in_axes=(None, 0), out_axes=None)(state, {"x": x["x"].reshape(8, 1)})
    one, expected = jax.jit(play(players))(state, x)
    calls = many.extra["first"]["counts"]["calls"]
    assert calls.dtype == jnp.int32 and int(calls) == 1
    assert slopes(many) == pytest.approx(slopes(one), rel=1e-6)
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-6), name


def test_batch_norm_under_pmap_is_that_of_all_devices():
    """In a loss and in a forward pass: the update that one device makes of the whole batch."""
    layer = BatchNorm(use_running_average=False)

    def forward(params, state, batch, rng):
        return layer.apply({"params": params, **state.extra["first"]}, batch["x"], mutable=["batch_stats"])

    def loss(params, state, batch, rng, made):
        y, changed = made["first"]
        again, _ = layer.apply({"params": params, **state.extra["first"]}, y, mutable=["batch_stats"])
        return jnp.mean((again - batch["x"]) ** 2), ({"first": changed}, {})

    players = (Player("first", loss, optax.sgd(0.25), forward=forward),)
    x = jax.random.normal(KEY, (16, 3)) + jnp.arange(16.0)[:, None]
    state = begin({"first": Network(layer, lambda b: (b["x"],))}, players)(KEY, {"x": x})
    step = functools.partial(play(players), axis="i")
    parts = {"x": x.reshape(8, 2, 3)}
    many, metrics = jax.pmap(step, axis_name="i", in_axes=(None, 0), out_axes=None)(state, parts)
    one, expected = jax.jit(play(players))(state, {"x": x})
    assert float(expected["first/grad_norm"]) > 0.1
    for found, wanted in ((many.params, one.params), (many.extra, one.extra), (metrics, expected)):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4), found, wanted)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_forward_pass_is_made_once_for_all(accumulate):
    """first: y = a x; second judges y: loss (b y)² with y constant; first: (b y)² + a² with the new b.

    At a = b = 1 and x² = (1, 4) in the mean 2.5: db = 2 b y² = 5, so b = 1 - 0.25 * 5; da = 2 a b² x² + 2 a.
    """
    calls = []

    def forward(params, state, batch, rng):
        calls.append(1)
        return params["a"] * batch["x"]

    def judge(params, state, batch, rng, made):
        y = jax.lax.stop_gradient(made["first"])
        return jnp.mean((params["a"] * y) ** 2), ({}, {})

    def fool(params, state, batch, rng, made):
        return jnp.mean((state.params["second"]["a"] * made["first"]) ** 2) + params["a"] ** 2, ({}, {})

    tx = optax.sgd(0.25)
    players = (Player("second", judge, tx), Player("first", fool, tx, forward=forward))
    x = batch(1.0, 2.0)
    state = begin(NETWORKS, players)(KEY, x)
    after, metrics = jax.jit(play(players, accumulate=accumulate))(state, x)
    assert slopes(after) == {"second": -0.25, "first": 1 - 0.25 * (2 * 0.0625 * 2.5 + 2)}
    assert float(metrics["first/loss"]) == 0.0625 * 2.5 + 1
    assert accumulate > 1 or len(calls) == 1


def test_a_lazy_player_moves_every_so_often():
    players = (pull("first")._replace(every=2), pull("second"))
    state = begin(NETWORKS, players)(KEY, batch(1.0))
    update = jax.jit(play(players))
    seen = []
    for _ in range(3):
        state, _ = update(state, batch(1.0))
        seen.append((slopes(state)["first"], int(state.extra["first"]["counts"]["calls"])))
    assert seen == [(0.5, 1), (0.5, 1), (0.25, 2)]


def test_averaged_weights():
    players = (pull("first"),)
    networks = {"first": NETWORKS["first"]}
    state = begin(networks, players, averaged=("first",))(KEY, batch(1.0))
    state, _ = play(players, averaged=("first",), ema=0.75)(state, batch(1.0))
    assert float(state.ema["first"]["a"]) == 0.75 * 1.0 + 0.25 * 0.5
    assert float(state.weights.variables("first")["params"]["a"]) == 0.875
    assert float(state.weights.variables("first", averaged=False)["params"]["a"]) == 0.5


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_step_that_is_not_finite_is_dropped_whole(poison):
    players = (pull("first"), pull("second", towards="first"))
    state = begin(NETWORKS, players, averaged=("first",))(KEY, batch(1.0))
    update = jax.jit(play(players, averaged=("first",), ema=0.5))
    after, metrics = update(state, batch(poison))
    assert float(metrics["skipped"]) == 1
    assert not np.isfinite(float(metrics["first/loss"]))
    assert int(after.step) == 1
    assert slopes(after) == slopes(state)
    assert int(after.extra["first"]["counts"]["calls"]) == 0
    after, metrics = update(after, batch(1.0))
    assert float(metrics["skipped"]) == 0
    assert slopes(after)["first"] == 0.5


def test_a_gradient_that_is_not_finite_is_dropped_too():
    """The loss is finite, its slope is not: sqrt at zero."""
    networks = {"first": NETWORKS["first"]}

    def loss(params, state, batch, rng, made):
        del state, rng, made
        return jnp.sqrt(jnp.abs(params["a"] - 1.0)) * jnp.mean(batch["x"]), ({}, {})

    players = (Player("first", loss, optax.sgd(1.0)),)
    state = begin(networks, players)(KEY, batch(1.0))
    after, metrics = play(players)(state, batch(1.0))
    assert float(metrics["first/loss"]) == 0
    assert float(metrics["skipped"]) == 1
    assert slopes(after) == {"first": 1.0}


def test_a_player_without_a_network():
    with pytest.raises(InputError, match=r"players \['third'\] move no network"):
        begin(NETWORKS, (pull("first")._replace(name="third"),))


def test_learning_rates():
    assert float(learning_rate(Optim(lr=0.5, lr_scale={"d": 0.1}), "d")(0)) == pytest.approx(0.05)
    warm = learning_rate(Optim(lr=0.5, warmup_steps=10), "g")
    assert [float(warm(s)) for s in (0, 5, 10, 99)] == pytest.approx([0, 0.25, 0.5, 0.5])
    cosine = learning_rate(Optim(lr=0.5, warmup_steps=10, schedule="cosine", decay_steps=110), "g")
    assert [float(cosine(s)) for s in (0, 10, 60, 110)] == pytest.approx([0, 0.5, 0.25, 0], abs=1e-7)
    with pytest.raises(InputError, match=r"optim\.decay_steps is 5"):
        learning_rate(Optim(schedule="cosine", warmup_steps=5, decay_steps=5), "g")


def test_clipping_and_weight_decay():
    params, grads = {"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([30.0, 40.0])}
    tx = optimiser(Optim(clip_norm=1.0, b1=0.0, b2=0.0, eps=1.0), "g")
    updates, _ = tx.update(grads, tx.init(params), params)
    clipped = np.array([0.6, 0.8])
    np.testing.assert_allclose(updates["w"], -1e-4 * clipped / (np.abs(clipped) + 1.0), rtol=1e-5)
    tx = optimiser(Optim(lr=0.1, weight_decay=0.5), "g")
    zero = {"w": jnp.zeros(2)}
    updates, _ = tx.update(zero, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.1 * 0.5 * params["w"], rtol=1e-6)


def test_a_run_can_go_on_with_other_settings():
    """The optimiser's state has one form, that of optax' Adam, with clipping and weight decay and without."""
    params = {"w": jnp.array([3.0, 4.0])}
    state = optax.chain(optax.adam(optax.constant_schedule(0.1))).init(params)
    for settings in ({}, {"clip_norm": 1.0}, {"weight_decay": 0.5}, {"clip_norm": 1.0, "weight_decay": 0.5}):
        tx = optimiser(Optim(lr=0.1, **settings), "g")
        assert jax.tree.structure(tx.init(params)) == jax.tree.structure(state)
        updates, state = tx.update({"w": jnp.array([30.0, 40.0])}, state, params)
        assert np.isfinite(updates["w"]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_norm": -1.0}, r"optim\.clip_norm is -1\.0: expected 0 or more"),
        ({"warmup_steps": -1}, r"optim\.warmup_steps is -1: expected 0 or more"),
        ({"lr": -1e-4}, r"optim\.lr is -0\.0001: expected 0 or more"),
        ({"b2": 1.0}, r"optim\.b2 is 1\.0: expected a decay from 0 to below 1"),
        ({"eps": 0.0}, r"optim\.eps is 0\.0: expected more than 0"),
        ({"schedule": "cosin"}, "schedule is 'cosin': .*did you mean 'cosine'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        optimisers(Optim(**settings), "g")


def test_settings_that_mean_nothing_are_refused():
    assert set(optimisers(Optim(lr_scale={"d": 0.1}), "d", "g")) == {"d", "g"}
    with pytest.raises(InputError, match=r"lr_scale names \['dd'\], which do not play: the players are \['d', 'g'\]"):
        optimisers(Optim(lr_scale={"dd": 0.1}), "d", "g")
    with pytest.raises(InputError, match=r"optim\.ema is 1\.0"):
        optimisers(Optim(ema=1.0), "g")


def test_precision():
    assert compute_dtype("auto") == (jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    assert compute_dtype("bfloat16") == jnp.bfloat16
    with pytest.raises(InputError, match="precision is 'float16'"):
        compute_dtype("float16")
