"""Adversarial losses, in pairs: what the discriminator descends, and what the generator descends.

Scores are logits, any shape, without a sigmoid before them; every element is a judgement of its own and the mean is
over all of them. Results are float32 scalars, whatever type the scores have.

| pair | source | discriminator | generator |
|---|---|---|---|
| `non_saturating_…` | Goodfellow et al., arXiv 1406.2661, section 3 | cross-entropy | ``-log sigmoid(fake)`` |
| `hinge_…` | Lim and Ye, arXiv 1705.02894 | ``relu(1 - real)``, ``relu(1 + fake)`` | ``-fake`` |
| `least_squares_…` | Mao et al., arXiv 1611.04076, a = 0, b = c = 1 | squares | squares |
| `wasserstein_…` | Arjovsky et al., arXiv 1701.07875 | ``fake - real`` | ``-fake`` |
| `relativistic_average_…` | Jolicoeur-Martineau, arXiv 1807.00734 | RaSGAN | the same, roles swapped |
| `relativistic_average_hinge_…` | the same, appendix | RaHingeGAN | the same, roles swapped |

Penalties take the scores as a function, so that they can look at its slope: `gradient_penalty` makes a Wasserstein
pair WGAN-GP, `r1` goes with any. They are terms of the discriminator's loss; differentiating that takes second
derivatives, which `jaxpaint.ops.conv` has.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxpaint.types import InputError


def non_saturating_discriminator(real: jax.Array, fake: jax.Array) -> jax.Array:
    """``mean -log sigmoid(real) + mean -log(1 - sigmoid(fake))``; EdgeConnect's code takes half of it."""
    return jnp.mean(_surprise(real)) + jnp.mean(_surprise(-_float32(fake)))


def non_saturating_generator(fake: jax.Array) -> jax.Array:
    """``mean -log sigmoid(fake)``: its slope does not vanish where the discriminator is sure."""
    return jnp.mean(_surprise(fake))


def hinge_discriminator(real: jax.Array, fake: jax.Array) -> jax.Array:
    """``0.5 * mean relu(1 - real) + 0.5 * mean relu(1 + fake)``, with the halves of DeepFillv2's released code."""
    return 0.5 * jnp.mean(jax.nn.relu(1 - _float32(real))) + 0.5 * jnp.mean(jax.nn.relu(1 + _float32(fake)))


def hinge_generator(fake: jax.Array) -> jax.Array:
    """``-mean fake``."""
    return -jnp.mean(_float32(fake))


def least_squares_discriminator(real: jax.Array, fake: jax.Array) -> jax.Array:
    """``0.5 * mean (real - 1)² + 0.5 * mean fake²``."""
    return 0.5 * jnp.mean(jnp.square(_float32(real) - 1)) + 0.5 * jnp.mean(jnp.square(_float32(fake)))


def least_squares_generator(fake: jax.Array) -> jax.Array:
    """``0.5 * mean (fake - 1)²``. PIC's code has no half here: weigh it twice for that."""
    return 0.5 * jnp.mean(jnp.square(_float32(fake) - 1))


def wasserstein_discriminator(real: jax.Array, fake: jax.Array) -> jax.Array:
    """``mean fake - mean real``, for a critic kept near slope 1 by `gradient_penalty`."""
    return jnp.mean(_float32(fake)) - jnp.mean(_float32(real))


def wasserstein_generator(fake: jax.Array) -> jax.Array:
    """``-mean fake``."""
    return -jnp.mean(_float32(fake))


def relativistic_average_discriminator(real: jax.Array, fake: jax.Array) -> jax.Array:
    """``mean -log sigmoid(real - mean fake) + mean -log(1 - sigmoid(fake - mean real))``.

    The means are over all scores, the whole batch's.
    """
    over_fake, over_real = _relative(real, fake)
    return jnp.mean(_surprise(over_fake)) + jnp.mean(_surprise(-over_real))


