"""How far a run is, and how fast: means of metrics between log lines, images a second, the time that remains."""

import math
import time

import numpy as np

from jaxpaint.run.compiles import Compiles
from jaxpaint.run.turn import Times


def duration(seconds: float) -> str:
    """Seconds as 3d 04:05:06."""
    days, rest = divmod(int(seconds), 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}d {clock}" if days else clock


def figures(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


class Window:
    """Means of metrics, and speed, since the last log line. Values that are not finite are left out of the means."""

    def __init__(self, batch: int, first: int, steps: int, compiles: Compiles):
        self.batch, self.steps, self.compiles = batch, steps, compiles
        self.started = self.begun = time.perf_counter()
        self.origin = self.first = first
        self.values: dict[str, list[float]] = {}
        self.times = Times()

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def take(self, done: int) -> tuple[dict[str, float], dict[str, float]]:
        """(means, speed) of the interval that ends at step `done`; the next one begins."""
        now = time.perf_counter()
        elapsed = max(now - self.started, 1e-9)
        finite = {name: [v for v in values if math.isfinite(v)] for name, values in self.values.items()}
        means = {name: float(np.mean(values)) if values else math.nan for name, values in finite.items()}
        speed = {
            "images_per_second": (done - self.first) * self.batch / elapsed,
            "waiting_share": (self.times.input + self.times.place) / elapsed,
            "compiles": float(self.compiles.count),
        }
        self.started, self.first, self.values = now, done, {}
        self.times.clear()
        return means, speed

    def remaining(self, done: int) -> float:
        """Seconds to the last step, at the mean speed of this process."""
        return (time.perf_counter() - self.begun) / max(done - self.origin, 1) * (self.steps - done)
