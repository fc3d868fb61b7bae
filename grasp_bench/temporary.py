"""Names under which files are written before they are whole, and the removal of what killed processes left."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import time
from pathlib import Path

DAY = 24 * 60 * 60
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_NAME = re.compile(r"\..+\.(?P<host>[0-9a-f]{8})-(?P<process>[0-9]{1,18})\.tmp", re.DOTALL)
_swept: set[tuple[int, Path]] = set()


def temporary_name(path: Path) -> Path:
    """The name beside ``path`` under which this process writes what becomes ``path``, a file or a folder.

    What killed processes left beside it under such names is removed, as :func:`sweep` says.
    """
    sweep(path.parent)
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.tmp")


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in ``folder``, once per folder and process.

    That is what processes of this machine wrote that do not run, and what nobody has changed for a day: its process may
    be of another machine, or of a container that is gone, or its number another's. What may not be removed stays.
    """
    folder = folder.absolute()
    if (os.getpid(), folder) in _swept:
        return
    _swept.add((os.getpid(), folder))
    with contextlib.suppress(OSError):  # a folder that is not there yet, or may only be read
        for path in list(folder.glob(".*.tmp")):
            named = _NAME.fullmatch(path.name)
            with contextlib.suppress(OSError):  # gone by now, or somebody else's
                if named and _is_left(path, named["host"], int(named["process"])):
                    shutil.rmtree(path) if _is_folder(path) else path.unlink()


def _is_left(path: Path, host: str, process: int) -> bool:
    if host == _HOST and process == os.getpid():
        return False
    if host == _HOST and not _is_running(process):
        return True
    inside = path.rglob("*") if _is_folder(path) else ()
    changed: float = max(each.lstat().st_ctime for each in (path, *inside))
    return changed < time.time() - DAY


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True
