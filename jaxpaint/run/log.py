"""Where a run's figures go: metrics.jsonl, TensorBoard, PNG sheets, and a line on the screen."""

import json
import pathlib
from collections.abc import Mapping

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter


class Log:
    """Writes scalars and sheets of a run; on hosts other than the first it writes nothing.

    Files, in the run's directory: ``metrics.jsonl`` (a line per log interval, exact float32 values),
    ``tensorboard/``, ``samples/STEP.png``.
    """

    def __init__(self, workdir: pathlib.Path, *, active: bool = True):
        self.active = active
        self.workdir = workdir
        if active:
            self._jsonl = (workdir / "metrics.jsonl").open("a")
            self._board = SummaryWriter(str(workdir / "tensorboard"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """`step` is the number of updates done."""
        if not self.active:
            return
        self._jsonl.write(json.dumps({"step": step, **{k: float(v) for k, v in values.items()}}) + "\n")
        self._jsonl.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def sheet(self, step: int, sheet: np.ndarray) -> None:
        """A uint8 h w 3 picture."""
        if not self.active:
            return
        folder = self.workdir / "samples"
        folder.mkdir(exist_ok=True)
        Image.fromarray(sheet).save(folder / f"{step:08d}.png")
        self._board.add_image("samples", sheet, step, dataformats="HWC")

    def close(self) -> None:
        if self.active:
            self._jsonl.close()
            self._board.close()
