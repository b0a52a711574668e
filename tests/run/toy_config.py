"""One small network, which compiles in a second, as a system."""

import dataclasses

import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.data.config import Data
from jaxpaint.ops.masks import Masks
from jaxpaint.ops.pixels import composite
from jaxpaint.parallel.layout import Layout
from jaxpaint.run.config import Experiment, Train
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Network, Optim, Page, Player, System, begin, optimisers, play

NOTE = "a toy paints nothing worth a figure"


@dataclasses.dataclass
class Config:
    width: int = 16


class Net(nn.Module):
    width: int

    @nn.compact
    def __call__(self, image, mask):
        x = jnp.concatenate([image * (1 - mask), mask], -1)
        for _ in range(3):
            x = nn.relu(nn.Conv(self.width, (5, 5))(x))
        return nn.Conv(3, (5, 5))(x)


def build(config, optim=None, dtype=jnp.float32):
    net = Network(Net(config.width), lambda batch: (batch["image"], batch["mask"]))

    def fill(params, batch):
        return net.module.apply({"params": params}, *net.inputs(batch))

    def loss(params, state, batch, rng, made):
        value = jnp.abs(fill(params, batch) - batch["image"]).mean()
        return value, ({}, {"l1": value})

    def inpaint(weights, batch, rng):
        return composite(fill(weights.params["net"], batch), batch["image"], batch["mask"])

    players = (Player("net", loss, optimisers(optim or Optim(), "net")["net"]),)
    return System(begin({"net": net}, players), play(players), inpaint, {"net": net}, (NOTE,))


SYSTEMS["toy"] = Page("a toy", Config, build, Config(), "net/l1")


def get_config():
    return Experiment(
        system="toy",
        model=Config(),
        data=Data(size=(64, 64)),
        masks=Masks(family="box"),
        mesh=Layout(data=1),
        train=Train(batch=4),
    )
