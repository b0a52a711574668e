"""`play`: the fold over players that makes an update, and `begin`, which makes the first state.

One update lets every player move once, in order, inside one jitted function: a discriminator that
comes first is already moved when the generator is judged by it, and a generator's pass serves both.
"""

import functools
from collections.abc import Mapping, Sequence

import einops
import jax
import jax.numpy as jnp
import optax

from jaxpaint.ops.placement import mapped, whole
from jaxpaint.train.state import State
from jaxpaint.train.system import Network, Player
from jaxpaint.types import Batch, InputError, PyTree


def begin(networks: Mapping[str, Network], players: Sequence[Player], *, averaged: Sequence[str] = ()):
    """Makes ``init``.

    Args:
      networks: by name; each is initialised with its own key.
      players: their optimisers' states are made here.
      averaged: the networks that keep an averaged copy.

    Returns:
      ``init(rng, batch) -> State``.
    """
    unknown = [p.name for p in players if p.name not in networks]
    if unknown:
        raise InputError(f"players {unknown} move no network: the networks are {sorted(networks)}")

    def init(rng: jax.Array, batch: Batch) -> State:
        params, extra = {}, {}
        for number, (name, network) in enumerate(networks.items()):
            variables = dict(network.module.init(jax.random.fold_in(rng, number), *network.inputs(batch)))
            params[name] = variables.pop("params")
            extra[name] = variables
        return State(
            step=jnp.zeros((), jnp.int32),
            params=params,
            extra={name: collections for name, collections in extra.items() if collections},
            opt={p.name: p.tx.init(params[p.name]) for p in players},
            # A copy, not an alias: both are donated to the step.
            ema={name: jax.tree.map(jnp.copy, params[name]) for name in averaged},
            rng=jax.random.fold_in(rng, len(networks)),
        )

    return init


def play(players: Sequence[Player], *, averaged: Sequence[str] = (), ema: float = 0.0, accumulate: int = 1):
    """Makes ``update``, one training step over all players.

    Args:
      players: in the order in which they move.
      averaged: the networks whose parameters are averaged, with decay `ema` a step.
      ema: the decay.
      accumulate: micro-batches a step. Example ``i`` is in micro-batch ``i % accumulate``, so that a
        batch sharded over devices is split without moving an example.

    Returns:
      ``update(state, batch, *, axis=None) -> (State, metrics)``. Where a loss or a gradient is not
      finite, the whole step is dropped: every part of the state but ``step`` keeps its value, and the
      metric ``skipped`` is 1. The offending term is the metric that is not finite.
    """

    def passes(state: State, batch: Batch, rng: jax.Array) -> dict:
        """(outputs, how gradients flow back from them) of every player that has a forward pass."""

        def made(number: int, player: Player):
            key = jax.random.fold_in(rng, len(players) + number)
            return jax.vjp(lambda params: player.forward(params, state, batch, key), state.params[player.name])

        return {p.name: made(number, p) for number, p in enumerate(players) if p.forward is not None}

    def gradient(player: Player, state: State, extra: PyTree, batch: Batch, rng: jax.Array, passed: dict):
        """Gradient of one player, the mutable collections after it, and what its loss reports."""
        own = passed.get(player.name)

        def loss(params, outputs):
            made = {name: out for name, (out, _) in passed.items()}
            if own is not None:
                made[player.name] = outputs
            value, (changed, terms) = player.loss(params, state.replace(extra=extra), batch, rng, made)
            terms = {"loss": value, **terms}
            return value, ({**extra, **changed}, {k: v.astype(jnp.float32) for k, v in terms.items()})

        params = state.params[player.name]
        if own is None:
            grads, (extra, terms) = jax.grad(lambda p: loss(p, None), has_aux=True)(params)
            return grads, extra, terms
        outputs, back = own
        (direct, slopes), (extra, terms) = jax.grad(loss, (0, 1), has_aux=True)(params, outputs)
        return jax.tree.map(jnp.add, direct, back(slopes)[0]), extra, terms

    def accumulated(player: Player, state: State, batch: Batch, rng: jax.Array):
        """`gradient`, averaged over the micro-batches, each with passes of its own."""

        def micro(carry, xs):
            total, extra = carry
            part, number = xs
            key = jax.random.fold_in(rng, number)
            grads, extra, terms = gradient(player, state, extra, part, key, passes(state, part, key))
            return (jax.tree.map(jnp.add, total, grads), extra), terms

        zeros = jax.tree.map(jnp.zeros_like, state.params[player.name])
        parts = (_split(batch, accumulate), jnp.arange(accumulate))
        (total, extra), terms = jax.lax.scan(micro, (zeros, state.extra), parts)
        grads = jax.tree.map(lambda g: g / accumulate, total)
        return grads, extra, jax.tree.map(jnp.mean, terms)

    def update(state: State, batch: Batch, *, axis: str | None = None):
        with mapped(axis):
            return moves(state, batch, axis)

    def moves(state: State, batch: Batch, axis: str | None):
        before = state
        rng = jax.random.fold_in(state.rng, state.step)
        if axis is not None:
            rng = jax.random.fold_in(rng, jax.lax.axis_index(axis))
        metrics: dict[str, jax.Array] = {}
        finite = jnp.array(True)
        passed = passes(state, batch, rng) if accumulate == 1 else None
        for number, player in enumerate(players):
            key = jax.random.fold_in(rng, number)
            if accumulate == 1:
                grads, extra, terms = gradient(player, state, state.extra, batch, key, passed)
            else:
                grads, extra, terms = accumulated(player, state, batch, key)
            if axis is not None:
                grads, extra, terms = jax.tree.map(functools.partial(_mean_over, axis), (grads, extra, terms))
            # Summed over the mesh before the update, which may be divided over it, takes its parts.
            grads = whole(grads)
            norm = optax.tree.norm(grads)
            finite &= jnp.isfinite(terms["loss"]) & jnp.isfinite(norm)
            params, opt = state.params[player.name], state.opt[player.name]
            updates, new_opt = player.tx.update(grads, opt, params)
            moved = (optax.apply_updates(params, updates), new_opt, extra)
            if player.every > 1:
                moved = _select(state.step % player.every == 0, moved, (params, opt, state.extra))
            state = state.replace(
                params={**state.params, player.name: moved[0]},
                opt={**state.opt, player.name: moved[1]},
                extra=moved[2],
            )
            metrics |= {f"{player.name}/{k}": v for k, v in terms.items()}
            metrics[f"{player.name}/grad_norm"] = norm
        mean = {name: optax.incremental_update(state.params[name], state.ema[name], 1 - ema) for name in averaged}
        state = _select(finite, state.replace(ema={**state.ema, **mean}), before)
        metrics["skipped"] = 1.0 - finite.astype(jnp.float32)
        return state.replace(step=before.step + 1), metrics

    return update


def _mean_over(axis: str, x: jax.Array) -> jax.Array:
    """The mean over the devices; what has no mean (a counter, a key) moves alike on all of them and stays."""
    return jax.lax.pmean(x, axis) if jnp.issubdtype(x.dtype, jnp.inexact) else x


def _select(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _split(batch: Batch, parts: int) -> PyTree:
    """Leaves ``b ...`` to ``parts b/parts ...``."""

    def one(x: jax.Array) -> jax.Array:
        if x.shape[0] % parts:
            raise InputError(
                f"optim.accumulate is {parts} but the batch has {x.shape[0]} examples: make the batch a multiple of it"
            )
        return einops.rearrange(x, "(b parts) ... -> parts b ...", parts=parts)

    return jax.tree.map(one, dict(batch))
