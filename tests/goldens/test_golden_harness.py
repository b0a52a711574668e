"""The harness itself: a golden test must fail when it should."""

import json
from pathlib import Path

import harness
import numpy as np
import pytest

MANIFEST = {
    "system": "toy",
    "salt": "s",
    "state": [["a.weight", [2, 3], "kernel"], ["a.table", [4], "buffer"]],
    "config": {"width": 4, "depth": 2},
    "cases": [
        {
            "name": "one",
            "file": "case_1.npz",
            "inputs": {"x": "any"},
            "outputs": {"y": "result", "z": "first 2 of 5 channels", "port": "for information: another code's y"},
            "tolerance": {"z*": 0.5, "default": 0.1},
        },
        {
            "name": "two",
            "file": "case_1.npz",
            "config": {"width": 8},
            "state": [["b.bias", [3], "bias"]],
            "inputs": {},
            "outputs": {"y": "result"},
            "tolerance": 0.3,
            "tolerances": {"y": 0.2},
        },
    ],
}
ARRAYS = {"x": np.zeros(3), "y": np.ones(3), "z": np.zeros((2, 2)), "port": np.full(3, 9.0)}
GOOD = {"y": np.full(3, 1.05), "z": np.full((2, 5), 0.4)}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    np.savez(folder / "case_1.npz", **ARRAYS)
    monkeypatch.setenv("JAXPAINT_GOLDENS", str(tmp_path))
    return harness.cases("toy")


def test_what_a_manifest_says(toy):
    one, two = toy
    assert (one.config, two.config, two.merged_config) == (MANIFEST["config"], {"width": 8}, {"width": 8, "depth": 2})
    assert list(one.weights()) == ["a.weight"]
    assert {name: array.shape for name, array in two.weights().items()} == {"b.bias": (3,)}
    assert (set(one.inputs), set(one.expected)) == ({"x"}, {"y", "z"})
    assert (one.tolerance("y"), one.tolerance("z"), two.tolerance("y")) == (0.1, 0.5, 0.2)


def test_compare_fails_when_it_should(toy):
    one = toy[0]
    one.compare(GOOD)
    one.compare(GOOD | {"more": 1})
    for change, message in [
        ({"y": np.full(3, 1.2)}, "y: differs by 2.000e-01, allowed 1.0e-01"),
        ({"y": np.array([1, 1, np.nan])}, "y: differs by nan"),
        ({"y": np.ones((1, 3))}, "y: shape"),
        ({"z": np.full((2, 5), 0.6)}, "z: differs"),
    ]:
        with pytest.raises(AssertionError, match=message):
            one.compare(GOOD | change)
    with pytest.raises(AssertionError, match="y: the test gives no such output"):
        one.compare({"z": GOOD["z"]})


def test_run_never_passes_for_lack_of_work(toy, tmp_path, monkeypatch):
    with pytest.raises(AssertionError, match="no check for it"):
        harness.run(toy[1], {"one": print})
    with pytest.raises(pytest.skip.Exception, match="no golden folder"):
        harness.run(harness.cases("other")[0], {})
    monkeypatch.setenv("JAXPAINT_GOLDENS", str(tmp_path / "absent"))
    with pytest.raises(AssertionError, match="does not exist"):
        harness.run(harness.cases("toy")[0], {})
    monkeypatch.setenv("JAXPAINT_GOLDENS", str(tmp_path / "toy"))
    assert [case.name for case in harness.cases("toy")] == ["one", "two"]
    monkeypatch.delenv("JAXPAINT_GOLDENS")
    with pytest.raises(AssertionError, match="no golden folder"):
        harness.run(harness.cases("other")[0], {})


def test_every_folder_has_a_test():
    """A folder without a test would look as if it had passed."""
    folders = sorted(path.parent.name for path in harness.root().glob("*/manifest.json"))
    here = Path(__file__).parent
    untested = [name for name in folders if not (here / f"test_{name}_golden.py").is_file()]
    if harness.root() == harness.HERE:
        assert not untested
        sizes = {name: sum(file.stat().st_size for file in (here / name).iterdir()) for name in folders}
        assert max(sizes.values()) < 2**20, sizes
    elif untested:
        pytest.skip(f"no golden test yet for {', '.join(untested)}")
