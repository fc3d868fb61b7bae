"""Finding and reading the records under a results folder."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from grasp_bench.errors import UserError
from grasp_bench.record import RECORD_NAME, RunRecord, read_record


class RecordWarning(UserWarning):
    """A record is left out of a report."""


@dataclass(frozen=True)
class FoundRun:
    """A record and the folder that it lies in, with its pictures and its log."""

    folder: Path
    record: RunRecord


def load_records(results: Path) -> list[RunRecord]:
    """Every record of ``results/<task>/<label>/seed-<n>/``, sorted by path."""
    return [run.record for run in load_runs(results)]


def load_runs(results: Path) -> list[FoundRun]:
    """Every run of ``results/<task>/<label>/seed-<n>/``, sorted by path.

    One that cannot be read, or that copies another run's, is left out with a warning; nothing on disk is changed.
    """
    found: dict[tuple[str, str], FoundRun] = {}
    for path in sorted(results.glob(f"*/*/seed-*/{RECORD_NAME}")):
        try:
            record = read_record(path)
        except UserError as error:
            warnings.warn(f"left out: {error}", RecordWarning, stacklevel=2)
            continue
        key = (record.label, record.run_id)  # a search that ends with the defaults is a row beside theirs
        if key in found:  # counted twice it would narrow the interval
            warnings.warn(f"left out: {path} is the run of {found[key].folder / RECORD_NAME}", RecordWarning, stacklevel=2)
        else:
            found[key] = FoundRun(path.parent, record)
    return list(found.values())
