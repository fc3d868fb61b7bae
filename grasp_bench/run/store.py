"""The store of stages: folders that are keyed by the hash of their inputs, and finished whole or resumed."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pydantic import JsonValue

from grasp_bench.errors import UserError
from grasp_bench.io import digest, file_digest, move_aside, sync_folder, write_json, writing
from grasp_bench.processes import ALONE, POLL_SECONDS, Processes
from grasp_bench.run.mirror import UNFINISHED, Mirror

MANIFEST = "stage.json"
SETTLED = 2_000_000_000  # nanoseconds; some file systems count time in units of two seconds


class Store:
    """The finished and unfinished stages under a work folder, ``<root>/<stage>/<key>``.

    ``say`` is told what a user should know: that another process is waited for, or that a damaged folder was moved
    aside. All ``processes`` of a run must call :meth:`run` for the same stages in the same order. With ``verify`` every
    file of a finished stage is read and its hash compared; otherwise only of files whose size, time of change or inode
    are not those that were recorded when the stage was finished. Stages are also kept in the folder ``sync_to``, and
    taken from there where they are missing.
    """

    def __init__(
        self,
        root: Path,
        say: Callable[[str], None],
        processes: Processes = ALONE,
        verify: bool = False,
        sync_to: Path | None = None,
    ) -> None:
        self.root, self.say, self.processes, self.verify = root, say, processes, verify
        self.mirror = Mirror(root, sync_to) if sync_to else None

    def run(
        self, name: str, inputs: dict[str, JsonValue], build: Callable[[Path], None], together: bool = False
    ) -> Path:
        """Return the finished folder of the stage, built by ``build(folder)`` unless it is there already.

        ``build`` gets the stage's unfinished folder, with whatever an interrupted call left in it. The folder is
        renamed to its final name once ``build`` returns, so a failed stage is never mistaken for a finished one.
        With ``together`` every process calls ``build``; otherwise the first one alone does, and ``build`` must then
        run no other stage.
        """
        final = self.folder(name, inputs)
        if self.is_finished(name, inputs):
            return final
        with self._lock(final.with_suffix(".lock")) if self.processes.is_first else nullcontext():
            if self.processes.first_says(lambda: self._is_missing(final)):
                partial = final.with_suffix(UNFINISHED)
                if together or self.processes.is_first:
                    with writing(partial):
                        partial.mkdir(parents=True, exist_ok=True)
                    with self._kept_if_interrupted(partial):
                        build(partial)
                if together:
                    self.processes.wait()
                if self.processes.is_first:
                    _seal(partial, {"stage": name, "inputs": inputs})
                    with writing(final):
                        partial.replace(final)
                        sync_folder(final.parent)
                    self.keep(final)
                elif not together:
                    _wait_for(final)
        self.processes.wait()
        return final

    def is_finished(self, name: str, inputs: dict[str, JsonValue]) -> bool:
        """Return whether the stage is finished and undamaged."""
        return self.processes.first_says(lambda: self._is_sound(self.folder(name, inputs)))

    def keep(self, folder: Path) -> None:
        """Make the second place's copy of a stage what the stage's folder is now, where there is a second place."""
        if self.mirror and self.processes.is_first:
            self.mirror.keep(folder)

    @contextmanager
    def _kept_if_interrupted(self, partial: Path) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.keep(partial)
            raise

    def _is_sound(self, final: Path) -> bool:
        if self.mirror and self.mirror.fetch(final):
            self.say(f"{final.parent.name}: taken from {self.mirror.copies}")
        return _damaged(final, self.verify) == []

    def _is_missing(self, final: Path) -> bool:
        """Move a damaged folder of the stage aside, and return whether the stage has to be built.

        What was begun of it elsewhere is brought here first.
        """
        if self.mirror:
            self.mirror.fetch(final.with_suffix(UNFINISHED))
        if damaged := _damaged(final, self.verify):
            aside = move_aside(final)
            self.say(f"{damaged[0]} is damaged; its folder was moved to {aside.name}, and the stage is recomputed")
        return not final.exists()

    def folder(self, name: str, inputs: dict[str, JsonValue]) -> Path:
        """Return the folder that the stage has once it is finished."""
        return self.root / name / stage_key(name, inputs)[:20]

    @contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        """Hold the stage's lock; the operating system releases it when the process ends, however it ends."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except OSError as error:
            raise UserError(
                f"{path.parent}: cannot be written ({error.strerror}); choose another --work-dir or --cache-dir."
            ) from error
        with file:
            if not _try_lock(file.fileno()):
                file.seek(0)
                self.say(f"waiting for process {file.read() or '?'}, which is working on {path.stem}")
                while not _try_lock(file.fileno()):
                    time.sleep(POLL_SECONDS)
            with writing(path):
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
            yield


def stage_key(name: str, inputs: dict[str, JsonValue]) -> str:
    """Return the sha256 (hex) of a stage's name and inputs."""
    return digest({"stage": name, "inputs": inputs})


def _seal(folder: Path, manifest: dict[str, JsonValue]) -> None:
    """Remove files that a killed call left half written, and write the manifest of the others."""
    for path in folder.glob(".*.tmp"):
        path.unlink()
    paths = [path for path in sorted(folder.iterdir()) if path.name != MANIFEST]
    files: JsonValue = {path.name: file_digest(path) for path in paths}
    settled = _now(folder) - SETTLED
    # of a file that changed just now, a further change might show the same time
    seen: JsonValue = {path.name: _seen(path) for path in paths if path.stat().st_mtime_ns < settled}
    write_json(folder / MANIFEST, manifest | {"files": files, "seen": seen})


def _now(folder: Path) -> int:
    """Return the time in nanoseconds by the clock that stamps files in ``folder``, which may be a server's."""
    probe = folder / f".now.{os.getpid()}.tmp"
    with writing(probe):
        probe.touch()
        stamped = probe.stat().st_mtime_ns
        probe.unlink()
    return stamped


def _seen(path: Path) -> list[JsonValue]:
    """Return what changes with a file: its size, time of change and inode."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _damaged(folder: Path, verify: bool) -> list[Path] | None:
    """Return the files of a finished stage that have changed or are missing; None where there is no finished stage."""
    if not folder.exists():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files: dict[str, str] = manifest["files"]
        paths = {folder / name: expected for name, expected in files.items()}
        seen: dict[str, list[JsonValue]] = {} if verify else dict(manifest.get("seen", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [folder / MANIFEST]
    return [path for path, expected in paths.items() if not _is_sound(path, expected, seen.get(path.name))]


def _is_sound(path: Path, expected: str, seen: list[JsonValue] | None) -> bool:
    return path.exists() and ((seen is not None and _seen(path) == seen) or file_digest(path) == expected)


def _wait_for(final: Path) -> None:
    """Wait until the first process has built a stage alone, however long it takes, without keeping a GPU busy.

    A launcher ends this process where the first one fails.
    """
    while not final.exists():
        time.sleep(POLL_SECONDS)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
