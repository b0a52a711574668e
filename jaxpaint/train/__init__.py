"""The engine: what a system is, what its state is, and how players make an update."""

from jaxpaint.train.optim import Optim, optimiser, optimisers
from jaxpaint.train.play import begin, play
from jaxpaint.train.precision import compute_dtype
from jaxpaint.train.state import State, Weights
from jaxpaint.train.system import Extent, Network, Page, Player, System

__all__ = [
    "Extent",
    "Network",
    "Optim",
    "Page",
    "Player",
    "State",
    "System",
    "Weights",
    "begin",
    "compute_dtype",
    "optimiser",
    "optimisers",
    "play",
]
