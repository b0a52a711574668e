"""The run's log files."""

import json

import numpy as np
from PIL import Image

from jaxpaint.run.log import Log


def test_a_torn_line_is_dropped_and_the_rest_kept(tmp_path):
    log = Log(tmp_path)
    log.scalars(1, {"loss": 0.1 + 0.2})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    log = Log(tmp_path)
    log.scalars(2, {"loss": float(np.float32(1 / 3))})
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": float(np.float32(1 / 3))}]


def test_what_is_not_finite_is_null(tmp_path):
    log = Log(tmp_path)
    log.scalars(1, {"loss": float("nan"), "norm": float("inf"), "l1": 2.0})
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": None, "norm": None, "l1": 2.0}


def test_sheets_are_written_and_tensorboard_has_events(tmp_path):
    log = Log(tmp_path)
    sheet = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    log.sheet(7, sheet)
    log.close()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "samples/00000007.png")), sheet)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"samples" in events.read_bytes()


def test_other_hosts_write_nothing(tmp_path):
    log = Log(tmp_path, active=False)
    log.scalars(1, {"loss": 1.0})
    log.sheet(1, np.zeros((4, 4, 3), np.uint8))
    log.close()
    assert list(tmp_path.iterdir()) == []
