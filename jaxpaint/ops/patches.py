"""Cutting maps into overlapping patches, and adding patches back into a map."""

import einops
import jax
import jax.numpy as jnp


def extract_patches(x: jax.Array, size: int, stride: int = 1) -> jax.Array:
    """Square patches with TensorFlow's SAME zero padding.

    Args:
      x: b h w c
      size: height and width of a patch
      stride: step between patches

    Returns:
      b h' w' size size c, with h' = ceil(h / stride)
    """
    height, width = x.shape[1:3]
    (rows, top, bottom), (columns, left, right) = (_same(n, size, stride) for n in (height, width))
    x = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    cut = [
        [
            x[:, i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]
            for j in range(size)
        ]
        for i in range(size)
    ]
    return jnp.stack([jnp.stack(row, axis=3) for row in cut], axis=3)


def _same(length: int, size: int, stride: int) -> tuple[int, int, int]:
    """Number of patches along an axis, and the padding before and after it."""
    number = -(-length // stride)
    total = max((number - 1) * stride + size - length, 0)
    return number, total // 2, total - total // 2


def add_patches(patches: jax.Array) -> jax.Array:
    """Sums patches of twice their stride into a map: the adjoint of ``extract_patches(x, 2 * r, r)``.

    Args:
      patches: b h w 2r 2r c, patch (y, x) starting at row ``y * r - r // 2``, column ``x * r - r // 2``

    Returns:
      b h*r w*r c; away from the border every pixel is the sum of four patches
    """
    height, width, size = patches.shape[1:4]
    r = size // 2
    # Cut each patch into 2 x 2 quarters of r x r; quarter (i, j) of patch (y, x) lands on cell (y + i, x + j).
    quarters = einops.rearrange(patches, "b h w (i p) (j q) c -> i j b h w p q c", i=2, j=2)
    cells = sum(
        jnp.pad(quarters[i, j], ((0, 0), (i, 1 - i), (j, 1 - j), (0, 0), (0, 0), (0, 0)))
        for i in range(2)
        for j in range(2)
    )
    canvas = einops.rearrange(cells, "b h w p q c -> b (h p) (w q) c")
    start = r // 2
    return canvas[:, start : start + height * r, start : start + width * r]
