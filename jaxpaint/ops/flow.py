"""Optical flow without a network: TV-L1, from coarse to fine (Zach, Pock and Bischof, DAGM 2007).

The flow u minimises, over both of its components,

    sum |du1| + |du2| + attachment |second(x + u) - first(x)|                                       (eq. 3 there)

on grey pictures with values in [0, 1]. The data term is made linear around a flow (a *warp*), and split from the
smoothness by an auxiliary flow v (eq. 5, `tightness` is theta); then two steps alternate (an *iteration*): v by a
threshold in every pixel (eq. 15), u by a projected gradient descent of Chambolle's dual problem (eq. 11, 12). After
every warp a median of 3x3 takes away single flows that are wrong (Wedel et al., 2009). All counts are static: the time
depends on nothing but the shapes.

Published figures (the warping error, pseudo-truth of VINet's training) are made with learned flow, for which there is
`jaxpaint.models.raft`; this one needs no weights.
"""

import jax
import jax.numpy as jnp

from jaxpaint.ops.warp import positions, warp
from jaxpaint.types import InputError

SMALLEST = 16
"""The shorter side of the coarsest level, in pixels, is never below this (unless the pictures' own is)."""

STEP = 0.25
"""Of the dual descent, in units of theta."""


def tvl1(
    first: jax.Array,
    second: jax.Array,
    *,
    levels: int = 5,
    warps: int = 10,
    iterations: int = 10,
    attachment: float = 40.0,
    tightness: float = 0.3,
) -> jax.Array:
    """The flow from the first picture to the second: ``second(x + u, y + v)`` looks like ``first(x, y)``.

    Pure, for jit and vmap with the options static. No gradient flows through it.

    Args:
      first, second: b h w 3, RGB in [-1, 1], of any floating-point type
      levels: sizes at most, each half of the one before; fewer where the shorter side would be below `SMALLEST`
      warps: linearisations a level
      iterations: a warp
      attachment: weight of the data term (lambda): higher follows the pictures, lower is smoother
      tightness: how far u and v may lie apart (theta); the smaller, the closer and slower

    Returns:
      b h w 2, (right, down) in pixels, float32
    """
    _check(first, second, levels=levels, warps=warps, iterations=iterations)
    pictures = [_grey(jax.lax.stop_gradient(x)) for x in (first, second)]
    sizes = _sizes(*first.shape[1:3], levels)
    flow = jnp.zeros((len(first), *sizes[-1], 2), jnp.float32)
    for height, width in reversed(sizes):
        flow = _resized_flow(flow, height, width)
        small = [_resized(x, height, width) for x in pictures]
        flow = _level(*small, flow, warps, iterations, attachment, tightness)
    return flow


def flow_both_ways(first: jax.Array, second: jax.Array, **options) -> tuple[jax.Array, jax.Array]:
    """The flow from the first picture to the second, and back: two b h w 2; see `tvl1` for the options."""
    both = tvl1(jnp.concatenate([first, second]), jnp.concatenate([second, first]), **options)
    return both[: len(first)], both[len(first) :]


def _level(
    first: jax.Array,
    second: jax.Array,
    flow: jax.Array,
    warps: int,
    iterations: int,
    attachment: float,
    tightness: float,
) -> jax.Array:
    """The flow at one size, from a first guess: pictures b h w 1, flow b h w 2."""
    height, width = first.shape[1:3]
    there = jnp.concatenate([second, *_central(second)], axis=-1)
    target = first[..., 0]

    def linearise(_, state):
        flow, dual = state  # both components first, 2 b h w
        pointing = jnp.moveaxis(flow, 0, -1)
        warped = warp(there, pointing, outside="border")
        x, y = positions(pointing)
        seen = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        # Without a slope the threshold moves nothing: what leaves the picture follows its surroundings.
        slopes = jnp.where(seen, jnp.moveaxis(warped[..., 1:], -1, 0), 0)
        squares = jnp.maximum(_dot(slopes, slopes), 1e-9)
        constant = warped[..., 0] - target - _dot(slopes, flow)

        def iterate(_, state):
            flow, dual = state
            error = constant + _dot(slopes, flow)
            step = jnp.clip(-error / squares, -attachment * tightness, attachment * tightness)
            return _smooth(flow + step * slopes, dual, tightness)

        flow, dual = jax.lax.fori_loop(0, iterations, iterate, (flow, dual))
        return _median(flow), dual

    flow = jnp.moveaxis(flow, -1, 0)
    dual = (jnp.zeros_like(flow), jnp.zeros_like(flow))
    flow, _ = jax.lax.fori_loop(0, warps, linearise, (flow, dual))
    return jnp.moveaxis(flow, 0, -1)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """2 b h w -> b h w. Written out: a reduction over an axis of two is slow."""
    return a[0] * b[0] + a[1] * b[1]


