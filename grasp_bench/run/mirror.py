"""A second place for the stages of a work folder that may vanish, such as one on a cluster node's own disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from grasp_bench.errors import UserError
from grasp_bench.io import folder_written_whole, remove, writing
from grasp_bench.temporary import temporary_name

UNFINISHED = ".partial"


class Mirror:
    """Keeps copies of stages under ``copies`` as they are under ``root``, and brings back what is missing there.

    Several work folders may share one place: only folders of stages that are kept here are touched. A finished stage
    appears in either place whole.
    """

    def __init__(self, root: Path, copies: Path) -> None:
        self.root, self.copies = root, copies

    def fetch(self, folder: Path) -> bool:
        """Bring the folder of a stage back if it is missing, and return whether it was there to be brought."""
        copy = self.copy_of(folder)
        if folder.exists() or not copy.exists():
            return False
        _copy_whole(copy, folder)
        return True

    def keep(self, folder: Path) -> None:
        """Make the copy of a stage's folder what the folder is. Raises :class:`UserError` where it cannot be."""
        copy = self.copy_of(folder)
        if folder.suffix == UNFINISHED:
            _copy_changes(folder, copy)
            return
        if not copy.exists():
            _copy_whole(folder, copy)
        remove(copy.with_suffix(UNFINISHED))

    def copy_of(self, folder: Path) -> Path:
        """Return where the copy of a stage's folder is, or will be."""
        return self.copies / folder.relative_to(self.root)


def _files(folder: Path) -> dict[Path, Path]:
    """Return path in the folder → path, of files that nobody is writing."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder): path for path in found}


def _copy_whole(source: Path, target: Path) -> None:
    """Copy a folder, which appears under its name once everything is there."""
    try:
        with folder_written_whole(target) as coming:
            for name, path in _files(source).items():
                (coming / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, coming / name)
    except UserError:
        if not target.exists():  # otherwise another run was quicker
            raise


def _copy_changes(source: Path, target: Path) -> None:
    """Copy files that are not in ``target`` as they are, then remove those from there that are gone."""
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
        there, here = _files(target), _files(source)
        for name, path in here.items():
            if name in there and _seen(there[name]) == _seen(path):
                continue
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            coming = temporary_name(target / name)
            shutil.copy2(path, coming)
            coming.replace(target / name)
        for name in there.keys() - here.keys():
            remove(there[name])


def _seen(path: Path) -> tuple[int, int]:
    """Return what tells two versions of a file apart: size, and seconds at which it was changed."""
    found = path.stat()
    return found.st_size, int(found.st_mtime)
