"""Internal Video Inpainting by Implicit Long-range Propagation (Ouyang, Wang, Chen; ICCV 2021, arXiv 2108.01912).

A network is trained from scratch on one clip: what it has to fill is what it sees in other frames, so the content of
the hole travels through the weights and no optical flow is needed. It is DeepFillv2's generator without contextual
attention: a coarse network of gated convolutions fills the hole roughly, two branches look at the result, and a last
one decodes both.

Widths below are for ``width = 48``, the number of filters *before* the split into features and gates: 48 -> 24.

| coarse_net | k, stride, dilation: out | conv_branch | out | conv_branch2 | out | out_branch | out |
|---|---|---|---|---|---|---|---|
| 0 | 5,1,1: 24 | 0 | 24 | 0 | 24 | 0 | 3,1,1: 96 |
| 1 | 3,2,1: 48 | 1 (stride 2) | 24 | 1 (stride 2) | 24 | 1 | 96 |
| 2 | 3,1,1: 48 | 2 | 48 | 2 | 48 | 2 (doubles) | 48 |
| 3 | 3,2,1: 96 | 3 (stride 2) | 48 | 3 (stride 2) | 96 | 3 | 48 |
| 4, 5 | 3,1,1: 96 | 4, 5 | 96 | 4 | 96 | 4 (doubles) | 24 |
| 6 … 9 | 3,1,2…16: 96 | 6 … 9 (dilated alike) | 96 | 5 (ReLU), 6, 7 | 96 | 5 | 12 |
| 10, 11 | 3,1,1: 96 | | | | | 6, tanh | 3 |
| 12 (doubles), 13 | 48 | | | | | | |
| 14 (doubles), 15 | 24, 12 | | | | | | |
| 16, tanh | 3 | | | | | | |

Layers are numbered as in the checkpoints that the released training writes (``layer_with_weights-N``). As released,
the refinement sees three channels only (no mask) and the last layers have no gate. The released code has three more
classes: `StackModel` has no conv_branch, `BaseModel` is the coarse network alone, `RefineModelUp` takes a picture in
place of the coarse stage's (the ``prior`` here) and evaluates a coarse network that feeds nothing.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxpaint.nn import Conv, GatedConv, GatedUpConv
from jaxpaint.ops.pixels import composite, without_hole
from jaxpaint.types import InputError

MULTIPLE = 4
"""Height and width must be divisible by this: two halvings."""


class Layer(NamedTuple):
    """One gated layer.

    multiple: filters before the split, in units of the network's width
    kernel, stride, dilation: of the convolution
    relu:     ReLU in place of ELU
    doubles:  the picture is doubled first
    """

    multiple: float
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    relu: bool = False
    doubles: bool = False


DILATED = tuple(Layer(4, dilation=dilation) for dilation in (2, 4, 8, 16))
DECODER = (Layer(4), Layer(4), Layer(2, doubles=True), Layer(2), Layer(1, doubles=True), Layer(0.5))
COARSE = (
    *(Layer(1, 5), Layer(2, stride=2), Layer(2), Layer(4, stride=2), Layer(4), Layer(4)),
    *(*DILATED, *DECODER),
)
BRANCH = (Layer(1, 5), Layer(1, stride=2), Layer(2), Layer(2, stride=2), Layer(4), Layer(4), *DILATED)
BRANCH2 = (
    *(Layer(1, 5), Layer(1, stride=2), Layer(2), Layer(4, stride=2)),
    *(Layer(4), Layer(4, relu=True), Layer(4), Layer(4)),
)


class Generator(nn.Module):
    """The two-stage network, 4,051,278 parameters at width 48: `RefineModel` of the released code.

    width: filters of the first layer before the split into features and gates; 48 as published
    gain:  of the gated layers' kernels at the start (see `jaxpaint.nn.GatedConv`); 1 as released
    residual: the refinement is added to the picture that it refines, and begins at nothing; not as released, where it
              makes the whole picture anew
    dtype: of the activations
    """

    width: int = 48
    gain: float = 1.0
    residual: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array, prior: jax.Array | None = None, *, refine: bool = True):
        """Fills the hole.

        Args:
          image: b h w 3 in [-1, 1], h and w divisible by 4; what it holds inside the hole is not looked at
          mask: b h w 1, 1 = hole
          prior: b h w 3 in [-1, 1], a filling made at a lower resolution and enlarged: it takes the place of the
            coarse stage's, which is not run then
          refine: False ends with the coarse stage, and its picture is the result

        Returns:
          (b h w 3 in [-1, 1], which a residual one may leave, not composited, float32; out) where out holds ``stage1``
          (the coarse picture, or the prior), ``stage1_pretanh`` (where the coarse stage ran), ``branch1`` and
          ``branch2`` (b h/4 w/4 2*width, where the refinement ran).

        Raises:
          InputError: a height or width that is not divisible by 4.
        """
        if image.shape[1] % MULTIPLE or image.shape[2] % MULTIPLE:
            raise InputError(
                f"IIVI: the frame is {image.shape[1]}x{image.shape[2]}: height and width must be divisible by "
                f"{MULTIPLE}; pad them (jaxpaint.ops.pad.pad_to_multiple)"
            )
        stack = functools.partial(_Stack, width=self.width, gain=self.gain, dtype=self.dtype)
        out: dict[str, jax.Array] = {}
        mask = mask.astype(jnp.float32)
        known = without_hole(image, mask)

        if prior is None:
            x = jnp.concatenate([known, mask], axis=-1)
            out["stage1_pretanh"] = stack(COARSE, plain=True, name="coarse_net")(x).astype(jnp.float32)
            out["stage1"] = jnp.tanh(out["stage1_pretanh"])
        else:
            out["stage1"] = prior.astype(jnp.float32)
        if not refine:
            return out["stage1"], out

        x = composite(out["stage1"], known, mask)
        out["branch1"] = stack(BRANCH, name="conv_branch")(x)
        out["branch2"] = stack(BRANCH2, name="conv_branch2")(x)
        both = jnp.concatenate([out["branch1"], out["branch2"]], axis=-1)
        stage2 = jnp.tanh(stack(DECODER, plain=True, zero=self.residual, name="out_branch")(both).astype(jnp.float32))
        return out["stage1"] + stage2 if self.residual else stage2, out


class _Stack(nn.Module):
    """Gated layers one after another and, where `plain`, a convolution to three channels without a gate.

    layers: in order
    width:  unit of their multiples
    gain:   of the gated kernels
    plain:  whether the last convolution is there
    zero:   whether it begins at zero
    dtype:  of the activations
    """

    layers: tuple[Layer, ...]
    width: int
    gain: float
    dtype: jnp.dtype
    plain: bool = False
    zero: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """b h w c -> b h' w' c'."""
        for number, layer in enumerate(self.layers):
            features = int(layer.multiple * self.width / 2)
            shared = {"gain": self.gain, "dtype": self.dtype, "name": f"layer_with_weights-{number}"}
            if layer.doubles:
                x, _ = GatedUpConv(features, **shared)(x)
            else:
                activation = nn.relu if layer.relu else nn.elu
                gated = GatedConv(features, layer.kernel, layer.stride, layer.dilation, activation, **shared)
                x, _ = gated(x)
        if self.plain:
            x = _Plain(self.dtype, self.zero, name=f"layer_with_weights-{len(self.layers)}")(x)
        return x


class _Plain(nn.Module):
    """The last layer: a convolution to three channels, one level further down, as in the checkpoints."""

    dtype: jnp.dtype
    zero: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        begin = {"kernel_init": nn.initializers.zeros} if self.zero else {}
        return Conv(3, dtype=self.dtype, name="conv", **begin)(x)


def keras_vgg_input(x: jax.Array) -> jax.Array:
    """... 3 RGB in [-1, 1] -> BGR in 0 … 255 less ImageNet's mean, float32: what Keras' VGG-19 was trained on.

    The released anti-ambiguity term looks at ``relu4_2`` of that network.
    """
    bgr = (x.astype(jnp.float32)[..., ::-1] + 1) * 127.5
    return bgr - np.float32((103.939, 116.779, 123.68))
