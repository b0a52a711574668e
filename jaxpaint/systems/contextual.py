"""Contextual-based Image Inpainting: Infer, Match, and Translate (Song et al., ECCV 2018, arXiv 1711.08590).

1. *Infer*: Image2Feature guesses the hole; VGG-19 turns the completed picture into features, ``relu3_1``.
2. *Match*: patch-swap replaces the features of the hole by the most alike patches of the known region.
3. *Translate*: Feature2Image paints the picture that the swapped features belong to.

The networks are trained apart (paper, section 3.4): Feature2Image learns to invert features of whole pictures, in which
the hole's were swapped for known ones, and never sees a guess, unless ``predictions`` says so. Both trainings are this
system; ``stage`` says which of them a run does. Every checkpoint holds all networks, and ``--init-from`` takes those of
another run: Image2Feature at 256, then Feature2Image at 256 and 512.

No implementation by the authors is public. What the paper does not state is our choice, and marked (ours):

- features are compared with means over their elements, absolute in Image2Feature's loss and squared in Feature2Image's
  (the paper has norms, of the first and of the second kind, and does not say how they are scaled);
- the rim of the hole, which weighs more in Image2Feature's loss (paper), is the hole's outermost cells and the known
  cells next to them, three times the rest;
- a cell of features belongs to the hole if one of its 4x4 pixels does; the swap leaves known cells as they were;
- scales differ by a factor of two; in a reduced picture a pixel is known if all that it covers is.
"""

import dataclasses
from typing import Literal

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.losses.adversarial import non_saturating_discriminator, non_saturating_generator
from jaxpaint.losses.perceptual import perceptual
from jaxpaint.losses.reconstruction import l1
from jaxpaint.models.contextual import (
    CELL,
    FEATURES,
    MULTIPLE,
    Feature2Image,
    FeaturePairDiscriminator,
    Image2Feature,
)
from jaxpaint.models.discriminators import PatchGAN
from jaxpaint.models.vgg import VGG
from jaxpaint.ops.pad import pad_to_multiple
from jaxpaint.ops.pixels import composite, without_hole
from jaxpaint.ops.swap import patch_swap
from jaxpaint.train import Network, Optim, Page, Player, System, Weights, begin, optimisers, play
from jaxpaint.types import Batch, check_choices

TAP = "relu3_1"
PREDICTIONS = 2**32 - 2
"""Where the choice between truth and prediction branches off the run's key: at a step that no run reaches."""

NOTE = (
    "features='random': VGG-19 has random weights here, not those of ImageNet; "
    "no figure of this model can be compared with the paper's, nor its losses with those of a published network"
)


@dataclasses.dataclass
class Config:
    """The paper's numbers, and ours where it gives none.

    stage:       which networks a run trains: "image2feature", "feature2image", or "both", each by itself, at once.
                 What "image2feature" inpaints is the guess alone
    width:       channels of Image2Feature's first layer (ours)
    dilations:   of its nine residual blocks (nine: paper; 2: ours)
    inverter_width:      a quarter of the channels of Feature2Image's first layer (ours)
    discriminator_width: channels of the discriminators' first layers (ours)
    features:    VGG-19's weights: those published for ImageNet, or random ones, where these are not at hand
    perceptual_weight, adversarial_weight: 10 and 1 (paper)
    rim_weight:  of cells at the hole's border in Image2Feature's loss (higher than 1: paper; how much: ours)
    pixel_weight: of an L1 loss on pixels, Image2Feature's on those of the hole, which the paper does not have (ours)
    predictions: the share of examples in which Feature2Image is trained on the features of Image2Feature's guess; 0 is
                 the paper's, trained on ground truth
    patch:       side of the patches that are swapped, in cells (3: paper)
    swap:        False leaves the guess's features as they are, in training and inpainting
    restore:     known cells stay as they were; False averages them, too, where a swapped patch covers them
    chunk:       cells whose scores are made at a time (memory, see `jaxpaint.ops.swap`)
    base:        the shorter side at which the hole is guessed; larger pictures are filled from there by doubling
    multi_scale: False guesses at the picture's own size
    iterations:  of swap and translation at each scale (1: paper; more: sharper, with more artefacts)
    """

    stage: Literal["both", "image2feature", "feature2image"] = "both"
    width: int = 64
    dilations: tuple[int, ...] = (2,) * 9
    inverter_width: int = 64
    discriminator_width: int = 64
    features: Literal["published", "random"] = "published"
    perceptual_weight: float = 10.0
    adversarial_weight: float = 1.0
    rim_weight: float = 3.0
    pixel_weight: float = 0.0
    predictions: float = 0.0
    patch: int = 3
    swap: bool = True
    restore: bool = True
    chunk: int = 256
    base: int = 256
    multi_scale: bool = True
    iterations: int = 1


