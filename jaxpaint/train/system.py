"""The one abstraction: a published method is a record of pure functions."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import optax
from flax import linen as nn

from jaxpaint.types import Batch


class Network(NamedTuple):
    """A Linen module of a system, and what it is called with.

    module: to be borrowed, too: ``system.networks["generator"].module``
    inputs: batch -> the positional arguments of the module's call
    published: the name of the published weights that a run starts with, of `jaxpaint.io.pretrained.FILES`; None keeps
        what `init` drew. A checkpoint holds them, so whoever has one needs no file
    """

    module: nn.Module
    inputs: Callable[[Batch], tuple]
    published: str | None = None


class Extent(NamedTuple):
    """What of a clip a stream gives: its frames from `first` to the last, at this size."""

    first: int
    height: int
    width: int


class System(NamedTuple):
    """A published method.

    init:    ``(rng, batch) -> State``. Only shapes of the batch matter; safe under ``jax.eval_shape``.
    update:  ``(state, batch, *, axis=None) -> (State, metrics)``, one training step over all players;
             ``axis`` names the pmap axis over which gradients are averaged. Metrics are scalars,
             named ``player/term``.
    inpaint: ``(weights, batch, rng) -> images``, b h w 3 in [-1, 1]: any height and width from 32 up,
             known pixels bit for bit as given (`jaxpaint.ops.pixels.composite` comes last). Of a page of clips
             (`Page.video`) batch and result have a time axis: b t h w 3.
    networks: by name, what `init` makes variables for
    notes:   sentences that every report about this system repeats: what a reader of its figures has to know
    stream:  ``(weights, clip, masks, key, say) -> iterator`` of uint8 h w 3, the filled frames of a clip of any length,
             in order, from constant memory; clip and masks are `jaxpaint.io.frames.Clip`, which can be read from any
             frame on and more than once; ``say(text)`` tells a waiting user how far it is. None: frames are filled one
             by one by `inpaint`
    sees:    what a frame of a clip is filled from, for protocol cards
    extent:  ``clip -> Extent`` of what `stream` gives; None: all frames, at the clip's size
    """

    init: Callable
    update: Callable
    inpaint: Callable
    networks: Mapping[str, Network]
    notes: tuple[str, ...] = ()
    stream: Callable | None = None
    sees: str = "the frame alone"
    extent: Callable[[Any], Extent] | None = None


class Player(NamedTuple):
    """One optimiser and the loss that it descends.

    name:    the entry of ``State.params`` that it moves, and of ``State.opt`` that it keeps
    loss:    ``(params, state, batch, rng, made) -> (scalar, (extra, metrics))``. ``params`` are the player's own,
             all other networks are read from ``state``; ``extra`` holds the mutable collections that
             changed, by network name; ``metrics`` are scalars by short name ("l1", "adversarial").
             The scalar is a mean over the examples of the batch.
    tx:      the optax transformation
    every:   the player moves at steps divisible by this (lazy regularisation: 16)
    forward: ``(params, state, batch, rng) -> outputs``: a pass of the player's network that the losses of all players
             look at, as ``made[name]``. It is made once a step, before anybody moves, and the player's gradient
             flows back through it: a generator is not run again for its discriminator
    """

    name: str
    loss: Callable[[Any, Any, Batch, Any, Any], tuple]
    tx: optax.GradientTransformation
    every: int = 1
    forward: Callable[[Any, Any, Batch, Any], Any] | None = None


class Page(NamedTuple):
    """A system's entry in `jaxpaint.systems.SYSTEMS`.

    title:  the paper's title, venue, arXiv id
    config: the dataclass that holds the paper's numbers; ``config()`` is the published system, unless its page says
            which of its variants is
    build:  ``(config, optim: Optim = Optim(), dtype=jnp.float32) -> System``
    tiny:   a config small enough that tests of the whole machinery run in seconds
    watch:  the metric that shows learning: it falls when one batch is repeated ("generator/l1")
    video:  whether examples are clips: ``image`` b t h w 3, ``mask`` b t h w 1
    internal: whether it learns from the very clip that it fills: ``stream`` takes weights without networks that it
             learns, and what it returns at its end (as a generator) are the weights that it has learnt
    variants: other configs worth a name, for ``--method NAME:VARIANT``
    """

    title: str
    config: type
    build: Callable[..., System]
    tiny: Any
    watch: str
    video: bool = False
    internal: bool = False
    variants: Mapping[str, Any] = MappingProxyType({})
