"""Finding and reading the records under a results folder."""

from __future__ import annotations

import warnings
from pathlib import Path

from grasp_bench.errors import UserError
from grasp_bench.record import RECORD_NAME, RunRecord, read_record


class RecordWarning(UserWarning):
    """A record is left out of a report."""


def load_records(results: Path) -> list[RunRecord]:
    """Every record of ``results/<task>/<label>/seed-<n>/``, sorted by path.

    One that cannot be read, or that copies another run's, is left out with a warning; nothing on disk is changed.
    """
    found: dict[tuple[str, str], tuple[Path, RunRecord]] = {}
    for path in sorted(results.glob(f"*/*/seed-*/{RECORD_NAME}")):
        try:
            record = read_record(path)
        except UserError as error:
            warnings.warn(f"left out: {error}", RecordWarning, stacklevel=2)
            continue
        key = (record.label, record.run_id)  # a search that ends with the defaults is a row beside theirs
        if key in found:  # counted twice it would narrow the interval
            warnings.warn(f"left out: {path} is the run of {found[key][0]}", RecordWarning, stacklevel=2)
        else:
            found[key] = (path, record)
    return [record for _, record in found.values()]
