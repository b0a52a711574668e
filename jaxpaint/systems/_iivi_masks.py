"""Masks of all frames of a clip from that of the first (IIVI, Ouyang et al., arXiv 2108.01912).

A U-Net is trained on the first frame alone: the object, cut out and pasted to other places of its own frame, is what it
has to find; where the object really is does not count. Then it looks at every frame by itself.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from jaxpaint.io.frames import Clip
from jaxpaint.losses.internal import pasted_object
from jaxpaint.models.iivi_segmentation import MULTIPLE, UNet
from jaxpaint.ops.internal import draw_shifts, paste
from jaxpaint.ops.pixels import from_uint8
from jaxpaint.types import InputError


@dataclasses.dataclass(frozen=True)
class MaskConfig:
    """How the object is learnt. Ours; the released numbers in brackets (`RELEASED_MASKS`).

    width: channels of the first block [64]
    base:  shorter side of the size at which masks are found, or the clip's own where that is less [320]
    steps: of training [8,000; 4,000 to 20,000 are advised]
    batch: copies a step [6]
    lr:    of Adam [0.0001]
    """

    width: int = 16
    base: int = 128
    steps: int = 600
    batch: int = 6
    lr: float = 1e-3


RELEASED_MASKS = MaskConfig(width=64, base=320, steps=8000, lr=1e-4)


def propagate(
    clip: Clip,
    mask: np.ndarray,
    config: MaskConfig,
    key: jax.Array,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[np.ndarray]:
    """Finds an object in all frames of a clip.

    Args:
      clip: see `jaxpaint.io.frames.Clip`
      mask: uint8 h w 1, where it is in the first frame, 1 = object
      config: see `MaskConfig`
      key: of weights and shifts
      say: is told how far it is

    Yields:
      uint8 h w 1, 1 = object, a mask a frame; the first is the given one

    Raises:
      InputError: a mask of another size than the clip, or of nothing, or of everything.
    """
    if mask.shape != (clip.height, clip.width, 1):
        raise InputError(
            f"the mask of the first frame is {mask.shape}, {clip.name} is {clip.height}x{clip.width}: expected a mask "
            "of its size, h w 1"
        )
    if not mask.any() or mask.all():
        state = "all of the first frame" if mask.any() else "nothing"
        raise InputError(f"the mask of the first frame marks {state}: mark the object, and it alone")
    size = _size(clip, config.base)
    frame, where = from_uint8(_shrunk(next(clip.frames(0, 1)), size)), _covered(mask, size)
    if not where.any():
        raise InputError(f"the object is smaller than a pixel at {size[0]}x{size[1]}: raise base ({config.base})")
    init, step, find = _programs(config)
    init_key, key = jax.random.split(key)
    state = init(init_key, frame)
    for number in range(config.steps):
        state, loss = step(state, frame, where, jax.random.fold_in(key, number))
        if (number + 1) % 100 == 0 or number + 1 == config.steps:
            say(f"step {number + 1} of {config.steps}: cross-entropy {float(loss):.5f}")
    yield mask.astype(np.uint8)
    for picture in clip.frames(1):
        logits = np.asarray(find(state[0], from_uint8(_shrunk(picture, size))))
        full = Image.fromarray(logits).resize((clip.width, clip.height), Image.Resampling.BILINEAR)
        yield (np.asarray(full) > 0).astype(np.uint8)[..., None]


@functools.cache
def _programs(config: MaskConfig) -> tuple[Callable, Callable, Callable]:
    """``init(key, frame) -> state``, ``step(state, frame, mask, key) -> (state, loss)``, ``find(params, frame)``."""
    network, tx = UNet(width=config.width), optax.adam(config.lr)

    def init(key, frame):
        params = network.init(key, frame[None])["params"]
        return params, tx.init(params)

    def step(state, frame, mask, key):
        params, opt = state
        pasted, moved = paste(frame, mask, draw_shifts(key, 0, *frame.shape[:2], config.batch))

        def loss(params):
            logits, _ = network.apply({"params": params}, pasted)
            return pasted_object(logits, moved, mask)

        value, gradient = jax.value_and_grad(loss)(params)
        updates, opt = tx.update(gradient, opt, params)
        return (optax.apply_updates(params, updates), opt), value

    def find(params, frame):
        return network.apply({"params": params}, frame[None])[0][0, ..., 0]

    return jax.jit(init), jax.jit(step, donate_argnums=0), jax.jit(find)


def _size(clip: Clip, base: int) -> tuple[int, int]:
    scale = min(1.0, base / min(clip.height, clip.width))
    return tuple(max(MULTIPLE, MULTIPLE * round(scale * side / MULTIPLE)) for side in (clip.height, clip.width))


def _shrunk(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))


def _covered(mask: np.ndarray, size: tuple[int, int]) -> jax.Array:
    """Where the object covers half of a pixel or more: h w 1."""
    share = Image.fromarray(mask[..., 0].astype(np.float32)).resize(size[::-1], Image.Resampling.BOX)
    return jnp.asarray(np.asarray(share) >= 0.5, jnp.float32)[..., None]
