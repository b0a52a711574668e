"""What a run has logged, for tests of several kinds of runs."""

import json
import pathlib


def logged(workdir: pathlib.Path, *, speeds: bool = False) -> list[dict]:
    """Complete lines of a run's metrics, in the order in which they were written; none yet: []."""
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    complete = text[: text.rfind("\n") + 1].splitlines()
    rows = [json.loads(line) for line in complete]
    return [{name: value for name, value in row.items() if speeds or not name.startswith("speed/")} for row in rows]


def by_step(workdir: pathlib.Path, *, speeds: bool = False) -> dict[int, dict]:
    """The figures of a step, losses and those of validation, in one."""
    found = {}
    for values in logged(workdir, speeds=speeds):
        found.setdefault(values["step"], {}).update(values)
    return found
