"""What work folders and folders of caches hold: stages and other caches with their sizes, and their removal."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from grasp_bench.data.features import IDENTITY
from grasp_bench.errors import UserError
from grasp_bench.io import remove
from grasp_bench.journal import ASIDE
from grasp_bench.locks import held
from grasp_bench.run.mirror import UNFINISHED
from grasp_bench.run.seal import MANIFEST
from grasp_bench.run.store import FORMER

State = Literal["finished", "unfinished", "set aside"]
FOLDER = re.compile(rf"([0-9a-f]{{20}})({re.escape(UNFINISHED)}|{re.escape(FORMER)}|{re.escape(ASIDE)}\d+)?")
"""Name of a stage's folder: its key, and what it is if it is not finished."""
OF_EXTRACTOR = re.compile(r"[0-9a-f]{32}")
"""Name of a folder of features that `score` keeps."""
SCORED, PIXELS = "score-features", "prepare-pixels"
"""Kinds of caches that are no stages: features that `score` and images that `prepare --cache --cache-dir` keep."""


@dataclass(frozen=True)
class Stored:
    """A folder of a stage, or of another cache."""

    path: Path
    kind: str
    state: State
    size: int
    """Bytes of its files."""
    used: float
    """Time in seconds since 1970 at which it was last written or, as far as the disk notes that, read."""

    @property
    def lock(self) -> Path:
        """The lock that whoever works on the stage holds."""
        return self.path.with_name(f"{self.path.name[:20]}.lock")


def stored(root: Path) -> Iterator[Stored]:
    """The folders of stages and caches under a work folder or a folder of caches, by kind and name.

    Whatever else lies there is passed over.
    """
    folders = [path for path in sorted(root.iterdir()) if path.is_dir()] if root.is_dir() else []
    yield from _features(folders)
    for parent in folders:
        inside = [path for path in sorted(parent.iterdir()) if path.is_dir() and not path.is_symlink()]
        yield from _features(inside)
        for path in inside:
            if (named := FOLDER.fullmatch(path.name)) and (path / MANIFEST).is_symlink():  # that of the stage elsewhere
                is_partial = any(path.glob(f"*{UNFINISHED}"))
                yield Stored(path, PIXELS, "unfinished" if is_partial else "finished", *_size_and_use(path))
            elif named:
                yield Stored(path, parent.name, _state(path, named[2]), *_size_and_use(path))


def _features(folders: Iterable[Path]) -> Iterator[Stored]:
    """Yield the folders that hold an extractor's features; a killed process leaves whole files alone in them."""
    for path in folders:
        if OF_EXTRACTOR.fullmatch(path.name) and (path / IDENTITY).is_file():
            yield Stored(path, SCORED, "finished", *_size_and_use(path))


def _state(folder: Path, suffix: str | None) -> State:
    if suffix is None:
        return "finished" if (folder / MANIFEST).is_file() else "unfinished"
    return "unfinished" if suffix == UNFINISHED else "set aside"


def _size_and_use(folder: Path) -> tuple[int, float]:
    size, used = 0, folder.stat().st_mtime
    for path, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # of a stage that is being made
                found = (Path(path) / name).lstat()
                size += found.st_size
                used = max(used, found.st_mtime, found.st_atime if name == MANIFEST else 0)
    return size, used


class BusyError(UserError):
    """Another process is working on a stage or a cache."""


def discard(stage: Stored) -> None:
    """Remove the folder of a stage or a cache. Raises :class:`BusyError` where a process holds its lock."""

    def refuse(holder: str) -> NoReturn:
        raise BusyError(f"{stage.path}: {holder} is working on it.")

    with held(stage.lock, refuse):
        remove(stage.path)
