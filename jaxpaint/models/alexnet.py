"""AlexNet as torchvision has it: "one weird trick" (Krizhevsky, arXiv 1404.5997), without groups and normalisation.

Up to the last ReLU: one of LPIPS's three networks, the one that its authors recommend for evaluation.

| layer | in the file | k, stride, zeros around it: channels |
|---|---|---|
| conv1, relu1, pool1 | features.0 | 11, 4, 2: 64; max pool 3, stride 2 |
| conv2, relu2, pool2 | features.3 | 5, 1, 2: 192; max pool 3, stride 2 |
| conv3, relu3 | features.6 | 3, 1, 1: 384 |
| conv4, relu4 | features.8 | 3, 1, 1: 256 |
| conv5, relu5 | features.10 | 3, 1, 1: 256 |

Taps have the names of the first column. Windows that do not fit whole are dropped, by convolutions and pools alike.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.models.features import check_picture, imagenet, max_pool
from jaxpaint.nn import Conv

LPIPS_TAPS = ("relu1", "relu2", "relu3", "relu4", "relu5")
"""With `lpips_scaling`."""

# number in the file, channels, kernel, stride, zeros around the picture, a pool after it
_LAYERS = (
    (0, 64, 11, 4, 2, True),
    (3, 192, 5, 1, 2, True),
    (6, 384, 3, 1, 1, False),
    (8, 256, 3, 1, 1, False),
    (10, 256, 3, 1, 1, False),
)


class AlexNet(nn.Module):
    """The convolutional part, 2.5 M parameters.

    normalise: how pictures in [-1, 1] are prepared, of `jaxpaint.models.features`
    dtype:     of the activations
    """

    normalise: Callable = imagenet
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features of a picture.

        Args:
          image: b h w 3, RGB in [-1, 1], sides of 31 at least

        Returns:
          (relu5, b h' w' 256 with h' about h/16; out) with every tap by name
        """
        check_picture("AlexNet", image, smallest=31)
        x = self.normalise(image).astype(self.dtype)
        out: dict[str, jax.Array] = {}
        for number, (index, width, kernel, stride, zeros, pool) in enumerate(_LAYERS, start=1):
            x = out[f"conv{number}"] = Conv(
                width,
                kernel,
                stride,
                padding=zeros,
                dtype=self.dtype,
                name=str(index),
            )(x)
            x = out[f"relu{number}"] = nn.relu(x)
            if pool:
                x = out[f"pool{number}"] = max_pool(x, 3, 2)
        return x, out
