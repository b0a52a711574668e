"""JAX's persistent compilation cache, on at every entry point: a program is compiled once, not at every start.

A program that comes from the cache gives the same bits, the same ``memory_analysis()`` and the same
``cost_analysis()`` as one that was compiled now. JAX's own settings go first: ``JAX_COMPILATION_CACHE_DIR`` chooses the
folder (and then nothing here touches it), ``JAX_ENABLE_COMPILATION_CACHE=false`` does without.

Whoever can write into the folder can run code in the programs that use it, so it is the user's own. With several
processes the first one writes (JAX's rule): hosts that share no folder compile at every start. A file that was written
half, by a process that was killed, is a warning of JAX's and a compilation at every start until it is deleted.
"""

import hashlib
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Callable

import jax

LIMIT = 4 * 2**30
"""Bytes; a program of a training step takes 1 to 100 MB. JAX's own limit needs a package that JAX does not bring."""

LEAST_SECONDS = 0.1
"""Programs that compile faster are not stored: a start makes dozens, and together they cost a second or two."""


def use_cache(say: Callable[[str], None] | None = None) -> pathlib.Path | None:
    """Turns the cache on for this process; call it in ``main``, before anything is compiled.

    Args:
      say: where a warning goes, if the folder cannot be written: by default to stderr. The program runs all the same.

    Returns:
      The folder, or None where there is no cache.
    """
    if not jax.config.jax_enable_compilation_cache:
        return None
    if jax.config.jax_compilation_cache_dir is not None:  # the user's, or an earlier call's
        return pathlib.Path(jax.config.jax_compilation_cache_dir) if jax.config.jax_compilation_cache_dir else None
    folder = default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        line = (
            f"warning: the compilation cache {folder} cannot be written ({error.strerror or error}): every start "
            "compiles anew. JAX_COMPILATION_CACHE_DIR=DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false "
            "does without"
        )
        say(line) if say else print(line, file=sys.stderr)
        return None
    prune(folder.parent, LIMIT)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    return folder


def default_folder() -> pathlib.Path:
    """``$XDG_CACHE_HOME/jaxpaint/xla/PROCESSOR``, below ``~/.cache`` where that is not set.

    A folder a kind of processor: XLA would load a program that was compiled for another one's instructions with no
    more than a line in the log, and a home folder is often shared between machines.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = pathlib.Path(base) if os.path.isabs(base) else pathlib.Path(os.path.expanduser("~")) / ".cache"
    return root / "jaxpaint" / "xla" / processor()


def processor() -> str:
    """A name for the instructions that this machine's processor has."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = [platform.processor()]
    # "flags" on x86, "Features" on ARM; of the rest (MHz, numbers of cores) much changes from start to start.
    about = sorted(
        {line for line in lines if line.split(":")[0].strip() in ("vendor_id", "model", "flags", "Features")}
    )
    return f"{platform.machine()}-{hashlib.sha256(chr(10).join(about or lines).encode()).hexdigest()[:12]}"


def prune(folder: pathlib.Path, limit: int) -> None:
    """Deletes the files that were not used for longest, until those below `folder` take no more than `limit` bytes.

    Another process may read, write or prune at the same time: it loses a program that it can compile.
    """
    files = []
    for path in folder.rglob("*"):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            files.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= size
