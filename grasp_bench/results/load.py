"""Finding and reading the records under a results folder; nothing on disk is changed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.errors import UserError


class RecordWarning(UserWarning):
    """Warns that a record is left out of a report."""


@dataclass(frozen=True)
class FoundRun:
    """A record and the folder that it lies in, with its pictures and its log."""

    folder: Path
    record: RunRecord


def read_runs(results: Path, folders: Iterable[str]) -> list[FoundRun]:
    """Return the records of runs in ``folders``, as the frame of all runs names them."""
    return [FoundRun(results / folder, read_record(results / folder / RECORD_NAME)) for folder in folders]


def find_records(results: Path) -> dict[str, tuple[int, int, int, int]]:
    """Every ``<task>/<label>/seed-<n>`` under ``results`` that has a record → what changes with the record.

    That is its size, its times of change of contents and of status in ns, and its inode.

    Folders are sorted by their parts and named with slashes. What may not be read is left out with a warning. Raises
    :class:`UserError` where ``results`` is no folder.
    """

    def left_out(error: OSError) -> None:
        if isinstance(error, PermissionError):
            warnings.warn(f"left out: {error.filename}: may not be read", RecordWarning, stacklevel=2)

    if results.exists() and not results.is_dir():
        raise UserError(f"{results}: is no folder. Name the one that holds TASK/METHOD/seed-N/{RECORD_NAME}.")
    found = []
    for path, folders, _ in os.walk(results, onerror=left_out, followlinks=True):
        parts = Path(path).relative_to(results).parts
        if len(parts) < 2:
            continue
        for name in (name for name in folders if name.startswith("seed-")):
            try:
                stat = os.stat(f"{path}/{name}/{RECORD_NAME}")  # noqa: PTH116 # a Path each is a third slower
            except OSError as error:
                left_out(error)
            else:
                if not S_ISREG(stat.st_mode):  # a pipe would be waited for
                    told = f"left out: {path}/{name}/{RECORD_NAME}: is no file"
                    warnings.warn(told, RecordWarning, stacklevel=2)
                    continue
                found.append(((*parts, name), (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)))
        folders.clear()
    return {"/".join(parts): place for parts, place in sorted(found)}


def read_each(results: Path, folders: Iterable[str]) -> Iterator[tuple[str, RunRecord]]:
    """The records in ``folders``; one that cannot be read is left out with a warning."""
    for folder in folders:
        try:
            yield folder, read_record(results / folder / RECORD_NAME)
        except UserError as error:
            warnings.warn(f"left out: {error}", RecordWarning, stacklevel=2)
