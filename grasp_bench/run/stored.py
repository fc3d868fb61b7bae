"""What a work folder holds: folders of stages with their sizes, and their removal."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

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


@dataclass(frozen=True)
class Stored:
    """A folder of a stage."""

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
    """The folders of stages under a work folder, by kind and name; whatever else lies there is passed over."""
    for kind in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ():
        for path in sorted(kind.iterdir()):
            named = FOLDER.fullmatch(path.name)
            if named and path.is_dir() and not path.is_symlink():
                whole: State = "finished" if (path / MANIFEST).is_file() else "unfinished"
                state = {None: whole, UNFINISHED: "unfinished", FORMER: "set aside"}.get(named[2], "set aside")
                yield Stored(path, kind.name, state, *_size_and_use(path))


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
    """Another process is working on a stage."""


def discard(stage: Stored) -> None:
    """Remove a stage's folder. Raises :class:`BusyError` where a process holds its lock."""

    def refuse(holder: str) -> NoReturn:
        raise BusyError(f"{stage.path}: {holder} is working on it.")

    with held(stage.lock, refuse):
        remove(stage.path)
