"""The mask network of IIVI (Ouyang et al., arXiv 2108.01912): one annotated frame in, masks of all frames out.

A U-Net (Ronneberger et al., arXiv 1505.04597) that is trained on a single frame and its mask: the object, pasted to
other places of its own frame, is what it has to find (`jaxpaint.ops.internal.paste`). The released code declares
dropout and never switches it on; here there is none.

| block | convolutions | output |
|---|---|---|
| conv1, conv2, conv3, drop4 | two 3x3 each: 64, 128, 256, 512; a 2x2 max pool between them | h, h/2, h/4, h/8 |
| up6 (after a pool), up7, up8, up9 | two 3x3: 1024, 512, 256, 128; doubled; 2x2 to half as many | h/8, h/4, h/2, h |
| conv10 | 3x3 to 64, 64, 2; 1x1 to 1 | h |

Every convolution but the last ends in a ReLU. up7 to conv10 see the encoder's block of their size first, then the block
before them. Layers are numbered as in the checkpoints that the released training writes.
"""

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpaint.models.features import max_pool
from jaxpaint.nn import Conv
from jaxpaint.types import InputError

MULTIPLE = 16
"""Height and width must be divisible by this: four halvings."""


class UNet(nn.Module):
    """The segmentation network, 31,032,837 parameters at width 64.

    width: channels of the first block; 64 as published
    dtype: of the activations
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Finds the object.

        Args:
          image: b h w 3 in [-1, 1], h and w divisible by 16

        Returns:
          (b h w 1, logits: the object is where they are positive, float32; out) where out holds every block's output.

        Raises:
          InputError: a height or width that is not divisible by 16.
        """
        if image.shape[1] % MULTIPLE or image.shape[2] % MULTIPLE:
            raise InputError(
                f"IIVI's mask network: the frame is {image.shape[1]}x{image.shape[2]}: height and width must be "
                f"divisible by {MULTIPLE}; pad them (jaxpaint.ops.pad.pad_to_multiple)"
            )
        width, out = self.width, {}
        x = image
        for number, name in enumerate(("conv1", "conv2", "conv3", "drop4")):
            x = out[name] = _Block((width << number,) * 2, dtype=self.dtype, name=name)(x)
            x = max_pool(x, 2, 2)
        for number, (name, skip) in enumerate((("up6", "drop4"), ("up7", "conv3"), ("up8", "conv2"), ("up9", "conv1"))):
            channels = 16 * width >> number
            x = out[name] = _Block((channels,) * 2, halves_to=channels // 2, dtype=self.dtype, name=name)(x)
            x = jnp.concatenate([out[skip], x], axis=-1)
        x = _Block((width, width, 2), last=True, dtype=self.dtype, name="conv10")(x)
        return x.astype(jnp.float32), out


class _Block(nn.Module):
    """3x3 convolutions with ReLUs, and what may follow.

    widths:    of the convolutions
    halves_to: channels of a 2x2 convolution of the doubled result; 0 is none. It pads below and on the right alone
    last:      whether a 1x1 convolution to one channel follows, without a ReLU
    dtype:     of the activations
    """

    widths: tuple[int, ...]
    halves_to: int = 0
    last: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """b h w c -> b h w c', or b 2h 2w c' where it doubles."""
        for number, width in enumerate(self.widths):
            x = nn.relu(self._conv(width, 3, number)(x))
        number = len(self.widths)
        if self.halves_to:
            x = einops.repeat(x, "b h w c -> b (h p) (w q) c", p=2, q=2)
            x = nn.relu(self._conv(self.halves_to, 2, number)(x))
        return self._conv(1, 1, number)(x) if self.last else x

    def _conv(self, width: int, kernel: int, number: int) -> Conv:
        init, name = nn.initializers.he_normal(), f"layer_with_weights-{number}"
        return Conv(width, kernel, kernel_init=init, dtype=self.dtype, name=name)
