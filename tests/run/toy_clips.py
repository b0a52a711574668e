"""Systems for tests of what is done with clips: of one colour, one that learns it from the clip."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxpaint.ops.pixels import composite
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Page, System, Weights
from jaxpaint.train.system import Extent

FILL = 191  # round((0.5 + 1) * 127.5)


@dataclasses.dataclass
class Grey:
    shade: float = 0.5


def build_grey(config, optim=None, dtype=jnp.float32):
    """Fills a hole with one colour, frame by frame."""

    def inpaint(weights, batch, rng):
        return composite(jnp.full_like(batch["image"], config.shade), batch["image"], batch["mask"])

    return System(init=None, update=None, inpaint=inpaint, networks={}, notes=("it is only grey",))


@dataclasses.dataclass
class Learnt:
    gain: float = 1.0


DARK = Learnt(gain=0.5)


def build_learnt(config, optim=None, dtype=jnp.float32):
    """Learns the mean colour of what is known in the clip, or takes that of the weights, and fills with it."""

    def stream(weights, clip, masks, key, say):
        say("learning")
        if not weights.params:
            total, count = np.zeros(3), 0
            for frame, mask in zip(clip, masks, strict=True):
                known = frame[mask[..., 0] == 0]
                total, count = total + known.sum(0), count + len(known)
            weights = Weights(params={"colour": {"value": jnp.asarray(total / count, jnp.float32)}})
        colour = np.rint(config.gain * np.asarray(weights.params["colour"]["value"])).astype(np.uint8)
        for frame, mask in zip(clip, masks, strict=True):
            yield np.where(mask > 0, colour, frame)
        return weights

    return System(None, None, None, {}, stream=stream, sees="the whole clip")


@dataclasses.dataclass
class Half:
    pass


def build_half(config, optim=None, dtype=jnp.float32):
    """Fills with one colour; its frames have half the size, and the first one is not given."""

    def stream(weights, clip, masks, key, say):
        for frame, mask in zip(clip.frames(1), masks.frames(1), strict=True):
            yield np.where(mask > 0, np.uint8(FILL), frame)[::2, ::2]

    def extent(clip):
        return Extent(1, (clip.height + 1) // 2, (clip.width + 1) // 2)

    return System(None, None, None, {}, stream=stream, extent=extent)


def register(setitem=SYSTEMS.__setitem__) -> None:
    """Makes them systems."""
    setitem("grey", Page("A colour", Grey, build_grey, Grey(), watch=""))
    learnt = Page("Its mean", Learnt, build_learnt, Learnt(), watch="", internal=True, variants={"dark": DARK})
    setitem("learnt", learnt)
    setitem("half", Page("Half of it", Half, build_half, Half(), watch="", internal=True))
