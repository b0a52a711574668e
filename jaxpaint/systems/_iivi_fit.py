"""Fitting IIVI's networks to the frames of a clip (Ouyang, Wang, Chen; ICCV 2021, arXiv 2108.01912).

A *footage* is a clip at one size. Batches are taken from it on the host, a few frames at a time, so that memory does
not grow with the clip; everything that is drawn for a step hangs on (key, step). `descend` makes the steps of one
phase, for one clip, or for several of one size at once (`jax.vmap` over their networks).

What is learnt from: a frame's own hole hides it from everybody; another frame's hole, rolled to another
place, hides it from the network alone, which is told there what is right.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxpaint.io.store import Store
from jaxpaint.losses.internal import ambiguity_pair, anti_ambiguity, known_l1, stabilisation
from jaxpaint.models.iivi import MULTIPLE
from jaxpaint.ops.internal import drawn, hide
from jaxpaint.ops.pad import round_up
from jaxpaint.ops.pixels import from_uint8
from jaxpaint.ops.projective import draw_jitter, jitter_transform, project
from jaxpaint.types import Batch, PyTree

Frames = np.ndarray | Store


class Footage(NamedTuple):
    """A clip at one size; arrays, or stores of frames on disk.

    frames: t h w 3: uint8, or floats in [-1, 1]; what they hold inside their holes is not looked at
    masks:  t h w 1, 1 = hole, possibly with soft edges
    priors: t h w 3, as the frames: what was made at a smaller size, enlarged; None where there is no such thing
    """

    frames: Frames
    masks: Frames
    priors: Frames | None = None


class Phase(NamedTuple):
    """A part of a fit.

    name:  "coarse": the coarse stage alone; "both" stages; "regular": both, with the two regularisers; "refine": a
           prior in place of the coarse stage
    steps: its length
    """

    name: str
    steps: int


class Networks(NamedTuple):
    """What a fit uses.

    generator: of both stages
    refiner:   the one that is given priors
    features:  (frozen parameters, pictures b h w 3) -> features for the anti-ambiguity loss; None: that has no weight
    """

    generator: nn.Module
    refiner: nn.Module
    features: Callable | None


Take = Callable[[int], dict[str, np.ndarray]]
"""Step -> its batch, uint8 or float: ``frame`` b h w 3, ``own`` b h w 1, ``borrowed`` b h w 1, ``shifts`` b 2 (or 1 2),
perhaps ``prior`` b h w 3."""


def sizes(height: int, width: int, base: int) -> list[tuple[int, int]]:
    """The sizes at which a clip is worked on, the smallest first; all divisible by 4, the last the clip's own or more.

    Args:
      height, width: of the clip
      base: the shorter side of the first size; 0, or more than the clip has: its own is the only one
    """
    shorter, full = min(height, width), (round_up(height, MULTIPLE), round_up(width, MULTIPLE))
    if not base or shorter <= base:
        return [full]
    count = math.ceil(math.log2(shorter / base) - 1e-9)
    scales = [(base / shorter) ** (1 - level / count) for level in range(count)]
    return [*(tuple(max(MULTIPLE, MULTIPLE * round(s * x / MULTIPLE)) for x in (height, width)) for s in scales), full]


def phases(config: Any) -> list[tuple[str, int]]:
    """(name, steps) of what is learnt at the first size."""
    parts = (("coarse", config.coarse_steps), ("both", config.steps), ("regular", config.regular_steps))
    return [(name, steps) for name, steps in parts if steps]


def objective(
    config: Any, networks: Networks, phase: str, params: PyTree, frozen: PyTree, batch: Batch, key: jax.Array
):
    """The loss of a step, with the weights of the released code.

    Args:
      config: of the page
      networks: see `Networks`
      phase: name of a `Phase`
      params: of the generator, or of the refiner
      frozen: of the feature network
      batch: ``frame`` b h w 3 in [-1, 1], ``own`` and ``hidden`` b h w 1, perhaps ``prior``
      key: of the transforms that stabilise

    Returns:
      (scalar; {name: scalar}, its unweighted terms)
    """
    frame, own, hidden = batch["frame"], batch["own"], batch["hidden"]
    if phase == "refine":
        result, _ = networks.refiner.apply({"params": params}, frame, hidden, batch["prior"])
        term = known_l1(result, frame, own)
        return term, {"refined": term}
    network = functools.partial(networks.generator.apply, {"params": params})
    if phase == "coarse":
        result, _ = network(frame, hidden, refine=False)
        term = known_l1(result, frame, own)
        return term, {"coarse": term}
    result, out = network(frame, hidden)
    terms = {"coarse": known_l1(out["stage1"], frame, own), "final": known_l1(result, frame, own)}
    total = terms["coarse"] + terms["final"]
    if phase == "both":
        return total, terms
    transform = jitter_transform(draw_jitter(key, frame.shape[0]), *frame.shape[1:3], swapped=False)
    moved, own_moved, hidden_moved = (
        project(x, transform, nearest=nearest) for x, nearest in ((frame, False), (own, True), (hidden, True))
    )
    result_moved, out_moved = network(moved, hidden_moved)
    terms["stabilisation"] = sum(
        stabilisation(still, after, frame, moved, own, own_moved)
        for still, after in ((out["stage1"], out_moved["stage1"]), (result, result_moved))
    )
    total += config.stabilisation_weight * terms["stabilisation"]
    if networks.features is not None:
        mine, other = (networks.features(frozen, picture) for picture in ambiguity_pair(result, frame, own))
        terms["ambiguity"] = anti_ambiguity(mine, jax.lax.stop_gradient(other))
        total += config.ambiguity_weight * terms["ambiguity"]
    return total, terms


def make_step(config: Any, networks: Networks, phase: str) -> tuple[Callable, Callable]:
    """``begin(params) -> state`` and ``step(state, frozen, batch, rate, key) -> (state, terms)``, not jitted.

    The batch is a `Take`'s, rate the learning rate. The optimiser is Adam with the epsilon of Keras, 1e-7.
    """
    tx = optax.adam(1.0, eps=1e-7)

    def begin(params: PyTree):
        return params, tx.init(params)

    def step(state, frozen: PyTree, batch: Batch, rate: jax.Array, key: jax.Array):
        params, opt = state
        ready = prepared(batch)
        loss = functools.partial(objective, config, networks, phase)
        gradient, terms = jax.grad(loss, has_aux=True)(params, frozen, ready, key)
        updates, opt = tx.update(gradient, opt, params)
        updates = jax.tree.map(lambda update: rate * update, updates)
        return (optax.apply_updates(params, updates), opt), terms

    return begin, step


def prepared(batch: Batch) -> Batch:
    """A `Take`'s batch as `objective` takes it."""
    own = batch["own"].astype(jnp.float32)
    # What is in a hole is multiplied by 0 in the loss, and NaN times 0 is NaN.
    ready = {"frame": jnp.where(own == 1, 0.0, _floats(batch["frame"])), "own": own}
    if "prior" in batch:
        ready["prior"] = _floats(batch["prior"])
    return {**ready, "hidden": hide(own, batch["borrowed"].astype(jnp.float32), batch["shifts"])}


