"""A real file system that is soon full."""

import subprocess

import pytest


@pytest.fixture
def small_disk(request, tmp_path):
    """A folder on a file system of ``request.param`` MiB; skipped where this user may not mount one."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={request.param}m", "tmpfs", mount]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", mount], check=True)
