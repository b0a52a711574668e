"""Everything that changes in a run, and exactly what a checkpoint holds."""

import math
from collections.abc import Mapping

import jax
from flax import struct

from jaxpaint.types import PyTree


class Weights(struct.PyTreeNode):
    """What inpainting needs: the checkpoint item ``weights``.

    params: by network name, the parameters that optimisers move
    extra:  by network name, the other collections (``{"spectral": ...}``), possibly absent
    ema:    by network name, averaged copies of parameters, possibly empty
    """

    params: Mapping[str, PyTree]
    extra: Mapping[str, PyTree] = struct.field(default_factory=dict)
    ema: Mapping[str, PyTree] = struct.field(default_factory=dict)

    def variables(self, network: str, *, averaged: bool = True) -> dict[str, PyTree]:
        """The variables to ``apply`` a network with: averaged parameters where there are any."""
        params = self.ema.get(network) if averaged else None
        return {"params": self.params[network] if params is None else params, **self.extra.get(network, {})}


class State(struct.PyTreeNode):
    """The state of a run: arrays only, so that it can be donated, sharded and checkpointed.

    step:   int32 scalar, the number of updates done
    params: by network name (a network without a player is frozen)
    extra:  by network name: mutable collections
    opt:    by player name: optimiser states
    ema:    by network name: averaged parameters
    rng:    the run's key; step k uses ``fold_in(rng, k)``
    """

    step: jax.Array
    params: Mapping[str, PyTree]
    extra: Mapping[str, PyTree]
    opt: Mapping[str, PyTree]
    ema: Mapping[str, PyTree]
    rng: jax.Array

    @property
    def weights(self) -> Weights:
        """The part that inpainting needs."""
        return Weights(params=self.params, extra=self.extra, ema=self.ema)

    def items(self) -> dict[str, PyTree]:
        """The array items of a checkpoint, as plain nested dicts: ``weights`` and ``train``."""
        weights = {"params": self.params, "extra": self.extra, "ema": self.ema}
        return {"weights": weights, "train": {"opt": self.opt, "step": self.step, "rng": self.rng}}

    @classmethod
    def from_items(cls, items: Mapping[str, PyTree]) -> "State":
        """The inverse of `items`."""
        return cls(**items["weights"], **items["train"])


def count(tree: PyTree) -> int:
    """How many numbers a tree of arrays (or of their shapes) holds."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))
