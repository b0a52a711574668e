"""The commands of the README are run, so that they do not rot.

The set-up of both (a virtual environment, an install) is what CI does to get here; what follows it is run with this
Python, the demo for a few steps only.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```bash\n(.*?)\n```\n<!-- end {name} -->", README, re.DOTALL)
    assert found, f"the README has no block {name!r}"
    return found.group(1)


def run(command: list[str], **options) -> str:
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, **options)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
def test_the_main_job_then_using_what_it_made(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name in ("train.py", "evaluate.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    parts = [shlex.split(part) for part in block("demo").split("&&")]
    assert parts[0] == ["python3", "-m", "venv", ".venv"]
    assert parts[1][:2] == [".venv/bin/pip", "install"]
    jobs = parts[2:]
    assert [job[:2] for job in jobs] == [[".venv/bin/python", "train.py"], [".venv/bin/python", "evaluate.py"]]
    short = ["--config.train.steps=4", "--config.validation.every=2", "--config.train.log_every=1"]
    trained = run([sys.executable, *jobs[0][1:], *short], cwd=tmp_path)
    assert "step 4/4" in trained and "validation:" in trained
    evaluated = run([sys.executable, *jobs[1][1:], "--limit", "2"], cwd=tmp_path)
    assert "protocol card" in evaluated and "ssim.gauss11" in evaluated
    (report,) = (tmp_path / "runs/demo").rglob("metrics.json")
    assert (report.parent / "sheet.png").stat().st_size > 0

    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    mask = np.zeros((50, 70), np.uint8)
    mask[10:30, 20:40] = 255
    Image.fromarray(picture).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    cli = [sys.executable, "-m", "jaxpaint"]
    run([*cli, *shlex.split("inpaint photo.png --mask mask.png --checkpoint runs/demo --out filled.png")], cwd=tmp_path)
    filled = np.asarray(Image.open(tmp_path / "filled.png"))
    assert np.array_equal(filled[mask == 0], picture[mask == 0])
    assert not np.array_equal(filled[mask == 255], picture[mask == 255])
    code = (
        "import jaxpaint, numpy as np; from PIL import Image; i = np.asarray(Image.open('photo.png'));"
        "m = np.asarray(Image.open('mask.png')); print(jaxpaint.load('runs/demo').inpaint([i], [m])[0].shape)"
    )
    assert "(50, 70, 3)" in run([sys.executable, "-c", code], cwd=tmp_path)


def test_systems_are_listed():
    listed = run([sys.executable, "-m", "jaxpaint", "systems"])
    assert "deepfillv2" in listed and "states_tf_places2.pth" in listed


def test_ci_runs_the_command_of_the_readme():
    text = (ROOT / ".ci/run").read_text()
    assert "README.md" in text
    assert block("tests").endswith(".venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder")


@pytest.mark.parametrize("page", ["README.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text()):
        if not target.startswith("http"):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"
