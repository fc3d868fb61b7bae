"""What lies beside the page: records, logs and the images that it does not show at first."""

from __future__ import annotations

import base64
import gzip
import hashlib
import shutil
from pathlib import Path

from grasp_bench.contracts.record import RECORD_NAME
from grasp_bench.errors import UserError
from grasp_bench.io import writing
from grasp_bench.run.files import CLASSES, TRAIN_LOG
from grasp_bench.temporary import sweep

PAGE = "index.html"
BESIDE = "index_files"
"""Folder beside the page."""
RUNS = f"{BESIDE}/runs"
KEPT = (RECORD_NAME, TRAIN_LOG, CLASSES)
"""Files of a run that the page holds."""
MOST_BYTES = 12_000_000  # of runs' files on one page
MARK = '<meta name="generator" content="grasp-bench report --html">'
"""What tells a page that may be replaced from another file of its name."""


def check_folder(folder: Path) -> None:
    """Raise :class:`UserError` where ``folder`` holds anything but an earlier page, which may be replaced.

    What a call that was killed left of a page half written is removed.
    """
    sweep(folder)
    try:
        found = sorted(each.name for each in folder.iterdir()) if folder.exists() else []
        earlier = PAGE in found and MARK in (folder / PAGE).read_text(encoding="utf-8", errors="replace")[:4000]
    except OSError as error:
        raise UserError(f"--html {folder}: no page can be written there: {error.strerror}.") from error
    foreign = [name for name in found if not (earlier and name in (PAGE, BESIDE))]
    if foreign:
        more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        raise UserError(
            f"--html {folder}: the folder holds {', '.join(foreign[:5])}{more}, which the page did not write. Name a "
            "new or an empty folder."
        )


class Beside:
    """The files to be written beside the page, by their paths from it."""

    def __init__(self) -> None:
        self.copies: dict[str, Path] = {}
        """Path from the page → file to copy."""
        self.images: dict[str, bytes] = {}
        """Path from the page → content."""

    def copy(self, key: str, file: Path) -> None:
        """Let ``file``, of the run ``key``, lie beside the page in a folder of the run."""
        self.copies[f"{RUNS}/{key}/{file.name}"] = file

    def image(self, uri: str) -> str:
        """Return the path from the page of the image that a data URI holds."""
        kind, _, content = uri.removeprefix("data:image/").partition(";base64,")
        data = base64.b64decode(content)
        path = f"{BESIDE}/images/{hashlib.sha256(data).hexdigest()[:16]}.{kind}"
        self.images[path] = data
        return path

    def write(self, folder: Path) -> None:
        """Write the files, in place of those of an earlier page. Raises :class:`UserError` where it cannot."""
        with writing(folder / BESIDE):
            if (folder / BESIDE).exists():
                shutil.rmtree(folder / BESIDE)
            for path in {(folder / each).parent for each in (*self.copies, *self.images)}:
                path.mkdir(parents=True, exist_ok=True)
            for name, file in self.copies.items():
                shutil.copyfile(file, folder / name)
            for name, content in self.images.items():
                (folder / name).write_bytes(content)


class Files:
    """The runs' files: those beside the page by their paths, or else those that it holds, as many as fit."""

    def __init__(self, beside: Beside | None = None) -> None:
        self.beside = beside
        self.held: dict[str, dict[str, str] | list[str]] = {}
        """Key of the run → names of the files beside the page; of a single file, name → gzip in base64."""
        self.left, self.left_out = MOST_BYTES, 0

    def add(self, key: str, folder: Path) -> None:
        """Hold the files of the run ``key``, unless they no longer fit."""
        if self.beside:
            there = [folder / name for name in KEPT if _readable(folder / name)]
            for file in there:
                self.beside.copy(key, file)
            self.held[key] = [file.name for file in there]
            return
        held = {name: content for name in KEPT if (content := _packed(folder / name))}
        size = sum(map(len, held.values()))
        if size > self.left:
            self.left_out += 1
            return
        self.left -= size
        self.held[key] = held


def _readable(path: Path) -> bool:
    """Return whether there is a file that can be read; a pipe would be waited for."""
    try:
        if path.is_file():
            path.open("rb").close()
            return True
    except OSError:
        pass
    return False


def _packed(path: Path) -> str | None:
    """Gzip in base64; None where there is no file, or it cannot be read, which the page says."""
    try:
        content = path.read_bytes() if path.is_file() else None  # a pipe would be waited for
    except OSError:
        content = None
    return None if content is None else packed(content)


def packed(content: bytes) -> str:
    """Return gzip in base64, which the page's script unpacks."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()
