"""Finding and reading the records under a results folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.errors import UserError


class RecordWarning(UserWarning):
    """A record is left out of a report."""


@dataclass(frozen=True)
class FoundRun:
    """A record and the folder that it lies in, with its pictures and its log."""

    folder: Path
    record: RunRecord


@dataclass(frozen=True)
class Place:
    """A file that should be a record."""

    folder: str
    """Under the results, with slashes."""
    size: int
    """Bytes."""
    mtime_ns: int


def load_runs(results: Path) -> list[FoundRun]:
    """Every run of ``results/<task>/<label>/seed-<n>/``, sorted by path.

    One that cannot be read, or that copies another run's, is left out with a warning; nothing on disk is changed.
    """
    found = list(read_each(results, find_records(results)))
    kept = _first_of_each(results, ((place.folder, record.label, record.run_id) for place, record in found))
    return [FoundRun(results / found[at][0].folder, found[at][1]) for at in kept]


def read_runs(results: Path, folders: Iterable[str]) -> list[FoundRun]:
    """Return the records of runs in ``folders``, as the frame of all runs names them."""
    return [FoundRun(results / folder, read_record(results / folder / RECORD_NAME)) for folder in folders]


def find_records(results: Path) -> list[Place]:
    """Every ``<task>/<label>/seed-<n>/record.json`` under ``results``, sorted by path.

    What may not be read is left out with a warning. Raises :class:`UserError` where ``results`` is no folder.
    """
    if results.exists() and not results.is_dir():
        raise UserError(f"{results}: is no folder. Name the one that holds TASK/METHOD/seed-N/{RECORD_NAME}.")
    found = []
    for task in _folders(results):
        for label in _folders(Path(task.path)):
            for seed in _folders(Path(label.path)):
                if seed.name.startswith("seed-"):
                    try:
                        stat = os.stat(f"{seed.path}/{RECORD_NAME}")  # noqa: PTH116 # a Path each is a third slower
                    except FileNotFoundError:
                        continue
                    except PermissionError:
                        _left_out(Path(seed.path))
                        continue
                    found.append(((task.name, label.name, seed.name), stat.st_size, stat.st_mtime_ns))
    return [Place("/".join(parts), size, mtime_ns) for parts, size, mtime_ns in sorted(found)]


def read_each(results: Path, places: Iterable[Place]) -> Iterator[tuple[Place, RunRecord]]:
    """The records at ``places``; one that cannot be read is left out with a warning."""
    for place in places:
        try:
            yield place, read_record(results / place.folder / RECORD_NAME)
        except UserError as error:
            warnings.warn(f"left out: {error}", RecordWarning, stacklevel=2)


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []
    except PermissionError:
        _left_out(folder)
        return []


def _left_out(folder: Path) -> None:
    warnings.warn(f"left out: {folder}: may not be read", RecordWarning, stacklevel=2)


def _first_of_each(results: Path, runs: Iterable[tuple[str, str, str]]) -> list[int]:
    """Indices of (folder, label, run's id) that are no copies: counted twice a run would narrow the interval.

    A search that ends with the defaults is a row beside theirs, so the label counts.
    """
    first: dict[tuple[str, str], str] = {}
    kept = []
    for number, (folder, label, run_id) in enumerate(runs):
        origin = first.setdefault((label, run_id), folder)
        if origin == folder:
            kept.append(number)
            continue
        path, other = results / folder / RECORD_NAME, results / origin / RECORD_NAME
        warnings.warn(f"left out: {path} is the run of {other}", RecordWarning, stacklevel=3)
    return kept
