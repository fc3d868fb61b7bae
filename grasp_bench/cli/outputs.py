"""Files that commands write where the user says: only what the same command wrote before is replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grasp_bench.errors import UserError
from grasp_bench.io import is_stream, write_json
from grasp_bench.places import followed
from grasp_bench.terminal import tell

HEAD = 4096
"""Bytes at the start of a file among which its mark is looked for."""
WRITER = "written_by"
"""The first field of an outcome in JSON: the command that wrote it."""


def mark_of(command: str) -> str:
    """Return the text by which a file is known as one that ``command`` wrote, such as ``grasp-bench score``."""
    return f"grasp-bench {command}"


def check_replaceable(path: Path | None, command: str, is_own: Callable[[Path], bool]) -> None:
    """Raise :class:`UserError` where ``path`` is a file that ``command`` did not write, which ``is_own`` tells.

    An empty file, a pipe and a device may be written to. Commands call this before they compute anything.
    """
    if path is None or not os.path.lexists(followed(path)) or is_stream(path):
        return
    try:
        if path.is_file() and (path.stat().st_size == 0 or is_own(path)):
            return
    except OSError:
        pass  # what cannot be read cannot be known
    raise UserError(
        f"{path}: exists, and is no file of that kind that `{mark_of(command)}` wrote. It was left unchanged: name "
        "another file, or remove it."
    )


def begins_with(*texts: str) -> Callable[[Path], bool]:
    """Return what tells whether a file begins with one of ``texts``."""
    starts = tuple(text.encode() for text in texts)
    return lambda path: _head(path).startswith(starts)


def has_mark(command: str) -> Callable[[Path], bool]:
    """Return what tells whether a picture says at its start that ``command`` made it."""
    mark = mark_of(command).encode()
    return lambda path: mark in _head(path)


def check_json(path: Path | None, command: str) -> None:
    """Raise :class:`UserError` where ``path`` is a file that :func:`write_outcome` did not write for ``command``."""
    check_replaceable(path, command, begins_with(f'{{\n  "{WRITER}": {json.dumps(mark_of(command))},'))


def write_outcome(path: Path | None, command: str, outcome: Mapping[str, Any]) -> None:
    """Write the outcome of ``command`` as JSON, if ``path`` names a file."""
    if path is not None:
        write_json(path, {WRITER: mark_of(command), **outcome})


def tell_written(path: Path) -> None:
    """Print the path of a file that was written; not that of a stream, in which the path would follow the content."""
    if not is_stream(path):
        tell(path)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)