def _floats(picture: jax.Array) -> jax.Array:
    return from_uint8(picture) if jnp.issubdtype(picture.dtype, jnp.integer) else picture.astype(jnp.float32)


def whole_frames(footage: Footage, config: Any, key: jax.Array) -> Take:
    """Batches of whole frames."""
    count, height, width, _ = footage.masks.shape

    def take(step: int) -> dict[str, np.ndarray]:
        draws = _drawn(key, step, count, height, width, config.batch, config.mixed)
        index, borrowed, shifts = (np.asarray(x) for x in draws)
        return {
            "frame": footage.frames[index],
            "own": footage.masks[index],
            "borrowed": footage.masks[borrowed],
            "shifts": shifts,
        }

    return take


_drawn = jax.jit(
    lambda key, step, count, height, width, batch, mixed: drawn(key, step, count, height, width, batch, mixed=mixed),
    static_argnums=(2, 3, 4, 5, 6),
)


def crops(footage: Footage, places: Callable[[int, np.random.Generator], tuple[float, float]], config: Any, seed: int):
    """Batches of crops around the borders of holes, of `config.crop`, or the frame where it is smaller.

    Args:
      footage: with priors; stores, of which the crops alone are read
      places: (frame, generator) -> a place on the border of its hole, in shares of height and width
      config: of the page
      seed: of all draws
    """
    count, height, width, _ = footage.masks.shape
    size = (min(config.crop[0], height), min(config.crop[1], width))

    def window(number: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        place = places(number, rng)
        jitter = rng.uniform(-0.25, 0.25, 2)
        corner = [
            int(np.clip(share * side + (move - 0.5) * part, 0, side - part))
            for share, move, side, part in zip(place, jitter, (height, width), size, strict=True)
        ]
        return (*corner, *size)

    def take(step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([seed, step])
        batch = {"frame": [], "own": [], "borrowed": [], "prior": []}
        for number in rng.integers(0, count, config.batch):
            where = window(number, rng)
            batch["frame"].append(footage.frames.window(number, *where))
            batch["own"].append(footage.masks.window(number, *where))
            batch["prior"].append(footage.priors.window(number, *where))
            other = rng.integers(count)
            batch["borrowed"].append(footage.masks.window(other, *window(other, rng)))
        stacked = {name: np.stack(parts) for name, parts in batch.items()}
        return {**stacked, "shifts": rng.integers(0, size, (config.batch, 2), dtype=np.int32)}

    return take


class Course:
    """The learning rate of a phase, step by step, and when it ends.

    The rate rises from zero over `warmup` steps. Then it is constant, or falls to zero as a cosine over the phase, or
    (plateau) is constant until the error on held-out pixels has not fallen for `patience` looks, or three quarters of
    the steps are done, and then falls as a cosine over a third of the steps done so far.
    """

    def __init__(self, config: Any, steps: int):
        self.config, self.steps, self.falls_at = config, steps, None
        self.best, self.waited = np.inf, 0
        if config.schedule == "cosine":
            self.falls_at = config.warmup
        elif config.schedule == "plateau":
            self._fall(3 * steps // 4, steps)

    def _fall(self, at: int, end: int) -> None:
        self.falls_at, self.steps = at, end

    def rate(self, number: int) -> float:
        rise = min(1.0, number / self.config.warmup) if self.config.warmup else 1.0
        if self.falls_at is None or number < self.falls_at:
            return self.config.lr * rise
        done = (number - self.falls_at) / max(1, self.steps - self.falls_at)
        return self.config.lr * rise * 0.5 * (1 + np.cos(np.pi * min(done, 1.0)))

    def looks(self, number: int) -> bool:
        """Whether the held-out error is wanted after so many steps."""
        return self.config.schedule == "plateau" and number < self.falls_at and number % self.config.look_every == 0

    def seen(self, number: int, error: float) -> None:
        """Takes the held-out error after so many steps."""
        self.waited = 0 if error < 0.995 * self.best else self.waited + 1
        self.best = min(self.best, error)
        if self.waited >= self.config.patience:
            self._fall(number, number + max(1, number // 3))


def descend(
    config: Any,
    networks: Networks,
    phase: Phase,
    params: Sequence[PyTree],
    frozen: PyTree,
    takes: Sequence[Take],
    keys: Sequence[jax.Array],
    *,
    final_takes: Sequence[Take] = (),
    held_out: Callable[[PyTree], float] | None = None,
    say: Callable[[str], None] = lambda text: None,
    watch: Callable[[int, PyTree], None] | None = None,
    mapped: bool | None = None,
) -> tuple[list[PyTree], list[dict[str, np.ndarray]]]:
    """The steps of a phase, for one clip or for several of one size.

    Args:
      config: of the page
      networks: see `Networks`
      phase: what is learnt, and in how many steps
      params: of each clip's network; they are not changed
      frozen: of the feature network
      takes: of each clip
      keys: of each clip
      final_takes: once the learning rate falls (plateau): those without held-out parts
      held_out: params -> error on held-out pixels, of one clip
      say: is told how far it is
      watch: called with (number of steps done, params of the first clip) after every step; the parameters live until
        the next one
      mapped: several clips' steps are one program (`jax.vmap`), otherwise each clip's are by themselves, in turn. None:
        on an accelerator alone. XLA's convolutions with a kernel for each example are slow on a CPU

    Returns:
      (params of each clip, its terms: {name: steps})
    """
    mapped = jax.default_backend() != "cpu" if mapped is None else mapped
    groups = [list(range(len(takes)))] if mapped else [[clip] for clip in range(len(takes))]
    begin, step = _programs(config, networks, phase.name, len(groups[0]))
    course, history = Course(config, phase.steps), []
    of_group = [_joined([keys[clip] for clip in group]) for group in groups]
    states = [begin(jax.tree.map(jnp.copy, _joined([params[clip] for clip in group]))) for group in groups]
    number = 0
    while number < course.steps:
        falling = course.falls_at is not None and number >= course.falls_at
        chosen, rate, terms = final_takes if final_takes and falling else takes, course.rate(number), []
        for place, group in enumerate(groups):
            batch = _joined([chosen[clip](number) for clip in group])
            states[place], made = step(states[place], frozen, batch, rate, of_group[place], number)
            terms.append(made)
        history.append(terms)
        number += 1
        if watch is not None:
            watch(number, _parted(states[0][0], len(groups[0]))[0])
        if held_out is not None and course.looks(number):
            course.seen(number, held_out(states[0][0]))
        if number % 50 == 0 or number == course.steps:
            means = {name: np.mean([np.mean(made[name]) for made in terms]) for name in terms[0]}
            shown = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
            say(f"{phase.name} step {number} of {course.steps}: {shown}")
    fitted, told = [], []
    for place, group in enumerate(groups):
        fitted += _parted(states[place][0], len(group))
        columns = jax.tree.map(lambda *steps: np.stack(steps, axis=-1), *[terms[place] for terms in history])
        told += _parted(columns, len(group))
    return fitted, told


@functools.cache
def _programs(config: Any, networks: Networks, phase: str, count: int) -> tuple[Callable, Callable]:
    """`make_step`, jitted, for so many clips; fits to clips of one size, one after another, share the programs."""
    begin, one = make_step(config, networks, phase)

    def step(state, frozen, batch, rate, key, number):
        return one(state, frozen, batch, rate, jax.random.fold_in(key, number))

    if count > 1:
        begin, step = jax.vmap(begin), jax.vmap(step, (0, None, 0, None, 0, None))
    return jax.jit(begin), jax.jit(step, donate_argnums=0)


def _joined(trees: Sequence[PyTree]) -> PyTree:
    """Of several clips with an axis for them in front; of one as it is."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _parted(tree: PyTree, count: int) -> list[PyTree]:
    """The inverse of `_joined`."""
    return [tree] if count == 1 else [jax.tree.map(lambda leaf, clip=clip: leaf[clip], tree) for clip in range(count)]