def relativistic_average_generator(fake: jax.Array, real: jax.Array) -> jax.Array:
    """The discriminator's with roles swapped: ``mean -log sigmoid(fake - mean real) + …``; a gradient reaches both."""
    return relativistic_average_discriminator(real=fake, fake=real)


def relativistic_average_hinge_discriminator(real: jax.Array, fake: jax.Array) -> jax.Array:
    """``mean relu(1 - (real - mean fake)) + mean relu(1 + (fake - mean real))``."""
    over_fake, over_real = _relative(real, fake)
    return jnp.mean(jax.nn.relu(1 - over_fake)) + jnp.mean(jax.nn.relu(1 + over_real))


def relativistic_average_hinge_generator(fake: jax.Array, real: jax.Array) -> jax.Array:
    """The discriminator's with roles swapped."""
    return relativistic_average_hinge_discriminator(real=fake, fake=real)


def gradient_penalty(
    scores: Callable[[jax.Array], jax.Array],
    real: jax.Array,
    fake: jax.Array,
    between: jax.Array,
    mask: jax.Array | None = None,
) -> jax.Array:
    """WGAN-GP's penalty, ``E (‖∇ D(x̂)‖ - 1)²`` (Gulrajani et al., arXiv 1704.00028, eq. 3).

    ``x̂ = real + between * (fake - real)``, one number a picture. With a mask, the norm is of the gradient inside the
    hole only (Yu et al., arXiv 1801.07892, section 3). The slope of the norm at a gradient of zero is taken as zero.

    Args:
      scores: pictures b ... -> scores b ...; each picture's scores must depend on that picture alone. Several scores
        a picture are summed
      real: b ..., any floating-point type
      fake: b ..., no gradient goes into it from here
      between: b, uniform in [0, 1], drawn by the caller
      mask: 1 = hole, with real's number of axes

    Returns:
      float32, not weighted (10 in both papers)
    """
    if between.shape != real.shape[:1]:
        raise InputError(
            f"gradient penalty: {between.shape} numbers between real and fake for a batch of {real.shape[0]} pictures: "
            "give one for each"
        )
    real, fake = jax.lax.stop_gradient((_float32(real), _float32(fake)))
    between = _float32(between).reshape(-1, *(1 for _ in real.shape[1:]))
    squares = jnp.square(_slopes(scores, real + between * (fake - real)))
    if mask is not None:
        squares = squares * _float32(mask)
    # The maximum is inside: the slope of a root at zero is infinite.
    norms = jnp.sqrt(jnp.maximum(jnp.sum(squares, axis=tuple(range(1, squares.ndim))), 1e-24))
    return jnp.mean(jnp.square(norms - 1))


def r1(scores: Callable[[jax.Array], jax.Array], real: jax.Array) -> jax.Array:
    """``E ‖∇ D(x)‖²`` over real pictures (Mescheder et al., arXiv 1801.04406, eq. 9, without its γ/2).

    Args:
      scores: as for `gradient_penalty`; several scores a picture are summed
      real: b ..., any floating-point type

    Returns:
      float32; where it runs every k-th step only, weigh it k times
    """
    squares = jnp.square(_slopes(scores, jax.lax.stop_gradient(_float32(real))))
    return jnp.sum(squares) / real.shape[0]


def _slopes(scores: Callable, pictures: jax.Array) -> jax.Array:
    """The gradient of each picture's scores: that of their sum, since no picture's depend on another's."""

    def total(pictures):
        return jnp.sum(_float32(scores(pictures)))

    return jax.grad(total)(pictures)


def _relative(real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(real - mean fake, fake - mean real)"""
    real, fake = _float32(real), _float32(fake)
    return real - jnp.mean(fake), fake - jnp.mean(real)


def _surprise(score: jax.Array) -> jax.Array:
    """-log sigmoid, finite for every finite score."""
    return jax.nn.softplus(-_float32(score))


def _float32(x: jax.Array) -> jax.Array:
    return jnp.asarray(x, jnp.float32)
