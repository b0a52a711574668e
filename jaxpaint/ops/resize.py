"""Resizing with the index rules that published networks were trained with."""

import jax
import numpy as np


def nearest_align_corners(x: jax.Array, height: int, width: int) -> jax.Array:
    """Nearest neighbour with aligned corners, as TensorFlow 1's ``resize_nearest_neighbor(align_corners=True)``.

    Output row ``i`` is input row ``round(i * (n_in - 1) / (n_out - 1))``, halves away from zero, in float32.
    Doubling repeats every row; halving is not ``[::2]``: 64 to 32 rows gives 0, 2, 4 … and drifts to 59, 61, 63.

    Args:
      x: b h w c, of any type
      height, width: of the result

    Returns:
      b height width c
    """
    rows = _align_corners_index(x.shape[1], height)
    columns = _align_corners_index(x.shape[2], width)
    # Columns first: where rows are divided over devices, what travels is smaller by then.
    return x[:, :, columns][:, rows]


def _align_corners_index(size: int, new_size: int) -> np.ndarray:
    scale = np.float32(size - 1) / np.float32(new_size - 1) if new_size > 1 else np.float32(0)
    index = np.floor(np.arange(new_size, dtype=np.float32) * scale + np.float32(0.5))
    return np.minimum(index.astype(np.int32), size - 1)
