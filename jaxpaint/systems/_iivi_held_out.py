"""Early stopping of IIVI (ours, schedule="plateau"): known pixels are held out, and the error there is looked at."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.ops.pixels import from_uint8
from jaxpaint.systems._iivi_fit import Footage, Frames, Networks
from jaxpaint.types import PyTree


class HeldOut:
    """Masks with known places hidden as if they were holes, in every fourth frame: what is learnt is measured there.

    A frame's held-out part is the largest hole of at most half a frame, moved by half a frame, where it is known; where
    no frame has such a hole, a box in the middle. Frames of which that hides nothing known, or all of it, are left out.

    hidden:    h w 1, bool: what is held out
    frames:    from which
    looked_at: up to 8 of them, at which the error is measured; perhaps none
    """

    EVERY, MOST = 4, 8

    def __init__(self, masks: Frames):
        self.masks, self.shape = masks, masks.shape
        self.hidden = _held_out_part(masks)
        held = []
        for number in range(0, len(masks), self.EVERY):
            known = masks[number] == 0
            if 0 < np.count_nonzero(known & self.hidden) < np.count_nonzero(known):
                held.append(number)
        self.frames = frozenset(held)
        step = max(1, len(held) // self.MOST)
        self.looked_at = held[::step][: self.MOST]

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, numbers) -> np.ndarray:
        if np.ndim(numbers):
            return np.stack([self[number] for number in np.asarray(numbers)])
        mask = self.masks[int(numbers)]
        return np.where(self.hidden, mask.dtype.type(1), mask) if int(numbers) in self.frames else mask


def _held_out_part(masks: Frames) -> np.ndarray:
    """See `HeldOut`: h w 1, bool."""
    _, height, width, _ = masks.shape
    areas = [np.count_nonzero(masks[number]) for number in range(len(masks))]
    donors = [number for number, area in enumerate(areas) if 0 < area <= height * width // 2]
    if donors:
        donor = max(donors, key=lambda number: areas[number])
        return np.roll(masks[donor] != 0, (height // 2, width // 2), (0, 1))
    box = np.zeros((height, width, 1), bool)
    box[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return box


def held_out_error(networks: Networks, footage: Footage, held: HeldOut, refine: bool) -> Callable[[PyTree], float]:
    """params -> the mean error on known pixels that were held out, in [-1, 1] units."""
    own = footage.masks[held.looked_at]
    frame, hidden = from_uint8(jnp.asarray(footage.frames[held.looked_at])), held[held.looked_at]
    seen = jnp.asarray((own == 0) & (hidden != 0), jnp.float32)

    @jax.jit
    def error(params: PyTree) -> jax.Array:
        result, _ = networks.generator.apply({"params": params}, frame, jnp.asarray(hidden, jnp.float32), refine=refine)
        return jnp.sum(jnp.abs(result - frame) * seen) / (3 * jnp.sum(seen))

    return lambda params: float(error(params))
