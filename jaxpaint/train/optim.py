"""How parameters move: the optimiser settings that every system shares."""

import dataclasses
from typing import Literal

import optax

from jaxpaint.types import InputError, check_choices


@dataclasses.dataclass
class Optim:
    """Optimiser settings, the same for every player unless `lr_scale` says otherwise.

    lr:           learning rate after warm-up
    b1, b2, eps:  Adam's constants
    weight_decay: decoupled (AdamW); 0 is plain Adam
    clip_norm:    gradients of a player are scaled down to this global norm; 0 leaves them alone
    schedule:     of the learning rate after warm-up: constant, or cosine to zero at `decay_steps`
    warmup_steps: linear from zero
    decay_steps:  length of the cosine, warm-up included
    lr_scale:     a player's learning rate as a multiple of `lr`, {"discriminator": 0.1}
    accumulate:   micro-batches a step: gradients are averaged over them, memory is that of one
    ema:          decay of the averaged weights per step; 0 keeps none
    """

    lr: float = 1e-4
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    decay_steps: int = 0
    lr_scale: dict[str, float] = dataclasses.field(default_factory=dict)
    accumulate: int = 1
    ema: float = 0.0


def learning_rate(optim: Optim, player: str) -> optax.Schedule:
    """Step -> learning rate of a player.

    Raises:
      InputError: a cosine that ends before it begins.
    """
    peak = optim.lr * optim.lr_scale.get(player, 1.0)
    if optim.schedule == "cosine":
        if optim.decay_steps <= optim.warmup_steps:
            raise InputError(
                f"optim.decay_steps is {optim.decay_steps}: a cosine schedule needs more than the "
                f"{optim.warmup_steps} steps of optim.warmup_steps; set it to the run's length"
            )
        return optax.warmup_cosine_decay_schedule(0.0, peak, optim.warmup_steps, optim.decay_steps)
    if optim.warmup_steps:
        return optax.linear_schedule(0.0, peak, optim.warmup_steps)
    return optax.constant_schedule(peak)


def optimisers(optim: Optim, *players: str) -> dict[str, optax.GradientTransformation]:
    """An `optimiser` for each of a system's players, by name.

    Raises:
      InputError: `lr_scale` names no player; a setting is out of its range.
    """
    check_choices(optim)
    for name in ("lr", "weight_decay", "clip_norm", "warmup_steps", "decay_steps"):
        if getattr(optim, name) < 0:
            raise InputError(f"optim.{name} is {getattr(optim, name)}: expected 0 or more")
    for name in ("b1", "b2"):
        if not 0 <= getattr(optim, name) < 1:
            raise InputError(f"optim.{name} is {getattr(optim, name)}: expected a decay from 0 to below 1")
    if optim.eps <= 0:
        raise InputError(f"optim.eps is {optim.eps}: expected more than 0")
    unknown = sorted(set(optim.lr_scale) - set(players))
    if unknown:
        raise InputError(f"optim.lr_scale names {unknown}, which do not play: the players are {list(players)}")
    if not 0 <= optim.ema < 1:
        raise InputError(f"optim.ema is {optim.ema}: expected a decay from 0 (keep no average) to below 1")
    return {player: optimiser(optim, player) for player in players}


def optimiser(optim: Optim, player: str) -> optax.GradientTransformation:
    """Adam (AdamW where there is weight decay) for one player. Its state has one form whatever the settings are: a run
    can be resumed with others."""
    rate = optax.scale_by_learning_rate(learning_rate(optim, player))
    if optim.weight_decay:
        rate = _after(optax.add_decayed_weights(optim.weight_decay), rate)
    adam = optax.chain(optax.scale_by_adam(optim.b1, optim.b2, optim.eps), rate)
    if optim.clip_norm:
        adam = _after(optax.clip_by_global_norm(optim.clip_norm), adam)
    return optax.chain(adam)


def _after(first: optax.GradientTransformation, then: optax.GradientTransformation) -> optax.GradientTransformation:
    """One transformation after another that has no state, with the state of the later one alone."""

    def update(updates, state, params=None):
        updates, _ = first.update(updates, optax.EmptyState(), params)
        return then.update(updates, state, params)

    return optax.GradientTransformation(then.init, update)