def build(config: Config, optim: Optim | None = None, dtype: jnp.dtype = jnp.float32) -> System:
    """The system: of each network that is trained the discriminator plays first."""
    check_choices(config)
    optim = optim or Optim()
    networks = _networks(config, dtype)
    modules = {name: network.module for name, network in networks.items()}

    def features(params, image):
        """b h w 3 to b h/4 w/4 256."""
        return modules["vgg19"].apply({"params": params["vgg19"]}, image)[1][TAP]

    def paint(name, state, params, *inputs):
        """A network's picture and its changed statistics, in training."""
        variables = {"params": params, **state.extra[name]}
        (picture, _), changed = modules[name].apply(variables, *inputs, train=True, mutable=["batch_stats"])
        return picture, changed

    def score(name, params, *inputs):
        return modules[name].apply({"params": params}, *inputs)[0]

    def swapped(known, mask):
        return _swapped(config, known, mask) if config.swap else known

    def guess(params, state, batch, rng):
        del rng
        picture, changed = paint("image2feature", state, params, batch["image"], batch["mask"])
        return composite(picture, batch["image"], batch["mask"]), changed

    def image2feature_discriminator_loss(params, state, batch, rng, made):
        del state, rng
        given = without_hole(batch["image"], batch["mask"])
        fake, _ = made["image2feature"]
        real = score("image2feature_discriminator", params, given, batch["image"])
        fake = score("image2feature_discriminator", params, given, jax.lax.stop_gradient(fake))
        return non_saturating_discriminator(real, fake), ({}, {"real": jnp.mean(real), "fake": jnp.mean(fake)})

    def image2feature_loss(params, state, batch, rng, made):
        del params, rng
        picture, changed = made["image2feature"]
        given = without_hole(batch["image"], batch["mask"])
        weight = hole_weights(cells(batch["mask"]), config.rim_weight)
        difference = features(state.params, picture) - features(state.params, batch["image"])
        score_ = score("image2feature_discriminator", state.params["image2feature_discriminator"], given, picture)
        terms = {
            "perceptual": _mean(jnp.abs(difference), weight),
            "adversarial": non_saturating_generator(score_),
            "l1": _mean(jnp.abs(picture - batch["image"]), batch["mask"]),
        }
        return _weighed(config, terms), ({"image2feature": changed}, terms)

    def translate(params, state, batch, rng):
        """(picture, what it was made from, features of the truth, changed statistics)"""
        del rng
        truth = features(state.params, batch["image"])
        source = truth
        if config.predictions > 0:
            variables = {"params": state.params["image2feature"], **state.extra["image2feature"]}
            picture, _ = modules["image2feature"].apply(variables, batch["image"], batch["mask"])
            guessed = features(state.params, composite(picture, batch["image"], batch["mask"]))
            chosen = _chosen(jax.random.fold_in(state.rng, PREDICTIONS), batch["position"], config.predictions)
            source = jnp.where(chosen[:, None, None, None], guessed, truth)
        source = jax.lax.stop_gradient(swapped(source, batch["mask"]))
        picture, changed = paint("feature2image", state, params, source)
        return picture, source, truth, changed

    def feature2image_discriminator_loss(params, state, batch, rng, made):
        del state, rng
        picture, source, *_ = made["feature2image"]
        real = score("feature2image_discriminator", params, source, batch["image"])
        fake = score("feature2image_discriminator", params, source, jax.lax.stop_gradient(picture))
        return non_saturating_discriminator(real, fake), ({}, {"real": jnp.mean(real), "fake": jnp.mean(fake)})

    def feature2image_loss(params, state, batch, rng, made):
        del params, rng
        picture, source, truth, changed = made["feature2image"]
        source, truth = jax.lax.stop_gradient((source, truth))
        score_ = score("feature2image_discriminator", state.params["feature2image_discriminator"], source, picture)
        seen, wanted = {TAP: features(state.params, picture)}, {TAP: truth}
        terms = {
            "perceptual": perceptual(seen, wanted, {TAP: 1.0}, jnp.square),
            "adversarial": non_saturating_generator(score_),
            "l1": l1(picture, batch["image"]),
        }
        return _weighed(config, terms), ({"feature2image": changed}, terms)

    def inpaint(weights, batch, rng):
        del rng
        return _inpaint(config, modules, weights, batch)

    players = {
        "image2feature_discriminator": (image2feature_discriminator_loss, None),
        "image2feature": (image2feature_loss, guess),
        "feature2image_discriminator": (feature2image_discriminator_loss, None),
        "feature2image": (feature2image_loss, translate),
    }
    if config.stage != "both":
        players = {name: rest for name, rest in players.items() if name.startswith(config.stage)}
    tx = optimisers(optim, *players)
    players = [Player(name, loss, tx[name], forward=forward) for name, (loss, forward) in players.items()]
    averaged = [p.name for p in players if p.forward is not None] if optim.ema else []
    return System(
        init=begin(networks, players, averaged=averaged),
        update=play(players, averaged=averaged, ema=optim.ema, accumulate=optim.accumulate),
        inpaint=inpaint,
        networks=networks,
        notes=(NOTE,) if config.features == "random" else (),
    )


