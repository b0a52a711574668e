"""Free-Form Image Inpainting with Gated Convolution (Yu et al., ICCV 2019, arXiv 1806.03589): "DeepFillv2".

Two players: SN-PatchGAN with a hinge loss, then the two-stage gated generator with an L1 loss on both stages and the
hinge loss. Networks: `jaxpaint.models.deepfillv2`.

Where this page departs from the released training code (its numbers are kept):

- every picture has its own mask; there one mask serves the whole batch;
- both players see the same batch, so that one forward pass of the generator serves both; there each draws its own.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxpaint.losses.adversarial import hinge_discriminator, hinge_generator
from jaxpaint.losses.reconstruction import l1
from jaxpaint.models.deepfillv2 import MULTIPLE, Discriminator, Generator
from jaxpaint.ops.pad import pad_to_multiple
from jaxpaint.ops.pixels import composite
from jaxpaint.train import Network, Optim, Page, Player, System, begin, optimisers, play


@dataclasses.dataclass
class Config:
    """The paper's numbers.

    width:               generator filters of the first layer, before the split into features and gates
    discriminator_width: channels of the discriminator's first layer
    rate, softmax_scale, fuse: of the contextual attention
    guide_channels:      channels of a sketch that guides the filling (``batch["guide"]``), 0 or 1
    gain:                of the generator's gated kernels at the start; 1 is the released code, near 3 keeps the
                         signal's size through the layers, so that short runs learn sooner
    l1_weight:           of the L1 loss of each stage, over all pixels alike
    adversarial_weight:  of the generator's hinge loss
    """

    width: int = 48
    discriminator_width: int = 64
    rate: int = 2
    softmax_scale: float = 10.0
    fuse: bool = True
    guide_channels: int = 0
    gain: float = 1.0
    l1_weight: float = 1.0
    adversarial_weight: float = 1.0


def build(config: Config, optim: Optim | None = None, dtype: jnp.dtype = jnp.float32) -> System:
    """The system: players ``discriminator``, then ``generator``."""
    optim = optim or Optim()
    generator = Generator(
        width=config.width,
        rate=config.rate,
        softmax_scale=config.softmax_scale,
        fuse=config.fuse,
        guide_channels=config.guide_channels,
        gain=config.gain,
        dtype=dtype,
    )
    discriminator = Discriminator(width=config.discriminator_width, dtype=dtype)

    def inputs(batch):
        return batch["image"], batch["mask"], batch.get("guide")

    def fill(variables, batch):
        """(refined, coarse), neither composited."""
        refined, out = generator.apply(variables, *inputs(batch))
        return refined, out["stage1"]

    def score(params, spectral, images, batch):
        """(scores of each of several batches of pictures, new spectral state); all have the batch's masks."""
        count = len(images)
        # The versions of a picture side by side, not batch after batch: so they stay on the picture's device.
        image = jnp.stack(images, axis=1).reshape(-1, *images[0].shape[1:])
        mask = jnp.repeat(batch["mask"], count, axis=0)
        guide = jnp.repeat(batch["guide"], count, axis=0) if "guide" in batch else None
        variables = {"params": params, **spectral}
        (scores, _), changed = discriminator.apply(variables, image, mask, guide, mutable=["spectral"])
        return jnp.unstack(scores.reshape(-1, count, *scores.shape[1:]), axis=1), changed

    def forward(params, state, batch, rng):
        del state, rng
        return fill({"params": params}, batch)

    def discriminator_loss(params, state, batch, rng, made):
        del rng
        refined, _ = made["generator"]
        filled = jax.lax.stop_gradient(composite(refined, batch["image"], batch["mask"]))
        (real, fake), spectral = score(params, state.extra["discriminator"], (batch["image"], filled), batch)
        terms = {"real": jnp.mean(real), "fake": jnp.mean(fake)}
        return hinge_discriminator(real, fake), ({"discriminator": spectral}, terms)

    def generator_loss(params, state, batch, rng, made):
        del params, rng
        refined, coarse = made["generator"]
        filled = composite(refined, batch["image"], batch["mask"])
        # The norms are estimated anew, but only the discriminator's own turn stores them.
        (fake,), _ = score(state.params["discriminator"], state.extra["discriminator"], (filled,), batch)
        terms = {
            "l1_coarse": l1(coarse, batch["image"]),
            "l1": l1(refined, batch["image"]),
            "adversarial": hinge_generator(fake),
        }
        loss = config.l1_weight * (terms["l1_coarse"] + terms["l1"])
        return loss + config.adversarial_weight * terms["adversarial"], ({}, terms)

    def inpaint(weights, batch, rng):
        del rng
        height, width = batch["image"].shape[1:3]
        padded = {name: pad_to_multiple(batch[name], MULTIPLE) for name in ("image", "mask", "guide") if name in batch}
        refined, _ = fill(weights.variables("generator"), padded)
        return composite(refined[:, :height, :width], batch["image"], batch["mask"])

    tx = optimisers(optim, "discriminator", "generator")
    players = (
        Player("discriminator", discriminator_loss, tx["discriminator"]),
        Player("generator", generator_loss, tx["generator"], forward=forward),
    )
    averaged = ("generator",) if optim.ema else ()
    networks = {"generator": Network(generator, inputs), "discriminator": Network(discriminator, inputs)}
    return System(
        init=begin(networks, players, averaged=averaged),
        update=play(players, averaged=averaged, ema=optim.ema, accumulate=optim.accumulate),
        inpaint=inpaint,
        networks=networks,
    )


PAGE = Page(
    title="Free-Form Image Inpainting with Gated Convolution (DeepFillv2), ICCV 2019, arXiv 1806.03589",
    config=Config,
    build=build,
    tiny=Config(width=8, discriminator_width=4, gain=2.5),
    watch="generator/l1",
)
