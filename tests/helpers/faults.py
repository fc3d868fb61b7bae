"""A file system that fails: each write, rename, sync, removal and lock under a folder can be made to fail once.

Calls of Python's ``os``, ``io`` and ``fcntl`` are met, also those relative to an open folder, as shutil.rmtree makes
them, and copies by the system, as shutil.copy2 makes them. What a library writes in C by itself is not met: every file
of a run is opened from Python, since tensors and tables are serialised into memory first.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CALLS = (
    *("fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "truncate", "ftruncate", "symlink"),
    *("write", "pwrite", "sendfile"),
)
"""Functions of ``os`` that change something; of paths, the first is where, except for a link."""
CODES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.ENOLCK, errno.EINTR)


def opened(descriptor: int) -> str:
    """Path of an open file or folder."""
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 # as above


class Faults:
    """Counts the calls that change something under ``folder``, and lets number ``fails`` fail with ``code``."""

    def __init__(self, folder: Path, fails: int | None = None, code: int = 0) -> None:
        self.folder, self.fails, self.code = str(folder), fails, code
        self.calls: list[str] = []
        """What was called, such as "fsync train/weights.safetensors"."""

    def meet(self, call: str, place: object, within: int | None = None) -> None:
        """Count a call, unless it is elsewhere; raise what it is to fail with.

        ``place`` is a path, which may be relative to the open folder ``within``, or an open file.
        """
        path = opened(place) if isinstance(place, int) else os.fsdecode(place)  # type: ignore[arg-type]
        if within is not None:
            path = os.path.join(opened(within), path)  # noqa: PTH118 # a Path would call what is patched
        if not path.startswith(self.folder):
            return
        self.calls.append(f"{call} {re.sub('[0-9a-f]{16,}', '*', path.removeprefix(self.folder).lstrip('/'))}")
        if self.fails_now():
            raise OSError(self.code, os.strerror(self.code), path)

    def fails_now(self) -> bool:
        """Whether the last of the calls is to fail."""
        return len(self.calls) - 1 == self.fails

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Stand between Python and the system inside the block."""
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._before(name, getattr(os, name), -1 if name == "symlink" else 0))
            patch.setattr(fcntl, "flock", self._before("flock", fcntl.flock))
            patch.setattr(os, "open", self._opening(os.open))
            for module in (io, builtins):
                patch.setattr(module, "open", self._file(io.open))
            yield

    def _before(self, name: str, function: Callable[..., Any], at: int = 0) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.meet(name, arguments[at], named.get("dir_fd"))
            return function(*arguments, **named)

        return call

    def _opening(self, function: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
            if flags & os.O_CREAT:
                self.meet("open", path, named.get("dir_fd"))
            return function(path, flags, *arguments, **named)

        return call

    def _file(self, function: Callable[..., Any]) -> Callable[..., Any]:
        faults = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                faults.meet("write", self.name)
                return super().write(data)

        def call(
            path: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, *rest: Any, **named: Any
        ) -> Any:
            inside = not isinstance(path, int) and os.fsdecode(path).startswith(faults.folder)
            if not inside or not set(mode) & set("wax") or named:
                return function(path, mode, buffering, encoding, *rest, **named)
            faults.meet("open", path)
            raw = Raw(os.fsdecode(path), mode.replace("b", "").replace("t", ""))
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)  # type: ignore[type-var]
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding or "utf-8", *rest)

        return call


class EachKindOnce(Faults):
    """Lets the first call of a kind that is not in ``met`` fail with ``code``, and no other; ``met`` has it then.

    ``kind`` makes the kind of a call of what :attr:`calls` has of it.
    """

    def __init__(self, folder: Path, met: set[str], code: int, kind: Callable[[str], str]) -> None:
        super().__init__(folder, code=code)
        self.met, self.kind, self.failed = met, kind, ""

    def fails_now(self) -> bool:
        found = self.kind(self.calls[-1])
        if self.failed or found in self.met:
            return False
        self.failed = self.calls[-1]
        self.met.add(found)
        return True
