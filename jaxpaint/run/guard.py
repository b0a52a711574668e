"""Watching for losses and gradients that are not finite.

The step itself drops an update that is not finite (see `jaxpaint.train.play`); the guard names what went wrong and
stops a run that does not recover.
"""

import math
from collections.abc import Mapping

from jaxpaint.types import InputError


class NonFiniteError(RuntimeError):
    """Training stopped because losses or gradients were not finite."""


class Guard:
    """Counts dropped steps in a row.

    Args:
      policy: "skip" goes on after a dropped step, "abort" stops at the first
      limit: under "skip", the number of dropped steps in a row that stops the run
      batch: the global batch, to name the examples
    """

    def __init__(self, policy: str, limit: int, batch: int):
        if policy not in ("skip", "abort"):
            raise InputError(f"train.nonfinite is {policy!r}: expected 'skip' or 'abort'")
        self.limit = 1 if policy == "abort" else limit
        self.batch = batch
        self.row = 0
        self.total = 0

    def check(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Looks at the metrics of a step.

        Returns:
          None, or a warning that names the terms, the step and the examples' positions.

        Raises:
          NonFiniteError: at the `limit`-th dropped step in a row.
        """
        if not metrics["skipped"]:
            self.row = 0
            return None
        self.row += 1
        self.total += 1
        terms = [f"{name} = {value}" for name, value in metrics.items() if not math.isfinite(value)]
        first = step * self.batch
        message = (
            f"step {step} was dropped: not finite: {', '.join(terms)}; examples at positions "
            f"{first} to {first + self.batch - 1}; {self.row} in a row, {self.total} in all"
        )
        if self.row >= self.limit:
            raise NonFiniteError(
                f"{message}. The state is that of the last finite step. Lower optim.lr, set optim.clip_norm, or try "
                "train.precision=float32"
            )
        return message
