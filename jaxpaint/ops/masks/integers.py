"""Chance and geometry in whole numbers, so that a mask has the same bits on every machine.

A mask drawn with floats moves by a pixel wherever a compiler contracts a multiply and an add, or a
device approximates a sine; a set of evaluation masks named by its hash would then exist once a
machine. Here random bits become integers by multiply and shift, sines and normal quantiles come from
tables that NumPy made in float64, and divisions and roots are floored exactly.

Coordinates and lengths are int32 pixels; pictures up to 8192 pixels a side stay clear of overflow.
"""

import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np

TURN = 4096
"""Directions in a full turn: 0.09 degrees apart, a seventh of a pixel at the end of a 90 pixel step."""

_SCALE_BITS = 12  # sines are in units of 2^-12
_FRACTION_BITS = 4  # lengths of a step are in sixteenths of a pixel

_SINE = np.round(np.sin(np.arange(TURN) * (2 * np.pi / TURN)) * (1 << _SCALE_BITS)).astype(np.int32)
_NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 4096) * 256 for i in range(4096)]).round().astype(np.int32)


def bits(key: jax.Array, *shapes: tuple[int, ...]) -> list[jax.Array]:
    """Random uint32 arrays of the given shapes, from one draw.

    A family draws once: every further call of the generator costs a third of a second to compile on a CPU.
    """
    sizes = [math.prod(shape) for shape in shapes]
    drawn = jax.random.bits(key, (sum(sizes),), jnp.uint32)
    ends = np.cumsum(sizes)
    return [drawn[end - size : end].reshape(shape) for size, end, shape in zip(sizes, ends, shapes, strict=True)]


def turns(radians: float) -> int:
    """An angle as a direction number in [0, TURN)."""
    return round(radians / (2 * np.pi) * TURN) % TURN


def uniform(bits: jax.Array, low, high) -> jax.Array:
    """Integers in [low, high), one for each of `bits`.

    The range is at most 65536 wide; a bias of range / 65536 is left, which no mask shows. An empty
    range gives `low`.

    Args:
      bits: uint32, random.
      low, high: int32 arrays that broadcast with `bits`, or ints.
    """
    span = jnp.asarray(jnp.maximum(high - low, 0)).astype(jnp.uint32)
    return low + ((bits >> 16) * span >> 16).astype(jnp.int32)


def chance(bits: jax.Array, probability: float) -> jax.Array:
    """True with a probability given in [0, 1], to 16 bits."""
    return (bits >> 16).astype(jnp.int32) < round(probability * 65536)


def normal(bits: jax.Array, mean: float, deviation: float) -> jax.Array:
    """Normal lengths in sixteenths of a pixel, clipped to [0, 2 * mean]; `mean`, `deviation` in pixels."""
    one = 1 << _FRACTION_BITS
    deviation = round(deviation * one)
    length = round(mean * one) + (jnp.asarray(_NORMAL)[bits >> 20] * deviation >> 8)
    return jnp.clip(length, 0, round(2 * mean * one))


def pixels(length: jax.Array) -> jax.Array:
    """Whole pixels as a step length (sixteenths)."""
    return length << _FRACTION_BITS


def step(direction: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(cosine, sine) of a direction number times a length in sixteenths, floored to whole pixels."""
    table, shift = jnp.asarray(_SINE), _SCALE_BITS + _FRACTION_BITS
    cosine = table[(direction + TURN // 4) % TURN]
    return cosine * length >> shift, table[direction % TURN] * length >> shift


def floor_divide(number: jax.Array, divisor: jax.Array) -> jax.Array:
    """floor(number / divisor) for divisor > 0, exact.

    By a float division and a correction: integer division is scalar code on a CPU, and the float one
    may be off by one.
    """
    quotient = jnp.floor(number.astype(jnp.float32) / divisor.astype(jnp.float32)).astype(jnp.int32)
    quotient = quotient - (quotient * divisor > number)
    return quotient + ((quotient + 1) * divisor <= number)


def floor_root(number: jax.Array) -> jax.Array:
    """floor(sqrt(number)) for 0 <= number < 2^24, exact."""
    root = jnp.sqrt(number.astype(jnp.float32)).astype(jnp.int32)
    root = root - (root * root > number)
    return root + ((root + 1) * (root + 1) <= number)
