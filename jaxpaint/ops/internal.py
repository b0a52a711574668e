"""What learning from one clip draws and prepares: frames, masks that are borrowed and rolled.

Everything is a function of (key, step): any step of a fit can be made again, and a fit that was interrupted goes on
with the frames that it would have seen. The order is that of the released code of IIVI (arXiv 2108.01912):

- frames come in order, a batch being so many consecutive frames, the clip repeated for ever; batches run across its
  end;
- beside every frame stands the mask of another one, in an order that is drawn anew for every round through the clip;
- one shift is drawn a step; the borrowed masks of the whole batch are rolled by it, rows and columns wrapping around,
  and what they cover is hidden from the network, although it is known: there it is told what is right.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.types import InputError


def resize_without_antialiasing(x: jax.Array, height: int, width: int) -> jax.Array:
    """Bilinear resizing between the nearest two rows and columns, with half-pixel centres, however much smaller.

    What ``tf.image.resize`` does by default: shrinking aliases, and a mask gets soft edges. Values of a float picture
    keep fractions.

    Args:
      x: b h w c, of any real type
      height, width: of the result

    Returns:
      b height width c, float32
    """
    x = x.astype(jnp.float32)
    for axis, size in ((1, height), (2, width)):
        low, high, share = _neighbours(x.shape[axis], size)
        share = share.reshape([-1 if a == axis else 1 for a in range(4)])
        first, second = jnp.take(x, low, axis), jnp.take(x, high, axis)
        x = first + (second - first) * share
    return x


def _neighbours(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(index before, index after, share of the latter) of every output position, in float32 as TensorFlow counts."""
    scale = np.float32(size) / np.float32(new_size)
    place = (np.arange(new_size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    low = np.floor(place)
    before, after = np.maximum(low, 0), np.minimum(np.ceil(place), size - 1)
    return before.astype(np.int32), after.astype(np.int32), place - low


def frame_indices(step: jax.Array, batch: int, frames: int) -> jax.Array:
    """The frames of a step: consecutive ones, round and round the clip.

    Args:
      step: scalar, from 0
      batch: frames a step
      frames: of the clip

    Returns:
      b, int32
    """
    return _positions(step, batch) % frames


def borrowed_indices(key: jax.Array, step: jax.Array, batch: int, frames: int) -> jax.Array:
    """Whose masks are borrowed in a step: every frame once a round, in an order drawn for the round.

    Args as `frame_indices`, and a key of the whole fit.

    Returns:
      b, int32
    """

    def one(position: jax.Array) -> jax.Array:
        order = jax.random.permutation(jax.random.fold_in(key, position // frames), frames)
        return order[position % frames]

    return jax.vmap(one)(_positions(step, batch)).astype(jnp.int32)


def _positions(step: jax.Array, batch: int) -> jax.Array:
    return jnp.asarray(step, jnp.int32) * batch + jnp.arange(batch, dtype=jnp.int32)


def draw_shifts(key: jax.Array, step: jax.Array, height: int, width: int, count: int = 1) -> jax.Array:
    """The shifts of a step, (rows, columns), uniform in [0, height) and [0, width): count 2, int32."""
    key = jax.random.fold_in(key, step)
    return jax.random.randint(key, (count, 2), 0, jnp.array([height, width]))


def hide(own: jax.Array, borrowed: jax.Array, shifts: jax.Array) -> jax.Array:
    """What the network is not shown: a frame's own hole and the borrowed mask, rolled.

    Masks may be soft: whatever is not 0 is hidden.

    Args:
      own: b h w 1
      borrowed: b h w 1
      shifts: b 2, or 1 2 for all of them: (rows, columns) by which masks are rolled, wrapping around

    Returns:
      b h w 1, exactly 0 or 1, float32

    Raises:
      InputError: masks of different sizes.
    """
    if own.shape != borrowed.shape:
        raise InputError(f"masks to hide with are {own.shape} and {borrowed.shape}: expected the same shape, b h w 1")

    def roll(mask: jax.Array, shift: jax.Array) -> jax.Array:
        return jnp.roll(mask, (shift[0], shift[1]), axis=(0, 1))

    rolled = jax.vmap(roll)(borrowed, jnp.broadcast_to(shifts, (borrowed.shape[0], 2)))
    return ((own != 0) | (rolled != 0)).astype(jnp.float32)


def drawn(
    key: jax.Array, step: jax.Array, frames: int, height: int, width: int, batch: int, *, mixed: bool = False
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What is drawn for a step of a fit.

    Args:
      key: of the whole fit
      step: scalar, from 0
      frames: of the clip
      height, width: by which shifts are bounded
      batch: frames a step
      mixed: frames come in an order drawn anew for every round, each with a shift of its own: neighbours, which are
        nearly the same picture, are seldom in one batch. False is as released: consecutive frames and one shift

    Returns:
      (b, which frames; b, whose masks are borrowed; b 2, or 1 2 for all, by which those are rolled), int32
    """
    order_key, shift_key, frame_key = jax.random.split(key, 3)
    index = borrowed_indices(frame_key, step, batch, frames) if mixed else frame_indices(step, batch, frames)
    borrowed = borrowed_indices(order_key, step, batch, frames)
    return index, borrowed, draw_shifts(shift_key, step, height, width, batch if mixed else 1)


def paste(image: jax.Array, mask: jax.Array, shifts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """An object cut out of a frame and pasted to other places of it, for a network that learns to find it.

    Args:
      image: h w 3, the annotated frame
      mask: h w 1, 1 = object
      shifts: b 2, (rows, columns) for each copy, wrapping around

    Returns:
      (b h w 3, the frame with the object at the second place as well; b h w 1, that second place)
    """

    def one(shift: jax.Array) -> tuple[jax.Array, jax.Array]:
        moved, where = (jnp.roll(x, (shift[0], shift[1]), axis=(0, 1)) for x in (image, mask))
        return jnp.where(where > 0.5, moved, image), where

    return jax.vmap(one)(shifts)