def stylize(
    config: Config, weights: Weights, content: jax.Array, style: jax.Array, dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """Style transfer: Feature2Image paints the content's features, every patch of which is swapped for the style's most
    alike one (paper, section 4.3, after arXiv 1612.04337).

    Args:
      config: of the system that `weights` belong to
      weights: of a system whose Feature2Image is trained
      content: b h w 3 in [-1, 1], any size from 32 up
      style: 1 h' w' 3 in [-1, 1], any size from 32 up; where a side is no multiple of 4 the last pixels do not count
      dtype: of the activations

    Returns:
      b h w 3 in [-1, 1]
    """
    modules = {name: network.module for name, network in _networks(config, dtype).items()}
    height, width = content.shape[1:3]
    padded = pad_to_multiple(content, CELL)

    everywhere = jnp.ones((1, padded.shape[1] // CELL, padded.shape[2] // CELL, 1))
    content, style = (_see(modules, weights, image) for image in (padded, style))
    found = patch_swap(content, everywhere, source=style, size=config.patch, chunk=config.chunk).features
    return _translate(modules, weights, found)[:, :height, :width]


def invert(config: Config, weights: Weights, image: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """A picture's features painted by Feature2Image, nothing swapped: how well it inverts.

    Args:
      config, weights, dtype: as for `stylize`
      image: b h w 3 in [-1, 1], h and w divisible by 4

    Returns:
      b h w 3 in [-1, 1]
    """
    modules = {name: network.module for name, network in _networks(config, dtype).items()}
    return _translate(modules, weights, _see(modules, weights, image))


def cells(mask: jax.Array) -> jax.Array:
    """A picture's mask, b h w 1, as that of its features, b h/4 w/4 1: a cell with one hole pixel is a hole (ours)."""
    return einops.reduce(mask, "b (h p) (w q) c -> b h w c", "max", p=CELL, q=CELL)


def hole_weights(mask: jax.Array, rim: float) -> jax.Array:
    """Image2Feature's weighted mask: 1 in the hole, `rim` where it meets the known region, 0 elsewhere.

    The rim (ours) is the outermost cells of the hole and the known cells next to them, diagonally, too.

    Args:
      mask: b h w 1 of features, 1 = hole
      rim: the weight there

    Returns:
      b h w 1, float32
    """
    mask = mask.astype(jnp.float32)
    grown = nn.max_pool(mask, (3, 3), padding="SAME")
    shrunk = 1 - nn.max_pool(1 - mask, (3, 3), padding="SAME")
    return shrunk + rim * (grown - shrunk)


def _networks(config: Config, dtype: jnp.dtype) -> dict[str, Network]:
    def given(batch: Batch):
        return without_hole(batch["image"], batch["mask"]), batch["mask"]

    def map_of(batch: Batch):
        count, height, width, _ = batch["image"].shape
        return (jnp.zeros((count, height // CELL, width // CELL, FEATURES)),)

    width = config.discriminator_width
    return {
        "vgg19": Network(
            VGG(layers=(2, 2, 1), dtype=dtype),
            lambda batch: (batch["image"],),
            published="vgg19" if config.features == "published" else None,
        ),
        "image2feature": Network(Image2Feature(config.width, tuple(config.dilations), dtype), given),
        "image2feature_discriminator": Network(
            PatchGAN(width, spectral=False, dtype=dtype), lambda batch: (given(batch)[0], batch["image"])
        ),
        "feature2image": Network(Feature2Image(config.inverter_width, dtype), map_of),
        "feature2image_discriminator": Network(
            FeaturePairDiscriminator(width, dtype), lambda batch: (*map_of(batch), batch["image"])
        ),
    }


def _weighed(config: Config, terms: dict[str, jax.Array]) -> jax.Array:
    return (
        config.perceptual_weight * terms["perceptual"]
        + config.adversarial_weight * terms["adversarial"]
        + config.pixel_weight * terms["l1"]
    )


def _mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    """The mean over pictures of each one's weighted mean: b h w c, b h w 1 to a scalar. No weight gives 0."""
    totals = jnp.sum(values * weight, axis=(1, 2, 3)) / values.shape[-1]
    return jnp.mean(totals / jnp.maximum(jnp.sum(weight, axis=(1, 2, 3)), 1))


def _chosen(key: jax.Array, positions: jax.Array, share: float) -> jax.Array:
    """b, bool: whether an example is a prediction. It hangs on the key and the position alone."""
    return jax.vmap(lambda position: jax.random.bernoulli(jax.random.fold_in(key, position), share))(positions)


def _swapped(config: Config, features: jax.Array, mask: jax.Array) -> jax.Array:
    """Features of a picture with the hole's patches swapped; mask b 4h 4w 1."""
    mask = cells(mask)
    return patch_swap(features, mask, size=config.patch, restore=config.restore, chunk=config.chunk).features


def _see(modules, weights: Weights, image: jax.Array) -> jax.Array:
    return modules["vgg19"].apply(weights.variables("vgg19"), image)[1][TAP]


def _translate(modules, weights: Weights, features: jax.Array) -> jax.Array:
    return modules["feature2image"].apply(weights.variables("feature2image"), features)[0]


def _inpaint(config: Config, modules, weights: Weights, batch: Batch) -> jax.Array:
    """Guess at the smallest scale; at every scale from there swap and translate; known pixels are pasted at each."""
    height, width = batch["image"].shape[1:3]
    doublings = 0
    while config.multi_scale and min(height, width) >= config.base * 2 ** (doublings + 1):
        doublings += 1
    image, mask = (pad_to_multiple(batch[name], MULTIPLE * 2**doublings) for name in ("image", "mask"))
    scales = [_reduced(image, mask, 2**power) for power in range(doublings, -1, -1)]

    guess, _ = modules["image2feature"].apply(weights.variables("image2feature"), *scales[0])
    picture = composite(guess, *scales[0])
    for known, hole in scales:
        if picture.shape != known.shape:
            picture = composite(jax.image.resize(picture, known.shape, "linear"), known, hole)
        if config.stage == "image2feature":
            continue
        for _ in range(config.iterations):
            features = _see(modules, weights, picture)
            if config.swap:
                features = _swapped(config, features, hole)
            picture = composite(_translate(modules, weights, features), known, hole)
    return composite(picture[:, :height, :width], batch["image"], batch["mask"])


def _reduced(image: jax.Array, mask: jax.Array, factor: int) -> tuple[jax.Array, jax.Array]:
    """(means over factor x factor pixels, the mask): unknown is what covers an unknown pixel."""
    if factor == 1:
        return image, mask
    squares = {"p": factor, "q": factor}
    mask = einops.reduce(mask, "b (h p) (w q) c -> b h w c", "max", **squares)
    return einops.reduce(image, "b (h p) (w q) c -> b h w c", "mean", **squares), mask


PAGE = Page(
    title="Contextual-based Image Inpainting: Infer, Match, and Translate, ECCV 2018, arXiv 1711.08590",
    config=Config,
    build=build,
    tiny=Config(
        width=4,
        dilations=(2,),
        inverter_width=2,
        discriminator_width=4,
        features="random",
        pixel_weight=1.0,
        patch=2,
        base=32,
    ),
    watch="feature2image/l1",
)
