"""Writing a file or a folder whole or not at all."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from jaxpaint.types import InputError


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary path beside `path`, whose folder is made; what is there at the end takes the place of `path`.

    It is a file, or a folder where an empty one or none is at `path`. Where anything is raised inside, `path` stays as
    it was and nothing is left behind; what a killed program left behind is in nobody's way. A device or a pipe is not
    replaced: it is given itself.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # A prefix that is cut, since a name has 255 bytes at most.
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent) as hidden:
        # Inside a folder of a name that nobody else has, a path has the permissions that it would have anywhere.
        temporary = pathlib.Path(hidden) / path.name
        yield temporary
        os.replace(temporary, path)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file in one step.

    Raises:
      InputError: it cannot be written; names it.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}; give another file") from error
