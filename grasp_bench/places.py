"""Where a path leads: through links, also those that go in circles, to a file that this process has open, to a disk."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

OPEN = re.compile(r"/dev/(stdin|stdout|stderr)|(?:/dev|/proc/(self|thread-self|[0-9]+))/fd/([0-9]{1,9})")
NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}
MOST_LINKS = 40
"""Links after each other that Linux follows."""


def resolved(path: Path) -> Path:
    """Return the absolute path without links; those that go in circles are left in it.

    ``Path.resolve`` raises RuntimeError for such links before Python 3.13.
    """
    return Path(os.path.realpath(path))


def followed(path: Path) -> Path:
    """Return what ``path`` leads to if it is a link, which may not be there, else ``path`` as it is."""
    return resolved(path) if path.is_symlink() else path


def is_there(path: Path) -> bool:
    """Return whether a path is there, and in folders that may be looked into."""
    try:
        return path.exists()
    except OSError:
        return False


def existing(path: Path) -> Path:
    """Return the absolute ``path``, or the nearest folder above it that is there."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if is_there(each))


def free_bytes(path: Path) -> int:
    """Return how many bytes are free on the disk where ``path`` is, or will be."""
    return shutil.disk_usage(existing(path)).free


def descriptor(path: Path) -> int | None:
    """Return the number of the open file of this process that ``path`` names, directly or through links.

    Such names are ``/dev/stdout`` and the shell's ``/dev/fd/63``. None for any other path.
    """
    for _ in range(MOST_LINKS):
        path = resolved(path.parent) / path.name
        if found := OPEN.fullmatch(str(path)):
            name, process, number = found.groups()
            if process in (None, "self", "thread-self", str(os.getpid())):
                return NUMBERS[name] if name else int(number)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None
