"""A module imports only from lower levels of the house and from its own folder."""

import ast
import pathlib
import subprocess
import sys

import jaxpaint

ROOT = pathlib.Path(jaxpaint.__file__).parent
LEVELS = (
    {"types"},
    {"ops"},
    {"nn"},
    {"models", "losses", "diffusion"},
    {"metrics", "data"},
    {"train", "parallel", "io"},
    {"systems"},
    {"convert"},
    {"run"},
)
RANK = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
TENSORFLOW_ROOMS = ("data/", "io/tf_checkpoint.py")


def imported(path: pathlib.Path) -> list[str]:
    """Dotted names that a file imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def violations(root: pathlib.Path) -> list[str]:
    """Imports from the same level (another room) or from above."""
    found = []
    for path in sorted(root.rglob("*.py")):
        here = path.relative_to(root).parts[0].removesuffix(".py")
        if here in ("__init__", "__main__"):
            continue
        if here not in RANK:
            found.append(f"{path.relative_to(root)}: {here} has no level")
            continue
        for name in imported(path):
            parts = name.split(".")
            if parts[0] != "jaxpaint" or len(parts) < 2 or parts[1] in (here, "__version__"):
                continue
            if RANK.get(parts[1], len(LEVELS)) >= RANK[here]:
                found.append(f"{path.relative_to(root)} imports {name}")
    return found


def test_layers():
    assert violations(ROOT) == []


def test_layers_would_see_a_violation(tmp_path):
    files = {
        "ops/a.py": "import jax",
        "nn/b.py": "from jaxpaint.ops import a",
        "losses/l.py": "from jaxpaint.models import c",
        "train/x.py": "def f():\n    from jaxpaint.systems import s",
        "attic/y.py": "import jax",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert violations(tmp_path) == [
        "attic/y.py: attic has no level",
        "losses/l.py imports jaxpaint.models.c",
        "train/x.py imports jaxpaint.systems.s",
    ]


def test_tensorflow_is_imported_in_data_alone():
    found = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        for name in imported(path)
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets")
    ]
    assert [f for f in found if not f.startswith(TENSORFLOW_ROOMS)] == []


def test_light_imports():
    """A person who borrows a layer pays for jax and flax alone."""
    code = (
        "import sys, jaxpaint, jaxpaint.nn, jaxpaint.models, jaxpaint.models.deepfillv2, jaxpaint.systems\n"
        "print([m for m in ('tensorflow', 'orbax', 'orbax.checkpoint', 'tensorboardX', 'PIL') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
