"""Backward warping by optical flow, and where two flows contradict each other.

A flow ``b h w 2`` is in pixels, (right, down): what is at (x, y) in one frame is at (x + u, y + v) in the other. A
backward warp gives every pixel what the other frame shows there, ``out[y, x] = image[y + v, x + u]``, and so needs the
flow *from* the frame that it makes *to* the frame that it reads.

Published code differs in two points, which are arguments here:

| | outside of the picture | positions |
|---|---|---|
| RAFT, ProPainter, E2FGVI, VINet's features as they were trained | zeros | pixels |
| VINet's features under PyTorch 1.3 or later, by its unchanged code | zeros | align_corners=False |
| FlowNet2's Resample2d (VINet's pictures), the warping error | border | pixels |
"""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxpaint.ops.placement import undivided
from jaxpaint.types import InputError

Outside = Literal["zeros", "border"]


def warp(
    image: jax.Array,
    flow: jax.Array,
    *,
    outside: Outside = "zeros",
    align_corners: bool = True,
    nearest: bool = False,
) -> jax.Array:
    """What the image shows where the flow points to.

    Gradients flow into the image and, unless `nearest`, into the flow (none where "border" holds a position fast).

    Args:
      image: b h w c, of any floating-point type
      flow: b h' w' 2, (right, down) in pixels; usually h' w' are h w
      outside: what there is around the picture: "zeros" (a position less than a pixel outside is half way there), or
        "border", the nearest pixel of the picture
      align_corners: positions are pixels. False: they are as if torch's ``grid_sample(align_corners=False)`` had
        been given a grid made for True: ``(x + u) w / (w - 1) - 1/2``, which turns a flow of zeros into a slight zoom
      nearest: the nearest pixel, at halves the even one, in place of the mean of four weighted by distance

    Returns:
      b h' w' c, of the image's type; the weights are float32, or float64 where the flow is
    """
    if image.ndim != 4 or flow.ndim != 4 or flow.shape[-1] != 2 or len(image) != len(flow):
        raise InputError(f"warp: an image {image.shape} and a flow {flow.shape}: expected b h w c and b h w 2")
    if outside not in ("zeros", "border"):
        raise InputError(f"warp: outside={outside!r}: expected 'zeros' or 'border'")
    height, width = image.shape[1:3]
    x, y = positions(flow)
    if not align_corners:
        x = x * (width / max(width - 1, 1)) - 0.5
        y = y * (height / max(height - 1, 1)) - 0.5
    if nearest:
        x, y = jnp.round(x), jnp.round(y)
    if outside == "zeros":  # one row and column of them; what is further away is brought there
        image = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x, y, height, width = x + 1, y + 1, height + 2, width + 2
    x, y = jnp.clip(x, 0, width - 1), jnp.clip(y, 0, height - 1)
    # Where the mesh divides rows, the flow may point into another part: the picture is whole, the result divided.
    flat = undivided(image).reshape(len(image), height * width, image.shape[-1])
    if nearest:
        return _read(flat, y, x, width)
    left, top = jnp.floor(x), jnp.floor(y)
    right, bottom = jnp.minimum(left + 1, width - 1), jnp.minimum(top + 1, height - 1)
    across, down = (x - left)[..., None], (y - top)[..., None]
    above = (1 - across) * _read(flat, top, left, width) + across * _read(flat, top, right, width)
    below = (1 - across) * _read(flat, bottom, left, width) + across * _read(flat, bottom, right, width)
    return ((1 - down) * above + down * below).astype(image.dtype)


def positions(flow: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where a flow points to: b h w 2 -> (x, y), each b h w, in pixels, float32 (or float64 where the flow is)."""
    height, width = flow.shape[1:3]
    flow = _precise(flow)
    return flow[..., 0] + jnp.arange(width), flow[..., 1] + jnp.arange(height)[:, None]


def contradicts(
    flow: jax.Array,
    back: jax.Array,
    *,
    outside: Outside = "border",
    relative: float = 0.01,
    absolute: float = 0.5,
) -> jax.Array:
    """Where the way there and back does not end near its start (Sundaram et al., ECCV 2010): occlusion.

    With B the flow back, read where the flow F points to: ``|F + B|² > relative (|F|² + |B|²) + absolute``, squared
    lengths in pixels. `~contradicts(..., outside="zeros")` is ProPainter's validity, but for exact equality.

    Args:
      flow: b h w 2, from the frame in whose coordinates the result is
      back: b h w 2, from the other frame to it
      outside: see `warp`

    Returns:
      b h w 1, bool
    """
    flow = _precise(flow)
    there = warp(_precise(back), flow, outside=outside)
    allowed = relative * (_squares(flow) + _squares(there)) + absolute
    return _squares(flow + there) > allowed


def motion_boundary(flow: jax.Array, *, relative: float = 0.01, absolute: float = 0.002) -> jax.Array:
    """Where a flow changes abruptly (Sundaram et al., ECCV 2010), b h w 2 -> b h w 1, bool.

    ``|dF/dx|² + |dF/dy|² > relative |F|² + absolute`` with differences to the next column and row; none at the last.
    """
    flow = _precise(flow)
    across = jnp.pad(flow[:, :, 1:] - flow[:, :, :-1], ((0, 0), (0, 0), (0, 1), (0, 0)))
    down = jnp.pad(flow[:, 1:] - flow[:, :-1], ((0, 0), (0, 1), (0, 0), (0, 0)))
    return _squares(across) + _squares(down) > relative * _squares(flow) + absolute


def occluded(flow: jax.Array, back: jax.Array) -> jax.Array:
    """Where the other frame does not show a pixel, or it is not sure that it does: the mask of the warping error.

    `contradicts` or `motion_boundary`, as in the code of Lai et al. (arXiv 1808.00449).

    Args:
      flow: b h w 2, from the frame in whose coordinates the result is
      back: b h w 2, from the other frame to it

    Returns:
      b h w 1, bool
    """
    return contradicts(flow, back) | motion_boundary(flow)


def _read(flat: jax.Array, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
    """b n c at (rows, columns), each b h w -> b h w c."""

    def one(pixels, index):
        # "clip" is for the index that a NaN becomes.
        return pixels.at[index].get(mode="clip")

    # Whole numbers first: above 2^24 pixels float32 does not have every product.
    return jax.vmap(one)(flat, rows.astype(jnp.int32) * width + columns.astype(jnp.int32))


def _precise(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _squares(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x), axis=-1, keepdims=True)
