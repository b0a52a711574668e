"""SqueezeNet 1.1 (Iandola et al., arXiv 1602.07360, and the lighter second version of the released code).

Up to the last Fire module: one of LPIPS's three networks. A Fire module is a 1x1 convolution to few channels, then 1x1
and 3x3 convolutions of those, side by side.

| layer | in the file | channels |
|---|---|---|
| conv1, relu1 | features.0 | 3x3, stride 2, no zeros around the picture: 64 |
| pool1, fire2, fire3 | features.3, .4 | squeeze 16, expand 64 + 64 |
| pool3, fire4, fire5 | features.6, .7 | 32, 128 + 128 |
| pool5, fire6, fire7 | features.9, .10 | 48, 192 + 192 |
| fire8, fire9 | features.11, .12 | 64, 256 + 256 |

Pools are 3x3 of stride 2, and rounded **up**: a last window that is only partly inside the picture counts. Taps: the
names of the first column, numbered as in the paper; ``fire2_pre`` is the same before its last ReLU.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.models.features import check_picture, imagenet, max_pool
from jaxpaint.nn import Conv

LPIPS_TAPS = ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9")
"""With `lpips_scaling`."""

# number in the file, in the paper, channels that are squeezed to and expanded to, the pool before it
_FIRES = (
    (3, 2, 16, 64, "pool1"),
    (4, 3, 16, 64, ""),
    (6, 4, 32, 128, "pool3"),
    (7, 5, 32, 128, ""),
    (9, 6, 48, 192, "pool5"),
    (10, 7, 48, 192, ""),
    (11, 8, 64, 256, ""),
    (12, 9, 64, 256, ""),
)


class SqueezeNet(nn.Module):
    """The convolutional part of version 1.1, 0.7 M parameters.

    normalise: how pictures in [-1, 1] are prepared, of `jaxpaint.models.features`
    dtype:     of the activations
    """

    normalise: Callable = imagenet
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features of a picture.

        Args:
          image: b h w 3, RGB in [-1, 1], sides of 17 at least

        Returns:
          (fire9, b h' w' 512 with h' about h/16; out) with every tap by name
        """
        check_picture("SqueezeNet 1.1", image, smallest=17)
        x = self.normalise(image).astype(self.dtype)
        out: dict[str, jax.Array] = {}
        x = Conv(64, 3, 2, padding=0, dtype=self.dtype, name="0")(x)
        out["conv1"] = x
        x = out["relu1"] = nn.relu(x)
        for index, number, squeezed, expanded, pool in _FIRES:
            if pool:
                x = out[pool] = max_pool(x, 3, 2, ceil=True)
            x = out[f"fire{number}_pre"] = _Fire(squeezed, expanded, self.dtype, name=str(index))(x)
            x = out[f"fire{number}"] = nn.relu(x)
        return x, out


class _Fire(nn.Module):
    """A Fire module without its last ReLU: squeezed channels in the middle, twice `expanded` at the end."""

    squeezed: int
    expanded: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(Conv(self.squeezed, 1, dtype=self.dtype, name="squeeze")(x))
        ones = Conv(self.expanded, 1, dtype=self.dtype, name="expand1x1")(x)
        threes = Conv(self.expanded, 3, dtype=self.dtype, name="expand3x3")(x)
        return jnp.concatenate([ones, threes], axis=-1)
