"""VGG-16 and VGG-19 (Simonyan and Zisserman, arXiv 1409.1556, table 1, columns D and E), up to the last pool.

3x3 convolutions of stride 1 with ReLUs, in five blocks with 2x2 max pools of stride 2 between them (rounded down): the
features that perceptual, style and contextual losses compare, and one of LPIPS's three networks.

| block | channels | layers of VGG-16 | of VGG-19 | side of the features |
|---|---|---|---|---|
| 1 | 64 | 2 | 2 | h |
| 2 | 128 | 2 | 2 | h/2 |
| 3 | 256 | 3 | 4 | h/4 |
| 4 | 512 | 3 | 4 | h/8 |
| 5 | 512 | 3 | 4 | h/16 |

Taps: ``conv3_1`` before the ReLU, ``relu3_1`` after it, ``pool3`` after the block's pool. Code of the Caffe lineage
says ``conv4_2`` where it means what is called ``relu4_2`` here: its ReLUs work in place.

Layers have the names of torchvision's files (``features.0``, ``features.2``, …: convolutions, ReLUs and pools are
counted together). The classifier is not part of it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.models.features import check_picture, imagenet, max_pool
from jaxpaint.nn import Conv

WIDTHS = (64, 128, 256, 512, 512)

VGG16_LAYERS = (2, 2, 3, 3, 3)
VGG19_LAYERS = (2, 2, 4, 4, 4)
"""Convolutions in each block."""

LPIPS_TAPS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
"""Of VGG-16 with `lpips_scaling`."""

PERCEPTUAL_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
STYLE_TAPS = ("relu2_2", "relu3_4", "relu4_4", "relu5_2")
"""Of VGG-19, in the losses of EdgeConnect (arXiv 1901.00212) and AOT-GAN (arXiv 2104.01431), after their code."""


class VGG(nn.Module):
    """The convolutional part, 14.7 M parameters with VGG-16's layers, 20.0 M with VGG-19's.

    layers:    convolutions in each block, for as many blocks as are wanted: (2, 2, 1) ends with ``pool3``, and its
               ``relu3_1`` is that of both networks
    normalise: how pictures in [-1, 1] are prepared, of `jaxpaint.models.features`
    dtype:     of the activations
    """

    layers: tuple[int, ...] = VGG19_LAYERS
    normalise: Callable = imagenet
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features of a picture.

        Args:
          image: b h w 3, RGB in [-1, 1], sides of 32 at least (2^blocks)

        Returns:
          (b h/32 w/32 512, the last pool (h/2^blocks); out) with every tap by name; under jit what nobody uses is not
          computed.
        """
        check_picture("VGG", image, smallest=2 ** len(self.layers))
        x = self.normalise(image).astype(self.dtype)
        out: dict[str, jax.Array] = {}
        index = 0
        for block, (count, width) in enumerate(zip(self.layers, WIDTHS, strict=False), start=1):
            for layer in range(1, count + 1):
                x = Conv(width, kernel_init=nn.initializers.he_normal(), dtype=self.dtype, name=str(index))(x)
                out[f"conv{block}_{layer}"] = x
                x = out[f"relu{block}_{layer}"] = nn.relu(x)
                index += 2
            x = out[f"pool{block}"] = max_pool(x, 2, 2)
            index += 1
        return x, out


def vgg16(**options) -> VGG:
    """VGG-16; options are `VGG`'s."""
    return VGG(layers=VGG16_LAYERS, **options)


def vgg19(**options) -> VGG:
    """VGG-19; options are `VGG`'s."""
    return VGG(layers=VGG19_LAYERS, **options)
