"""What a metric is: a record that measures pictures and a sum that can be merged exactly.

A metric runs in two stages, so that one record serves both a mean over pictures (PSNR) and a number
that belongs to the whole set (FID):

- ``measure(predictions, targets, masks)`` does the heavy work and gives one measurement a picture;
- ``update``, ``merge`` and ``compute`` turn measurements into the figure. States merge in any order and
  grouping with the same result to the last bit: halves of a set, ratio buckets, hosts.

Precision: figures are quoted to four digits and compared between papers, and SSIM subtracts products of
window means that nearly cancel, so everything is computed in float64. The functions are JAX, traced under
``jax.enable_x64`` for the duration of the call; nothing is switched on globally. uint8 pictures make every
window sum an integer below 2**53, hence exact.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.types import InputError

REGIONS = ("whole", "hole")

TOO_SMALL = "too small"
EMPTY = "empty region"

BUCKET = 64  # pictures are padded to multiples of this, so that a folder of mixed sizes compiles few shapes
UNIT = 2**40  # sums are integers in units of 2**-40 (1e-12): integer addition is exact in any order


class Metric(NamedTuple):
    """One implementation of one metric; its key in `METRICS` is the id that the protocol card prints.

    about:   the definition, in one sentence that settles which of the field's variants this is
    better:  "lower" or "higher"
    unit:    "", "dB" or a range such as "[0, 1]"
    regions: the regions it is defined for, of `REGIONS` (or "outside")
    measure: ``(predictions, targets, masks) -> measurements``: sequences of uint8 arrays h w 3, h w 3 and
             h w 1 (1 = hole), of any sizes. A dict: ``{region: [one value a picture]}`` where a picture has a
             value of its own, anything else (``{"features": ...}``) where only the set has one. Metrics with the
             same object here are measured once for all
    init:    ``() -> state``
    update:  ``(state, measurements) -> state``; metrics with the same `measure` and `update` share one state, too
    merge:   ``(state, state) -> state``, associative and commutative to the last bit
    compute: ``(state) -> {region: {"value": float or None, "n": pictures in it, ...}}``; a value of None
             comes with a "reason", a value that is not to be quoted as it stands with a "flag": sentences
    of_set:  a figure of the whole set, not a mean over pictures: it has no meaning where every picture is in the set
             several times, once a mask bucket
    """

    about: str
    better: str
    unit: str
    regions: tuple[str, ...]
    measure: Callable[[Sequence, Sequence, Sequence], Any]
    init: Callable[[], Any]
    update: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any]
    compute: Callable[[Any], Mapping[str, dict]]
    of_set: bool = False


class Mean(NamedTuple):
    """An exact mean of per-picture values of one region: integers only, so that merging is exact.

    total:    sum of the finite values, in units of 2**-40
    count:    how many finite values
    infinite: pictures whose value is infinite (PSNR of identical pixels): counted, never averaged
    empty:    pictures in which the region has no pixel that the metric could use: counted, left out
    small:    pictures too small for the metric's window: one of them makes the mean undefined
    """

    total: int = 0
    count: int = 0
    infinite: int = 0
    empty: int = 0
    small: int = 0

    def add(self, value: float | str) -> "Mean":
        """With one more picture: a number, or `TOO_SMALL` or `EMPTY` where there is none."""
        if value == TOO_SMALL:
            return self._replace(small=self.small + 1)
        if value == EMPTY:
            return self._replace(empty=self.empty + 1)
        if np.isinf(value):
            return self._replace(infinite=self.infinite + 1)
        return self._replace(total=self.total + round(value * UNIT), count=self.count + 1)

    def merge(self, other: "Mean") -> "Mean":
        """Both sets of pictures together."""
        return Mean(*(a + b for a, b in zip(self, other, strict=True)))

    def result(self, smallest: int) -> dict:
        """``{"value", "n"}``, with "infinite", "empty" and "reason" where there is something to say."""
        shown = {"value": None, "n": self.count}
        if self.infinite:
            shown["infinite"] = self.infinite
        if self.empty:
            shown["empty"] = self.empty
        if self.small:
            pictures = sum(self[1:])
            shown["n"] = 0
            shown["reason"] = f"{self.small} of {pictures} pictures are below {smallest} px on a side"
        elif self.count:
            shown["value"] = self.total / (self.count * UNIT)
        elif self.infinite:
            shown["reason"] = f"infinite for all {self.infinite} pictures: prediction and target are identical"
        else:
            shown["reason"] = "the region is empty in every picture" if self.empty else "no pictures"
        return shown


def picture_metric(
    function: Callable, *, about: str, better: str, unit: str = "", smallest: int = 1, regions: Sequence[str] = REGIONS
) -> Metric:
    """A metric that is the mean over pictures of a per-picture value.

    Args:
      function: pure JAX, ``(prediction, target, hole, inside) -> {region: scalar}``: pictures h w 3, floats
        in 0..255; ``hole`` and ``inside`` h w bool. Pixels where ``inside`` is False are padding (zeros,
        below and to the right) that must not count. A region without pixels gives NaN.
      smallest: the shorter side, in pixels, below which the metric is not defined
    """
    regions = tuple(regions)

    @jax.jit
    def compiled(prediction, target, mask, height, width):
        rows, columns = jnp.arange(mask.shape[0])[:, None], jnp.arange(mask.shape[1])[None]
        inside = (rows < height) & (columns < width)
        hole = (mask[..., 0] > 0) & inside
        return function(jnp.asarray(prediction, float), jnp.asarray(target, float), hole, inside)

    def measure(predictions, targets, masks):
        pending = []
        with jax.enable_x64(True):  # dispatch everything first: an accelerator works while the host pads
            for prediction, target, mask in zip(predictions, targets, masks, strict=True):
                height, width = check_pair(prediction, target, mask)
                if min(height, width) < smallest:
                    pending.append(None)
                else:
                    pending.append(compiled(*map(pad, (prediction, target, mask)), height, width))
        measured = jax.device_get(pending)
        return {region: [value_or_reason(values, region) for values in measured] for region in regions}

    return mean_of_pictures(measure, about=about, better=better, unit=unit, smallest=smallest, regions=regions)


def mean_of_pictures(
    measure: Callable, *, about: str, better: str, unit: str = "", smallest: int = 1, regions: Sequence[str] = REGIONS
) -> Metric:
    """The metric of a `measure` that gives ``{region: [a number, `TOO_SMALL` or `EMPTY` for each picture]}``: the mean.

    smallest: the shorter side, in pixels, below which a picture is `TOO_SMALL`
    """
    regions = tuple(regions)

    def init():
        return {region: Mean() for region in regions}

    def update(state, measured):
        return {region: functools.reduce(Mean.add, measured[region], state[region]) for region in regions}

    def merge(a, b):
        return {region: a[region].merge(b[region]) for region in regions}

    def compute(state):
        return {region: state[region].result(smallest) for region in regions}

    return Metric(about, better, unit, regions, measure, init, update, merge, compute)


def check_pair(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray) -> tuple[int, int]:
    """Height and width of a pair and its mask; InputError where they do not belong together."""
    if target.ndim != 3 or target.shape[2] != 3:
        raise InputError(f"a picture has the shape {target.shape}, expected (height, width, 3): convert it to RGB")
    height, width, _ = target.shape
    if prediction.shape != target.shape:
        raise InputError(
            f"the prediction is {_size(prediction)} but the ground truth is {_size(target)}: "
            "a metric compares pixel by pixel, resize neither afterwards"
        )
    if mask.shape != (height, width, 1):
        raise InputError(
            f"the mask has the shape {mask.shape} but the picture is {_size(target)}: "
            f"expected ({height}, {width}, 1); resize one of them"
        )
    if not np.issubdtype(prediction.dtype, np.integer) and not np.isfinite(prediction).all():
        raise InputError("the prediction has NaN or infinite pixels: nothing can be measured on it")
    return height, width


def pad(array: np.ndarray) -> np.ndarray:
    """Zeros below and to the right, up to multiples of `BUCKET`."""
    height, width = array.shape[:2]
    return np.pad(array, ((0, -height % BUCKET), (0, -width % BUCKET), (0, 0)))


def value_or_reason(values: Mapping[str, Any] | None, region: str) -> float | str:
    """A picture's value of that region; `EMPTY` where it is NaN, `TOO_SMALL` where there are no values at all."""
    if values is None:
        return TOO_SMALL
    value = float(values[region])
    return EMPTY if np.isnan(value) else value


def _size(array):
    return "x".join(map(str, array.shape))
