"""The persistent compilation cache: where it is, that it is used, and what happens where it cannot be."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from jaxpaint.run.cache import default_folder, processor, prune, use_cache

NAMES = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """JAX's settings as a user finds them, put back at the end; nothing is compiled meanwhile."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder_is_below_the_users_cache(settings, tmp_path):
    folder = use_cache()
    assert folder == default_folder() == tmp_path / "home/jaxpaint/xla" / processor()
    assert folder.is_dir() and folder.stat().st_mode & 0o077 == 0, "programs are code: nobody else may write them"
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert 0 < jax.config.jax_persistent_cache_min_compile_time_secs < 1
    assert use_cache() == folder, "a second call changes nothing"


def test_without_xdg_it_is_in_the_home_folder(monkeypatch):
    for value in ("", "relative/folder"):  # the XDG specification: relative paths are ignored
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert default_folder().parents[2] == pathlib.Path.home() / ".cache"


def test_the_users_settings_go_first(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "7")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    use_cache()
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 7
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    assert use_cache() == tmp_path / "mine" and jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    jax.config.update("jax_compilation_cache_dir", "")  # JAX's way to say none
    assert use_cache() is None and jax.config.jax_compilation_cache_dir == ""
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    assert use_cache() is None and jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_cannot_be_written_is_a_warning(settings, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said = []
    assert use_cache(said.append) is None and jax.config.jax_compilation_cache_dir is None
    (line,) = said
    assert line.startswith("warning: ") and str(tmp_path / "file") in line and "JAX_COMPILATION_CACHE_DIR" in line
    use_cache()
    assert capsys.readouterr().err == line + "\n"


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    for age, name in enumerate(("new", "middle", "autotune/old", "oldest")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (1e9 - age, 1e9 - age))
    os.utime(tmp_path / "oldest", (2e9, 1))  # written first, but read last
    prune(tmp_path, 400)
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 4
    prune(tmp_path, 299)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["new", "oldest"]
    prune(tmp_path, 0)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    prune(tmp_path / "missing", 0)


PROGRAM = """
import sys
from jaxpaint.run.cache import use_cache
from jaxpaint.run.compiles import Compiles
use_cache()
import hashlib, jax, numpy as np
step = jax.jit(lambda s, x: (s + jax.lax.conv(x, s, (1, 1), "SAME").mean(), x.sum()), donate_argnums=0)
s, x = np.ones((4, 3, 3, 3), np.float32) / 7, np.random.default_rng(0).random((2, 3, 16, 16), np.float32)
with Compiles() as compiles:
    program = step.lower(s, x).compile()
state, _ = program(jax.device_put(s), x)
plan = program.memory_analysis()
assert plan.alias_size_in_bytes == s.nbytes and plan.argument_size_in_bytes >= s.nbytes + x.nbytes
print(compiles.last.cached, hashlib.sha256(np.asarray(state)).hexdigest(), plan.temp_size_in_bytes,
      program.cost_analysis()["flops"], sep="|")
"""


def test_a_second_start_takes_the_program_from_the_cache(tmp_path):
    """The same bits, the same memory plan and FLOPs, donation included."""
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name} | {
        "XDG_CACHE_HOME": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    root = pathlib.Path(__file__).parents[2]

    def start(**more: str) -> list[str]:
        command = [sys.executable, "-c", PROGRAM]
        result = subprocess.run(
            command, capture_output=True, text=True, env=environment | more, cwd=root, timeout=120, check=True
        )
        return result.stdout.strip().split("|")

    fresh, again, without = start(), start(), start(JAX_ENABLE_COMPILATION_CACHE="false")
    assert (fresh[0], again[0], without[0]) == ("False", "True", "False")
    assert fresh[1:] == again[1:] == without[1:]
