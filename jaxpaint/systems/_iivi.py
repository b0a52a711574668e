"""Fitting IIVI's network to one clip (Ouyang, Wang, Chen; ICCV 2021, arXiv 2108.01912): training is inference.

    params, history = fit(frames, masks, FitConfig(steps=600), jax.random.key(0))
    filled = fill(frames, masks, params, FitConfig())

The first phase of the released training: L1 of both stages over what is known, masks borrowed and rolled. Where
`FitConfig.coarse_steps` asks for it, the coarse stage learns alone before: at a few hundred steps the refinement adds
nothing yet and takes three fifths of the time.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxpaint.losses.internal import known_l1
from jaxpaint.models.iivi import Generator
from jaxpaint.ops.internal import training_masks
from jaxpaint.ops.pixels import composite
from jaxpaint.train import Optim, optimiser
from jaxpaint.types import InputError, PyTree


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """The released numbers.

    width:        of the network
    gain:         of its gated kernels at the start; 1 as released, near 3 keeps the signal's size and learns sooner
    batch:        frames a step
    mixed:        their order and shifts, see `jaxpaint.ops.internal.training_masks`; not as released
    coarse_steps: steps of the coarse stage alone, before those of both; none as released
    steps:        steps of both stages; 0 leaves the refinement out
    lr:           of Adam (eps 1e-7)
    schedule:     of the learning rate, for the coarse steps and for the others: constant as released, or cosine to zero
    warmup:       steps with a learning rate that rises from zero, of each
    """

    width: int = 48
    gain: float = 1.0
    batch: int = 5
    mixed: bool = False
    coarse_steps: int = 0
    steps: int = 50_000
    lr: float = 2e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0


def make_step(config: FitConfig, steps: int, *, refine: bool = True, dtype: jnp.dtype = jnp.float32):
    """One of the two parts of a fit.

    Args:
      config: see `FitConfig`
      steps: length of the part, for the schedule
      refine: both stages learn, otherwise the coarse one alone
      dtype: of the activations

    Returns:
      ``init(key, frames) -> params``, ``begin(params) -> state`` and ``step(state, number, frames, masks, key) ->
      (state, terms)``, none of them jitted; all may be mapped over clips (`jax.vmap`). The state is (params,
      optimiser's state); number counts from 0 over the whole fit; terms are the two L1 terms, of the coarse stage and
      of the result (the same where nothing is refined).
    """
    module = Generator(width=config.width, gain=config.gain, dtype=dtype)
    settings = Optim(lr=config.lr, eps=1e-7, schedule=config.schedule, warmup_steps=config.warmup, decay_steps=steps)
    tx = optimiser(settings, "generator")

    def init(key: jax.Array, frames: jax.Array) -> PyTree:
        frame = frames[:1]
        return module.init(key, frame, jnp.zeros_like(frame[..., :1]), refine=refine)["params"]

    def begin(params: PyTree):
        return params, tx.init(params)

    def step(state, number: jax.Array, frames: jax.Array, masks: jax.Array, key: jax.Array):
        params, opt = state
        index, own, hidden = training_masks(key, number, masks, config.batch, mixed=config.mixed)
        frame = frames[index]

        def loss(params: PyTree):
            result, out = module.apply({"params": params}, frame, hidden, refine=refine)
            coarse, final = known_l1(out["stage1"], frame, own), known_l1(result, frame, own)
            return coarse + final if refine else coarse, jnp.stack([coarse, final])

        gradient, terms = jax.grad(loss, has_aux=True)(params)
        updates, opt = tx.update(gradient, opt, params)
        return (optax.apply_updates(params, updates), opt), terms

    return init, begin, step


def fit(
    frames: jax.Array,
    masks: jax.Array,
    config: FitConfig,
    key: jax.Array,
    *,
    start: PyTree | None = None,
    watch: Callable[[int, PyTree], None] | None = None,
) -> tuple[PyTree, np.ndarray]:
    """Trains a network on one clip.

    Args:
      frames: t h w 3 in [-1, 1], h and w divisible by 4; what they hold inside their holes is not looked at
      masks: t h w 1, 1 = hole, possibly with soft edges
      config: see `FitConfig`
      key: of all that is drawn
      start: parameters to start from, what another clip's fit gave, in place of drawn ones
      watch: called with (number of steps done, params) after every step; the parameters live until the next one

    Returns:
      (params; (coarse_steps + steps) 2, the L1 terms of the coarse stage and of the result at every step)

    Raises:
      InputError: frames and masks of different sizes, a clip of which nothing is known, or no steps.
    """
    _check(frames, masks, config)
    init_key, coarse_key, key = jax.random.split(key, 3)
    # What is in a hole is multiplied by 0 in the loss, and NaN times 0 is NaN.
    frames = jnp.where(masks == 1, 0.0, frames)
    init, _, _ = _programs(config, config.steps or config.coarse_steps, config.steps > 0)
    params = init(init_key, frames) if start is None else jax.tree.map(jnp.copy, start)
    history = []

    def descend(params: PyTree, steps: int, key: jax.Array, refine: bool) -> PyTree:
        _, begin, step = _programs(config, steps, refine)
        state = begin(params)
        for number in range(steps):
            state, terms = step(state, number, frames, masks, key)
            history.append(terms)
            if watch is not None:
                watch(len(history), state[0])
        return state[0]

    if config.coarse_steps:
        # The rest of the network is no part of what is moved: its optimiser begins when it does.
        coarse = descend({"coarse_net": params["coarse_net"]}, config.coarse_steps, coarse_key, refine=False)
        params = {**params, **coarse} if config.steps else coarse
    if config.steps:
        params = descend(params, config.steps, key, refine=True)
    return params, np.asarray(jnp.stack(history))


@functools.cache
def _programs(config: FitConfig, steps: int, refine: bool) -> tuple[Callable, Callable, Callable]:
    """`make_step`, jitted: clips of one size that are fitted one after another share the programs."""
    init, begin, step = make_step(config, steps, refine=refine)
    return jax.jit(init), jax.jit(begin, donate_argnums=0), jax.jit(step, donate_argnums=0)


@functools.partial(jax.jit, static_argnums=3)
def fill(frames: jax.Array, masks: jax.Array, params: PyTree, config: FitConfig) -> jax.Array:
    """Frames with their holes filled, known pixels bit for bit; whatever is not 0 in a mask is filled.

    Args:
      frames: t h w 3 in [-1, 1]
      masks: t h w 1
      params: of `fit`; without the refinement's the coarse picture is taken
      config: of the fit

    Returns:
      t h w 3
    """
    holes = (masks != 0).astype(jnp.float32)
    module = Generator(width=config.width)
    result, _ = module.apply({"params": params}, frames, holes, refine="out_branch" in params)
    return composite(result, frames, holes)


def _check(frames: jax.Array, masks: jax.Array, config: FitConfig) -> None:
    if frames.ndim != 4 or masks.shape != (*frames.shape[:3], 1):
        raise InputError(f"a clip of {frames.shape} with masks of {masks.shape}: expected t h w 3 and t h w 1")
    if not np.any(np.asarray(masks) == 0):
        raise InputError(f"the masks hide all of {frames.shape[0]} frames: nothing is known that could be learnt from")
    if config.steps + config.coarse_steps < 1:
        raise InputError("a fit of no steps: set steps, coarse_steps or both")
