"""Pictures in a folder."""

import hashlib
import os

import numpy as np

from jaxpaint.data.decode import ENDINGS, decode
from jaxpaint.types import InputError


def list_pictures(root: str) -> list[str]:
    """Paths below `root`, relative to it, sorted: the same on every machine that holds the same files.

    All folders below are searched, links to folders too (each folder once); hidden files and folders are not.
    Endings in any case.

    Raises:
      InputError: no such folder, one that cannot be read, or no picture in it.
    """
    if not os.path.isdir(root):
        what = "is a file" if os.path.exists(root) else "does not exist"
        raise InputError(f"folder of pictures {root!r} {what}: give the path of a folder")

    def refuse(error: OSError):
        raise InputError(f"folder {error.filename!r} cannot be read: {error.strerror}") from error

    found, others, visited = [], 0, {os.path.realpath(root)}
    for folder, below, files in os.walk(root, onerror=refuse, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in list(below):  # a link may lead back to where we came from
            real = os.path.realpath(os.path.join(folder, name))
            if real in visited:
                below.remove(name)
            visited.add(real)
        for name in files:
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                found.append(os.path.relpath(os.path.join(folder, name), root))
            else:
                others += 1
    if not found:
        raise InputError(
            f"folder {root!r} holds no picture ({others} other files): "
            f"files ending in {', '.join(ENDINGS)} are taken, in all folders below it"
        )
    return sorted(found)


class FolderSource:
    """The pictures below a folder. Files are opened when asked for, so that a million of them costs their names."""

    encoded = True

    def __init__(self, root: str):
        self.root = root
        self.name = f"folder {root}"
        self.files = list_pictures(root)
        self._hash = None

    def __len__(self) -> int:
        return len(self.files)

    def label(self, index: int) -> str:
        """The file's path below the root."""
        return self.files[index]

    def path(self, index: int) -> str:
        return os.path.join(self.root, self.files[index])

    def read(self, index: int) -> bytes:
        """The file's bytes.

        Raises:
          InputError: it cannot be read; names it.
        """
        try:
            with open(self.path(index), "rb") as file:
                return file.read()
        except OSError as error:
            raise InputError(f"{self.path(index)}: cannot be read: {error.strerror or error}") from error

    def picture(self, index: int) -> np.ndarray:
        """The whole picture, uint8 h w 3. Raises InputError where it is broken."""
        return decode(self.read(index), name=self.path(index))

    @property
    def hash(self) -> str:
        """SHA-256 over names and sizes, in hex: says whether two folders hold the same list of files.

        Raises:
          InputError: a file has no size, as a link that leads nowhere; names it.
        """
        if self._hash is None:
            digest = hashlib.sha256()
            for index, name in enumerate(self.files):
                try:
                    size = os.path.getsize(self.path(index))
                except OSError as error:
                    raise InputError(f"{self.path(index)}: cannot be read: {error.strerror or error}") from error
                digest.update(os.fsencode(f"{name.replace(os.sep, '/')}\0{size}\n"))
            self._hash = digest.hexdigest()
        return self._hash
