"""The first state of a run: resumed, or new, then perhaps with published weights and with another run's."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.convert.features import load
from jaxpaint.io.checkpoint import Checkpoints
from jaxpaint.io.fingerprint import named_leaves
from jaxpaint.io.warm_start import warm_start
from jaxpaint.io.weights import LoadedWeights, restore_weights
from jaxpaint.parallel.compile import Program
from jaxpaint.train import State, System
from jaxpaint.types import InputError, PyTree


def published_weights(system: System) -> dict[str, PyTree]:
    """Variables of the networks that start with published weights, by name, as NumPy arrays.

    Raises:
      InputError: a file is missing, is not the published one, or does not fit its network.
    """
    return {
        name: load(network.published, network.module, part=True)
        for name, network in system.networks.items()
        if network.published is not None
    }


def start(
    program: Program,
    checkpoints: Checkpoints,
    seed: int,
    published: Mapping[str, PyTree],
    init_from: str | None,
    say: Callable[[str], None],
) -> tuple[State, int]:
    """The first state and its step.

    Args:
      program: of the run
      checkpoints: of the run: where there is one it resumes, and everything below is not looked at
      seed: of the weights
      published: see `published_weights`
      init_from: a checkpoint to take fitting weights from; they come after the published ones
      say: where lines for the user go

    Raises:
      InputError: a checkpoint that cannot be used.
    """
    restored = checkpoints.restore(program.abstract.items())
    if restored is not None:
        say(f"resumed from step {restored.step:,} in {checkpoints.directory}")
        if init_from:
            say(f"--init-from {init_from} is not used: the run resumes")
        return State.from_items(restored.items), restored.step
    state = program.begin(jax.random.key(seed))
    weights = {"params": state.params, "extra": state.extra}
    for name, variables in published.items():
        weights = _replaced(weights, name, variables)
        say(f"{name} starts with its published weights")
    if init_from:
        loaded = restore_weights(init_from)
        _check_frozen(published, state, loaded, init_from)
        weights, matched = warm_start(weights, loaded.weights)
        say(f"--init-from {init_from} (step {loaded.step:,}):\n{matched}")
    if not published and not init_from:
        return state, 0
    # The averaged weights start where the weights start.
    ema = {name: _copy(weights["params"][name], tree) for name, tree in state.ema.items()}
    return state.replace(**weights, ema=ema), 0


def _replaced(weights: Mapping[str, Any], name: str, variables: PyTree) -> dict[str, Any]:
    """`weights` with those of a network in place, and where they lay."""
    variables = dict(variables)
    new = {"params": variables.pop("params"), **({"extra": variables} if variables else {})}
    old = {part: weights[part][name] for part in new}
    filled, _ = warm_start(old, new, strict=True)
    return {**weights, **{part: {**weights[part], name: filled[part]} for part in filled}}


def _check_frozen(published: Mapping[str, PyTree], state: State, loaded: LoadedWeights, init_from: str) -> None:
    """Refuses another run's weights for a network that nobody trains, where they are not the published ones."""
    for name, variables in published.items():
        if name in state.opt:
            continue
        ours, theirs = named_leaves(variables["params"]), named_leaves(loaded.weights["params"].get(name, {}))
        if any(leaf in theirs and not np.array_equal(theirs[leaf], array) for leaf, array in ours.items()):
            raise InputError(
                f"--init-from {init_from} has other weights of {name} than the published ones, with which this run "
                "starts, and nothing trains it: what was learnt there was learnt with those. Set the model's config as "
                "it was there, or start without --init-from"
            )


def _copy(params: PyTree, like: PyTree) -> PyTree:
    """A copy, not an alias, as both are donated to the step; where `like` lies."""
    copies = functools.partial(jax.tree.map, jnp.copy)
    return jax.jit(copies, out_shardings=jax.tree.map(lambda x: x.sharding, like))(params)
