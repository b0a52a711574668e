"""FID's InceptionV3: the network of 2015 whose features FID, KID, the inception score and P-/U-IDS are measured with.

Szegedy et al., arXiv 1512.00567, as TensorFlow's graph of 2015-12-05 has it, with the names of pytorch-fid's
conversion (mseitzer/pytorch-fid); it is not torchvision's own InceptionV3. A layer is a convolution without a bias, a
normalisation with stored statistics (epsilon 0.001) and a ReLU. Sides below are for the 299 x 299 that it expects:

| block | layers | channels | side |
|---|---|---|---|
| 0 | Conv2d_1a_3x3 (stride 2), 2a_3x3, 2b_3x3, max pool | 32, 32, 64 | 149, 147, 147, 73 |
| 1 | Conv2d_3b_1x1, 4a_3x3, max pool | 80, 192 | 73, 71, 35 |
| 2 | Mixed_5b, 5c, 5d (A); 6a (B); 6b, 6c, 6d, 6e (C) | 256, 288, 288; 768; 768 | 35; 17; 17 |
| 3 | Mixed_7a (D); 7b, 7c (E); mean over positions: `pool3` | 1280; 2048, 2048 | 8; 8, 8; 1 |

What differs from the paper and from torchvision, and belongs to every published figure: the average pools do not count
the zeros around the picture; the pool of the very last block (7c) is a max pool; there are 1008 classes.

How a picture gets to 299 x 299 changes FID, too: `resize_half_pixel` and `resize_tf1` are the two ways of published
code.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxpaint.models.features import as_it_is, check_picture, max_pool
from jaxpaint.nn import Conv

SIDE = 299

FEATURES = 2048
"""Numbers in `pool3`."""


def resize_half_pixel(image: jax.Array) -> jax.Array:
    """As pytorch-fid (and LaMa's evaluator) resizes: bilinear, half-pixel centres, no antialias, also when shrinking.

    Args:
      image: b h w 3 in [-1, 1]

    Returns:
      b 299 299 3 in [-1, 1], float32
    """
    image = image.astype(jnp.float32)
    return jax.image.resize(image, (len(image), SIDE, SIDE, image.shape[-1]), "linear", antialias=False)


def resize_tf1(image: jax.Array) -> jax.Array:
    """As the TensorFlow original, torch-fidelity and TorchMetrics do: bilinear from the corner, and 255 -> 0.992.

    Output row i is read at row ``i * h / 299``, without an offset of half a pixel and without antialias; then values of
    0..255 are brought to ``(value - 128) / 128``.

    Args:
      image: b h w 3 in [-1, 1], whole steps of uint8 if the figure is to be compared (`jaxpaint.ops.pixels.to_uint8`
        and back)

    Returns:
      b 299 299 3, float32 in [-1, 0.992]
    """
    values = (image.astype(jnp.float32) + 1) * 127.5
    return (_from_the_corner(_from_the_corner(values, 1), 2) - 128) / 128


def _from_the_corner(x: jax.Array, axis: int) -> jax.Array:
    size = x.shape[axis]
    places = np.arange(SIDE, dtype=np.float32) * np.float32(size / SIDE)
    before = np.floor(places)
    share = (places - before).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    index = before.astype(np.int32)
    lower = jnp.take(x, index, axis=axis)
    return lower + (jnp.take(x, np.minimum(index + 1, size - 1), axis=axis) - lower) * share


class InceptionV3(nn.Module):
    """The network, 23.9 M parameters.

    normalise: of pictures that have been resized, of `jaxpaint.models.features`
    dtype:     of the activations; published figures are float32
    """

    normalise: Callable = as_it_is
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features of a picture.

        Args:
          image: b h w 3, RGB in [-1, 1], by one of the two resizes; sides of 75 at least, 299 for every figure

        Returns:
          (pool3, b 2048, float32; out) where out holds ``block0`` … ``block2`` (b h' w' 64, 192, 768), the outputs of
          the stem's layers and of the Mixed blocks by their names, ``pool3``, ``logits`` (b 1008) and
          ``logits_unbiased``, the same without the biases, of which torch-fidelity makes the inception score.
        """
        check_picture("InceptionV3", image, smallest=75)
        x = self.normalise(image).astype(self.dtype)
        out: dict[str, jax.Array] = {}
        for layer in _STEM:
            if isinstance(layer, _Spec):
                x = out[layer.name] = _Layer(layer, self.dtype, name=layer.name)(x)
            else:
                x = out["block1" if "block0" in out else "block0"] = layer(x)
        for name, branches in _BLOCKS:
            x = out[name] = _Block(branches, self.dtype, name=name)(x)
        out["block2"] = out["Mixed_6e"]
        pool3 = out["pool3"] = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        out["logits"], out["logits_unbiased"] = _Classes(name="fc")(pool3)
        return pool3, out


class _Spec(NamedTuple):
    """A layer: its name, channels, kernel (height, width), stride.

    bare: no zeros around the picture; otherwise as many as keep its size
    """

    name: str
    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    bare: bool = False


def _average(x: jax.Array) -> jax.Array:
    """3x3 means of what is inside the picture."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _largest(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (1, 1), "SAME")


def _halve(x: jax.Array) -> jax.Array:
    return max_pool(x, 3, 2)


Branch = Sequence
"""What is applied one after the other: layers, pools, and tuples of layers that stand side by side."""


def _a(pooled: int) -> tuple[Branch, ...]:
    return (
        (_Spec("branch1x1", 64),),
        (_Spec("branch5x5_1", 48), _Spec("branch5x5_2", 64, (5, 5))),
        (_Spec("branch3x3dbl_1", 64), _Spec("branch3x3dbl_2", 96, (3, 3)), _Spec("branch3x3dbl_3", 96, (3, 3))),
        (_average, _Spec("branch_pool", pooled)),
    )


def _b() -> tuple[Branch, ...]:
    return (
        (_Spec("branch3x3", 384, (3, 3), 2, bare=True),),
        (
            _Spec("branch3x3dbl_1", 64),
            _Spec("branch3x3dbl_2", 96, (3, 3)),
            _Spec("branch3x3dbl_3", 96, (3, 3), 2, bare=True),
        ),
        (_halve,),
    )


def _c(width: int) -> tuple[Branch, ...]:
    return (
        (_Spec("branch1x1", 192),),
        (
            _Spec("branch7x7_1", width),
            _Spec("branch7x7_2", width, (1, 7)),
            _Spec("branch7x7_3", 192, (7, 1)),
        ),
        (
            _Spec("branch7x7dbl_1", width),
            _Spec("branch7x7dbl_2", width, (7, 1)),
            _Spec("branch7x7dbl_3", width, (1, 7)),
            _Spec("branch7x7dbl_4", width, (7, 1)),
            _Spec("branch7x7dbl_5", 192, (1, 7)),
        ),
        (_average, _Spec("branch_pool", 192)),
    )


def _d() -> tuple[Branch, ...]:
    return (
        (_Spec("branch3x3_1", 192), _Spec("branch3x3_2", 320, (3, 3), 2, bare=True)),
        (
            _Spec("branch7x7x3_1", 192),
            _Spec("branch7x7x3_2", 192, (1, 7)),
            _Spec("branch7x7x3_3", 192, (7, 1)),
            _Spec("branch7x7x3_4", 192, (3, 3), 2, bare=True),
        ),
        (_halve,),
    )


def _e(pool: Callable) -> tuple[Branch, ...]:
    return (
        (_Spec("branch1x1", 320),),
        (
            _Spec("branch3x3_1", 384),
            (_Spec("branch3x3_2a", 384, (1, 3)), _Spec("branch3x3_2b", 384, (3, 1))),
        ),
        (
            _Spec("branch3x3dbl_1", 448),
            _Spec("branch3x3dbl_2", 384, (3, 3)),
            (_Spec("branch3x3dbl_3a", 384, (1, 3)), _Spec("branch3x3dbl_3b", 384, (3, 1))),
        ),
        (pool, _Spec("branch_pool", 192)),
    )


_STEM = (
    _Spec("Conv2d_1a_3x3", 32, (3, 3), 2, bare=True),
    _Spec("Conv2d_2a_3x3", 32, (3, 3), bare=True),
    _Spec("Conv2d_2b_3x3", 64, (3, 3)),
    _halve,
    _Spec("Conv2d_3b_1x1", 80),
    _Spec("Conv2d_4a_3x3", 192, (3, 3), bare=True),
    _halve,
)

_BLOCKS = (
    ("Mixed_5b", _a(32)),
    ("Mixed_5c", _a(64)),
    ("Mixed_5d", _a(64)),
    ("Mixed_6a", _b()),
    ("Mixed_6b", _c(128)),
    ("Mixed_6c", _c(160)),
    ("Mixed_6d", _c(160)),
    ("Mixed_6e", _c(192)),
    ("Mixed_7a", _d()),
    ("Mixed_7b", _e(_average)),
    ("Mixed_7c", _e(_largest)),
)


class _Layer(nn.Module):
    """A convolution, the normalisation with stored statistics, a ReLU."""

    spec: _Spec
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, features, kernel, stride, bare = self.spec
        padding = 0 if bare else None
        x = Conv(features, kernel, stride, padding=padding, use_bias=False, dtype=self.dtype, name="conv")(x)
        x = nn.BatchNorm(use_running_average=True, epsilon=0.001, dtype=self.dtype, name="bn")(x)
        return nn.relu(x)


class _Block(nn.Module):
    """Branches side by side, their channels one after the other."""

    branches: tuple[Branch, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.concatenate([self._run(branch, x) for branch in self.branches], axis=-1)

    def _run(self, steps: Branch, x: jax.Array) -> jax.Array:
        for step in steps:
            if isinstance(step, _Spec):
                x = _Layer(step, self.dtype, name=step.name)(x)
            elif callable(step):
                x = step(x)
            else:
                x = jnp.concatenate([_Layer(side, self.dtype, name=side.name)(x) for side in step], axis=-1)
        return x


class _Classes(nn.Module):
    """The classifier, with and without its biases."""

    @nn.compact
    def __call__(self, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (features.shape[-1], 1008))
        bias = self.param("bias", nn.initializers.zeros, (1008,))
        # "highest": scores come of small differences, and TPUs round the factors of products to bfloat16 by default.
        unbiased = jnp.matmul(features, kernel, precision="highest")
        return unbiased + bias, unbiased
