"""Writing a file or a folder whole or not at all."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary path beside `path`, whose folder is made; what is there at the end takes the place of `path`.

    It is a file, or a folder where an empty one or none is at `path`. Where anything is raised inside, `path` stays as
    it was and nothing is left behind; what a killed program left behind is in nobody's way.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent) as hidden:
        # Inside a folder of a name that nobody else has, a path has the permissions that it would have anywhere.
        temporary = pathlib.Path(hidden) / path.name
        yield temporary
        os.replace(temporary, path)
