"""What the fixed feature networks share: how a picture is prepared for each, pooling as torch does it, random weights.

The networks themselves are `jaxpaint.models.vgg`, `alexnet`, `squeezenet` and `inception`. Each takes RGB pictures in
[-1, 1], as everything here, and applies its own preparation, the attribute ``normalise``, which is one of the functions
below: which of them a paper's code used is part of its loss or metric, and names it.

| function | what the network sees | used by |
|---|---|---|
| `imagenet` | ((x + 1) / 2 - mean) / std, ImageNet's | torchvision's training; AOT-GAN, most perceptual losses |
| `unit_range` | (x + 1) / 2 | EdgeConnect's perceptual and style losses |
| `lpips_scaling` | (x - shift) / scale, three digits | LPIPS, version 0.1 |
| `as_it_is` | x | FID's InceptionV3, after its resize |
"""

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxpaint.types import InputError, PyTree, leaf_name

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of RGB values in [0, 1]; as torchvision's documentation has them."""

LPIPS_SHIFT = (-0.030, -0.088, -0.188)
LPIPS_SCALE = (0.458, 0.448, 0.450)
"""ImageNet's mean and std for [-1, 1], rounded: not exactly `imagenet` (released code of arXiv 1801.03924)."""


def imagenet(x: jax.Array) -> jax.Array:
    """... 3 in [-1, 1] -> the mean subtracted and divided by the standard deviation of ImageNet, float32."""
    return (unit_range(x) - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)


def unit_range(x: jax.Array) -> jax.Array:
    """... 3 in [-1, 1] -> [0, 1], float32."""
    return (x.astype(jnp.float32) + 1) / 2


def lpips_scaling(x: jax.Array) -> jax.Array:
    """... 3 in [-1, 1] -> (x - shift) / scale of LPIPS 0.1, float32."""
    return (x.astype(jnp.float32) - np.float32(LPIPS_SHIFT)) / np.float32(LPIPS_SCALE)


def as_it_is(x: jax.Array) -> jax.Array:
    """... 3 in [-1, 1] -> the same, float32."""
    return x.astype(jnp.float32)


def check_picture(network: str, x: jax.Array, smallest: int) -> None:
    """Raises an InputError unless x is b h w 3 with sides of which the last layer still sees something."""
    if x.ndim != 4 or x.shape[-1] != 3:
        raise InputError(f"{network}: pictures of shape {x.shape}: expected b h w 3, RGB in [-1, 1]")
    if min(x.shape[1:3]) < smallest:
        raise InputError(
            f"{network}: the picture is {x.shape[1]}x{x.shape[2]}: nothing would be left of it at the last layer; "
            f"expected {smallest}x{smallest} at least: enlarge it"
        )


def max_pool(x: jax.Array, size: int, stride: int, *, ceil: bool = False) -> jax.Array:
    """The largest of every size x size window, without padding.

    Args:
      x: b h w c
      size: side of the window
      stride: of the windows
      ceil: a last window that only begins inside the picture counts, too (torch's ``ceil_mode=True``); otherwise
        rows and columns that fill no window are dropped

    Returns:
      b h' w' c, h' = (h - size) / stride + 1, rounded down, or up where `ceil`
    """
    around = [(0, -(side - size) % stride if ceil else 0) for side in x.shape[1:3]]
    return nn.max_pool(x, (size, size), (stride, stride), around)


def random_variables(
    network: nn.Module, seed: int, inputs: Sequence[tuple[int, ...]] = ((1, 96, 96, 3),)
) -> dict[str, PyTree]:
    """Weights that were never trained: He's normal kernels, no biases, normalisation that does nothing.

    Features of random weights keep textures apart to some degree; they are no published loss or metric. Nothing here
    uses them unless it was told to, and whoever does says so with every figure.

    Args:
      network: of `jaxpaint.models`
      seed: the same one gives the same weights on every machine
      inputs: shapes of what it is called with, of any size: a picture; a clip has another

    Returns:
      variables for ``network.apply``, float32 NumPy arrays
    """
    given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    shapes = jax.eval_shape(network.init, jax.random.key(0), *given)
    # Drawn by NumPy: to compile `init` of such a network takes longer than to run the network.
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _random(leaf_name(path), leaf.shape, seed), shapes)


def _random(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Each leaf has a generator of its own: what another one draws does not change it."""
    match name.rsplit("/", 1)[-1]:
        case "kernel":
            rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
            fan_in = np.prod(shape[:-1])
            return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
        case "scale" | "var":
            return np.ones(shape, np.float32)
        case _:
            return np.zeros(shape, np.float32)
