"""A small network for clips, which compiles in a second, as a system: a frame is filled from it and its neighbours."""

import dataclasses

import einops
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxpaint.data.config import Data
from jaxpaint.nn import Conv
from jaxpaint.ops.masks import Masks
from jaxpaint.ops.pixels import composite, from_uint8, to_uint8, without_hole
from jaxpaint.parallel.layout import Layout
from jaxpaint.run.config import Experiment, Train
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Network, Optim, Page, Player, System, begin, optimisers, play


@dataclasses.dataclass
class Config:
    width: int = 8


class Net(nn.Module):
    """b t h w 3 and b t h w 1 -> b t h w 3, and nothing to look at."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image, mask):
        count = image.shape[1]
        x = jnp.concatenate([without_hole(image, mask), mask], -1)
        x = jnp.concatenate([jnp.roll(x, 1, 1), x, jnp.roll(x, -1, 1)], -1)
        x = einops.rearrange(x, "b t h w c -> (b t) h w c").astype(self.dtype)
        x = nn.tanh(Conv(self.width, 5, dtype=self.dtype, name="first")(x))
        x = Conv(3, 3, dtype=self.dtype, name="last")(x)
        return einops.rearrange(x, "(b t) h w c -> b t h w c", t=count).astype(jnp.float32), {}


def build(config, optim=None, dtype=jnp.float32):
    net = Network(Net(config.width, dtype), lambda batch: (batch["image"], batch["mask"]))

    def fill(params, batch):
        return net.module.apply({"params": params}, *net.inputs(batch))[0]

    def loss(params, state, batch, rng, made):
        value = jnp.abs(fill(params, batch) - batch["image"]).mean()
        return value, ({}, {"l1": value})

    def inpaint(weights, batch, rng):
        return composite(fill(weights.params["net"], batch), batch["image"], batch["mask"])

    def stream(weights, clip, masks, key, say):
        image, mask = (np.stack(list(frames))[None] for frames in (clip, masks))
        batch = {"image": from_uint8(image), "mask": mask.astype(np.float32), "position": np.zeros(1, np.uint32)}
        yield from np.where(mask, to_uint8(inpaint(weights, batch, key)), image)[0]

    players = (Player("net", loss, optimisers(optim or Optim(), "net")["net"]),)
    return System(begin({"net": net}, players), play(players), inpaint, {"net": net}, stream=stream)


PAGE = Page("a toy for clips", Config, build, Config(4), "net/l1", video=True)
SYSTEMS["toy_video"] = PAGE


def get_config():
    return Experiment(
        system="toy_video",
        model=Config(),
        data=Data(size=(32, 48), frames=4, stride=(1, 2), length=64),
        masks=Masks(family="box"),
        mesh=Layout(data=1),
        train=Train(batch=4),
    )
