"""The manifest of a finished stage: what decided it, and the digest of every file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import JsonValue

from grasp_bench.errors import UserError
from grasp_bench.io import digest, file_digest, has_digest, remove, unreadable, write_json, writing
from grasp_bench.journal import JOURNAL, NAMED, contents, expected, folders_for_files
from grasp_bench.temporary import temporary_name

MANIFEST = "stage.json"
SETTLED = 2_000_000_000  # nanoseconds; some file systems count time in units of two seconds


def stage_key(name: str, inputs: dict[str, JsonValue]) -> str:
    """Return the sha256 (hex) of a stage's name and inputs."""
    return digest({"stage": name, "inputs": inputs})


def folder_name(name: str, inputs: dict[str, JsonValue]) -> str:
    """Return the name of the folder of a finished stage."""
    return stage_key(name, inputs)[:20]


def seal(folder: Path, name: str, inputs: dict[str, JsonValue]) -> None:
    """Remove files that a killed call left half written, and write the manifest of the others.

    Raises :class:`UserError` for a file whose bytes are not those that were written.
    """
    for path in folder.glob(".*.tmp"):
        remove(path)
    with writing(folder):
        paths = [path for path in contents(folder) if path.name != MANIFEST and not JOURNAL.fullmatch(path.name)]
        files = {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}
        _compare(folder, files)
        settled = _now(folder) - SETTLED
        # of a file that changed just now, a further change might show the same time
        seen: JsonValue = {each: _seen(folder / each) for each in files if _changed(folder / each) < settled}
    listed: JsonValue = dict(files)
    write_json(folder / MANIFEST, {"stage": name, "inputs": inputs, "files": listed, "seen": seen})


def _compare(folder: Path, files: dict[str, str]) -> None:
    """Raise :class:`UserError` where ``files`` differ from what was written down when they were written."""
    known = expected(folder)
    for name, found in files.items():
        in_name = NAMED.fullmatch(Path(name).name)
        if (in_name and not found.startswith(in_name[1])) or found not in known.get(name, {found}):
            raise _changed_since(folder / name)
    if found_instead := folders_for_files(folder, known):
        raise _changed_since(found_instead[0])


def _changed_since(path: Path) -> UserError:
    return UserError(
        f"{path}: holds other bytes than were written a moment ago: the disk or another program has changed them. "
        "Repeat the command, which moves the file aside and recomputes it; if this happens again, use another disk."
    )


def _now(folder: Path) -> int:
    """Return the time in nanoseconds by the clock that stamps files in ``folder``, which may be a server's."""
    probe = temporary_name(folder / "now")
    probe.touch()
    stamped = _changed(probe)
    probe.unlink()
    return stamped


def _changed(path: Path) -> int:
    return path.lstat().st_mtime_ns


def _seen(path: Path) -> list[JsonValue]:
    """Return what changes with a file: its size, times of change of contents and of status, and inode."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def damaged(folder: Path, verify: bool) -> list[Path] | None:
    """Return the files of a finished stage that have changed or are missing; None where there is no finished stage.

    The manifest is among them where it is of another stage than the folder's name says. With ``verify`` all files are
    read, otherwise those that look changed. Raises :class:`UserError` for a file that is there and cannot be read.
    """
    if not os.path.lexists(folder):
        return None
    path = folder / MANIFEST
    try:
        if not path.is_file():  # a pipe would be waited for
            return [path]
        manifest = json.loads(path.read_bytes())
        if (folder.parent.name, folder.name) != (
            manifest["stage"],
            folder_name(manifest["stage"], manifest["inputs"]),
        ):
            return [path]
        files: dict[str, str] = dict(manifest["files"])
        seen: dict[str, list[JsonValue]] = {} if verify else dict(manifest.get("seen", {}))
    except FileNotFoundError:  # moved aside by another process in this moment
        return [path]
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [path]
    return [folder / name for name, found in files.items() if not _is_sound(folder / name, found, seen.get(name))]


def _is_sound(path: Path, expected: str, seen: list[JsonValue] | None) -> bool:
    try:
        unchanged = seen is not None and path.is_file() and _seen(path) == seen
    except OSError as error:
        raise unreadable(path, error) from error
    return unchanged or has_digest(path, expected)
