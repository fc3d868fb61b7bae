"""Digests of the files of unfinished work, written down before each file gets its name.

A folder that is journalled holds a journal ``written-<n>.jsonl`` per process, a line per file: the sha256 of its bytes
and its path in the folder. Files whose names carry the hash of their bytes need no line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

NAME = "written-{}.jsonl"
JOURNAL = re.compile(r"written-\d+\.jsonl")
NAMED = re.compile(r".+-\d+\.([0-9a-f]{16})\.safetensors")
"""Name of a file that carries the start of the sha256 of its bytes."""
ASIDE = ".corrupt-"
"""What the names of damaged files that were moved aside contain; nothing reads these."""

_open: dict[Path, Path] = {}  # folder that is journalled → its journal
_writing = threading.Lock()


@contextlib.contextmanager
def journalled(folder: Path, number: int = 0) -> Iterator[None]:
    """Inside the block, write down the digest of every file that is written whole in ``folder``, in journal ``number``.

    Threads that are started inside the block take part.
    """
    place = folder.absolute()
    _open[place] = place / NAME.format(number)
    try:
        yield
    finally:
        del _open[place]


def needs_digest(path: Path) -> bool:
    """Return whether ``path`` is in a folder that is journalled, and its name does not carry its hash."""
    return bool(_open) and not NAMED.fullmatch(path.name) and _journalled(path) is not None


def write_down(path: Path, digest: str) -> None:
    """Write down that ``path`` is about to have bytes of this sha256. Raises OSError where that cannot be written."""
    folder = _journalled(path)
    assert folder
    line = json.dumps([digest, path.absolute().relative_to(folder).as_posix()])
    with _writing, _open[folder].open("ab") as file:
        file.write(f"\n{line}".encode())  # the newline comes first, since a kill may have left half a line
        file.flush()
        os.fsync(file.fileno())


def _journalled(path: Path) -> Path | None:
    return next((each for each in path.absolute().parents if each in _open), None)


def expected(folder: Path) -> dict[str, set[str]]:
    """Return path in ``folder`` → the digests that were written down for it, of every process.

    There are several where a file was replaced: a kill between the line and the file's new name leaves the one before.
    """
    found: dict[str, set[str]] = {}
    for journal in folder.iterdir():
        if JOURNAL.fullmatch(journal.name) and journal.is_file():
            for line in journal.read_bytes().split(b"\n"):
                try:
                    digest, name = json.loads(line)
                    found.setdefault(str(name), set()).add(str(digest))
                except (
                    ValueError,
                    TypeError,
                    RecursionError,
                ):  # half a line or damage: its file counts as unknown
                    continue
    return found


def sift(
    folder: Path, is_sound: Callable[[Path, set[str]], bool], move_aside: Callable[[Path], Path]
) -> Iterator[tuple[Path, Path | None]]:
    """Take out of an unfinished folder what is not as it was written, and yield each path with where it was moved.

    A file that no journal knows may be half written: it is removed, and yielded with None. Files whose names carry
    their hash stay, since whoever reads them compares it. ``is_sound`` compares a path with digests.
    """
    known = expected(folder)
    for path in contents(folder):
        if NAMED.fullmatch(path.name) or JOURNAL.fullmatch(path.name):
            continue
        digests = known.get(path.relative_to(folder).as_posix())
        if digests is None:
            path.unlink()
            yield path, None
        elif not is_sound(path, digests):
            yield path, move_aside(path)
    for path in folders_for_files(folder, known):
        yield path, move_aside(path)


def folders_for_files(folder: Path, known: Iterable[str]) -> list[Path]:
    """Return the folders that are where files were written: those named like one, and those that a journal knows."""
    named = [path for path in folder.rglob("*.safetensors") if NAMED.fullmatch(path.name)]
    return [path for path in (*named, *(folder / name for name in known)) if path.is_dir() and not path.is_symlink()]


def contents(folder: Path) -> list[Path]:
    """Return every file below ``folder`` but what was moved aside, sorted; links are files, and are not followed."""
    found = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = [name for name in folders if ASIDE not in name]
        found += [here / name for name in files if ASIDE not in name]
        found += [here / name for name in folders if (here / name).is_symlink()]
    return sorted(found)


def forget(folder: Path) -> None:
    """Remove the journals of a folder that is finished, where they can be removed: nothing reads them any more."""
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            if JOURNAL.fullmatch(path.name):
                path.unlink()
