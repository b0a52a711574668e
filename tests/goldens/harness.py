"""What every golden test shares: where the folders are, what a manifest says, and the comparison.

    import harness                                     # pytest puts this folder on the path

    CASES = {"generator": check_generator, ...}        # by the manifest's case name: function(case)

    @pytest.mark.parametrize("case", harness.cases("deepfillv2"), ids=harness.case_id)
    def test_deepfillv2_golden(case):
        harness.run(case, CASES)

`harness.cases(SYSTEM)` is safe at collection: where the folder cannot be used it gives one stand-in, with which
`harness.run` fails, or skips and says why. A check receives a `Case`:

    case.name, case.inputs         {name: array}; `case.inputs` is all that the file holds and `outputs` does not list
    case.expected                  {name: array}, without the arrays whose description begins "for information"
    case.config                    the case's own configuration, else the manifest's (merged: `case.merged_config`)
    case.weights()                 {published name: float32 array}, from the case's own `state`, else the manifest's
    case.tolerance(NAME)           absolute; by name, else the first matching glob as listed, else "default"
    case.compare({name: array})    every expected array within its tolerance: one failure lists all that are not
    case.manifest, case.folder     the rest

The folder is ``JAXPAINT_GOLDENS`` (one folder a system, or one system's folder), by default the one of this file.
Sizes, salt, configuration and tolerances come from the manifest, never from a test.
"""

import dataclasses
import fnmatch
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipe

HERE = Path(__file__).parent
INFORMATION = "for information"


def root() -> Path:
    """The folder of golden folders."""
    return Path(os.environ.get("JAXPAINT_GOLDENS") or HERE)


def folder(system: str) -> Path | None:
    """The golden folder of a system, None where the root has none."""
    for candidate in (root() / system, root()):
        path = candidate / "manifest.json"
        if path.is_file() and json.loads(path.read_text())["system"] == system:
            return candidate
    return None


@dataclasses.dataclass(frozen=True)
class Case:
    """One case of one manifest; `problem` says why there is none."""

    system: str
    entry: dict[str, Any]
    manifest: dict[str, Any]
    folder: Path | None
    problem: str = ""
    skip: bool = False

    @property
    def name(self) -> str:
        return self.entry["name"]

    @property
    def config(self) -> dict[str, Any]:
        """The case's own configuration where it has one, otherwise the manifest's."""
        return self.entry.get("config", self.manifest.get("config", {}))

    @property
    def merged_config(self) -> dict[str, Any]:
        """The manifest's configuration with the case's over it (where cases state differences only)."""
        return {**self.manifest.get("config", {}), **self.entry.get("config", {})}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / self.entry["file"], allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        return {name: array for name, array in self.arrays.items() if name not in self.entry["outputs"]}

    @property
    def expected(self) -> dict[str, np.ndarray]:
        """Every output that the manifest lists and does not call informative. The file must hold each of them."""
        arrays = self.arrays
        wanted = [name for name in self.entry["outputs"] if not self.description(name).startswith(INFORMATION)]
        missing = [name for name in wanted if name not in arrays]
        assert not missing, f"{self.where}: the manifest lists outputs {missing} that {self.entry['file']} lacks"
        assert wanted, f"{self.where}: the manifest lists no output to compare"
        return {name: arrays[name] for name in wanted}

    @property
    def where(self) -> str:
        return f"{self.system} case {self.name!r} in {self.folder}"

    def description(self, output: str) -> str:
        outputs = self.entry["outputs"]
        return str(outputs[output]) if isinstance(outputs, dict) else ""

    def state(self) -> list:
        """Rows (name, shape, kind): the case's own, a list or the name of another entry of the manifest."""
        state = self.entry.get("state", self.manifest.get("state", []))
        return self.manifest[state] if isinstance(state, str) else state

    def weights(self) -> dict[str, np.ndarray]:
        """The stand-in for the published file, by published name."""
        return recipe.weights(self.state(), self.entry.get("salt", self.manifest.get("salt", "")))

    def tolerance(self, output: str) -> float:
        """The largest absolute difference that an output may show."""
        for key in ("tolerances", "tolerance_by_output", "tolerance"):
            table = self.entry.get(key, self.manifest.get(key))
            if isinstance(table, dict):
                table = _look_up(table, output)
            if table is not None:
                assert isinstance(table, int | float), (
                    f"{self.where}: the tolerance of {output!r} is {table!r}, not a number: compare it in the test"
                )
                return float(table)
        raise AssertionError(f"{self.where}: the manifest states no tolerance for {output!r}")

    def compare(self, got: dict[str, Any]) -> None:
        """Fails unless every expected array is within its tolerance of the one in `got`.

        Where the manifest stores a part only ("…, first 8 of 96 channels"), that part is compared.
        """
        problems = []
        for name, want in self.expected.items():
            if name not in got:
                problems.append(f"{name}: the test gives no such output")
                continue
            have = np.asarray(got[name], np.float64)
            part = re.search(r"\bfirst (\d+)\b", self.description(name))
            if part and want.ndim and int(part.group(1)) == want.shape[-1]:
                have = have[..., : want.shape[-1]]
            if have.shape != want.shape:
                problems.append(f"{name}: shape {have.shape}, expected {want.shape}")
                continue
            difference = float(np.max(np.abs(have - want.astype(np.float64)), initial=0.0))
            allowed = self.tolerance(name)
            print(f"{self.system}/{self.name}/{name}: largest difference {difference:.2e}, allowed {allowed:.1e}")
            if not difference <= allowed:  # NaN is a failure too
                problems.append(f"{name}: differs by {difference:.3e}, allowed {allowed:.1e}")
        assert not problems, f"{self.where}:\n  " + "\n  ".join(problems)


def _look_up(table: dict[str, Any], output: str) -> Any:
    if output in table:
        return table[output]
    for pattern, value in table.items():
        if pattern != "default" and fnmatch.fnmatchcase(output, pattern):
            return value
    return table.get("default")


def cases(system: str) -> list[Case]:
    """The cases of a system, or one stand-in that says why there are none."""
    found = folder(system)
    if found is None:
        given = "JAXPAINT_GOLDENS" in os.environ
        skip = given and root().is_dir() and any(root().iterdir())
        problem = f"no golden folder {root() / system}" + ("" if root().is_dir() else ": the folder does not exist")
        return [Case(system, {"name": "missing"}, {}, None, problem, skip)]
    manifest = json.loads((found / "manifest.json").read_text())
    entries = manifest.get("cases", [])
    if not entries:
        return [Case(system, {"name": "missing"}, manifest, found, f"{found}/manifest.json lists no cases")]
    return [Case(system, entry, manifest, found) for entry in entries]


def case_id(case: Case) -> str:
    return case.name


def run(case: Case, checks: dict[str, Any]) -> None:
    """Runs the check of a case, by name; a case that no check knows is a failure."""
    if case.skip:
        pytest.skip(case.problem)
    assert not case.problem, case.problem
    assert case.name in checks, f"{case.where}: no check for it; there are checks for {sorted(checks)}"
    checks[case.name](case)