def _smooth(auxiliary: jax.Array, dual: tuple[jax.Array, jax.Array], tightness: float):
    """u (eq. 11), and its dual variable after a step of descent (eq. 12): of each ... h w by itself."""
    along, below = dual
    divergence = along - _before(along, -1) + below - _before(below, -2)
    smooth = auxiliary + tightness * divergence
    across, down = _forward(smooth, -1), _forward(smooth, -2)
    by = 1 + STEP / tightness * jnp.sqrt(across**2 + down**2)
    return smooth, ((along + STEP / tightness * across) / by, (below + STEP / tightness * down) / by)


def _forward(x: jax.Array, axis: int) -> jax.Array:
    """Differences to the next column or row; 0 at the last."""
    after = jax.lax.slice_in_dim(x, 1, None, axis=axis)
    last = jax.lax.slice_in_dim(x, x.shape[axis] - 1, None, axis=axis)
    return jnp.concatenate([after, last], axis) - x


def _before(x: jax.Array, axis: int) -> jax.Array:
    """The column or row before; 0 before the first."""
    around = [(0, 0)] * x.ndim
    around[axis] = (1, 0)
    return jax.lax.slice_in_dim(jnp.pad(x, around), 0, x.shape[axis], axis=axis)


def _central(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Slopes of b h w 1 to the right and down, edges repeated."""
    wide = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]) / 2, (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]) / 2


def _median(x: jax.Array) -> jax.Array:
    """Of 3x3 values of ... h w, edges repeated."""
    wide = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    columns = _sorted(wide[..., :-2, :], wide[..., 1:-1, :], wide[..., 2:, :])
    low, middle, high = ([column[..., i : i + x.shape[-1]] for i in range(3)] for column in columns)
    # The median is that of the largest of the lows, the middle of the middles, and the smallest of the highs.
    _, median, _ = _sorted(_sorted(*low)[2], _sorted(*middle)[1], _sorted(*high)[0])
    return median


def _sorted(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    low, high = jnp.minimum(a, b), jnp.maximum(a, b)
    return jnp.minimum(low, c), jnp.maximum(low, jnp.minimum(high, c)), jnp.maximum(high, c)


def _grey(image: jax.Array) -> jax.Array:
    """b h w 3 in [-1, 1] -> b h w 1, grey (ITU-R BT.601); of the range [0, 1] but for an offset, which cancels."""
    return jnp.sum(image.astype(jnp.float32) * jnp.array([0.299, 0.587, 0.114]), axis=-1, keepdims=True) / 2


def _sizes(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    """Of all levels, the finest first."""
    sizes = [(height, width)]
    while len(sizes) < levels and min(sizes[-1]) >= 2 * SMALLEST:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def _resized(x: jax.Array, height: int, width: int) -> jax.Array:
    """Linear, and smoothed where it becomes smaller."""
    return x if x.shape[1:3] == (height, width) else jax.image.resize(x, (len(x), height, width, x.shape[-1]), "linear")


def _resized_flow(flow: jax.Array, height: int, width: int) -> jax.Array:
    """A flow in pixels of another size."""
    scale = jnp.array([width / flow.shape[2], height / flow.shape[1]], jnp.float32)
    return _resized(flow, height, width) * scale


def _check(first: jax.Array, second: jax.Array, **counts: int) -> None:
    if first.ndim != 4 or first.shape[-1] != 3 or first.shape != second.shape:
        raise InputError(
            f"tvl1: pictures of shapes {first.shape} and {second.shape}: expected two of b h w 3, RGB in [-1, 1]"
        )
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"tvl1: {name}={count}: expected 1 at least")
