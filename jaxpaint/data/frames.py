"""The frames of a clip as pictures in one folder."""

import os
import pathlib
import re

from jaxpaint.data.decode import ENDINGS
from jaxpaint.types import InputError


def frame_files(root: pathlib.Path) -> tuple[str, ...]:
    """Names of the pictures in a folder, in natural order: runs of digits count as numbers.

    Only the folder itself is searched; hidden files are not taken.

    Raises:
      InputError: no such folder, no picture in it, two pictures of one name.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise InputError(f"folder of frames {str(root)!r} {what}: give the path of a folder")
    try:
        entries = sorted(os.listdir(root))
    except OSError as error:
        raise InputError(f"folder of frames {str(root)!r} cannot be read: {error.strerror}") from error
    names = [name for name in entries if name.lower().endswith(ENDINGS) and not name.startswith(".")]
    if not names:
        below = sum((root / name).is_dir() for name in entries)
        raise InputError(
            f"folder of frames {str(root)!r} holds no picture ({below} folders, {len(entries) - below} other files): "
            f"files ending in {', '.join(ENDINGS)} are taken, from the folder itself"
        )
    stems: dict[str, str] = {}
    for name in names:
        other = stems.setdefault(os.path.splitext(name)[0], name)
        if other != name:
            raise InputError(f"folder of frames {str(root)!r} holds {other} and {name}: which is the frame? remove one")
    return tuple(sorted(names, key=_natural))


def _natural(name: str) -> tuple:
    """Sorts "frame10" behind "frame9"; names that differ in leading zeros alone, by the text."""
    parts = re.split(r"([0-9]+)", os.path.splitext(name)[0])
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name
