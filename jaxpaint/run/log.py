"""Where a run's figures go: metrics.jsonl, TensorBoard, PNG sheets, and a line on the screen."""

import json
import math
import pathlib
from collections.abc import Mapping

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter


class Log:
    """Writes scalars and sheets of a run; on hosts other than the first it writes nothing.

    Files, in the run's directory: ``metrics.jsonl`` (a line per log interval, exact float32 values),
    ``tensorboard/``, ``samples/STEP.png``. A run that was killed and resumed does some steps twice: the last line of a
    step counts.
    """

    def __init__(self, workdir: pathlib.Path, *, active: bool = True):
        self.active = active
        self.workdir = workdir
        if active:
            _drop_torn_line(workdir / "metrics.jsonl")
            self._jsonl = (workdir / "metrics.jsonl").open("a")
            self._board = SummaryWriter(str(workdir / "tensorboard"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """`step` is the number of updates done. Values that are not finite are null in the file."""
        if not self.active:
            return
        finite = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
        self._jsonl.write(json.dumps({"step": step, **finite}) + "\n")
        self._jsonl.flush()
        for name, value in finite.items():
            if value is not None:
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


def _drop_torn_line(path: pathlib.Path) -> None:
    """Cuts off what a killed run has written of a line that it did not finish."""
    if path.exists():
        whole = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(whole.rfind(b"\n") + 1)
