"""Where a pack is written: its default name, and which files it may replace."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from grasp_bench.contracts.record import RunRecord
from grasp_bench.errors import UserError
from grasp_bench.results.sharing.archive import open_archive
from grasp_bench.results.sharing.verify import read_manifest

UNSAFE = re.compile(r"[^A-Za-z0-9_.,+=@~-]+")
"""Characters that do not go into file names, since they mean something to some file system or shell."""
LONGEST_NAME = 150  # of the 255 bytes of most file systems; the temporary name is longer


def default_path(records: Sequence[RunRecord]) -> Path:
    """Return a name in the working folder: that of the run, of the task of several runs, or "results"."""
    tasks = {record.spec.task.name for record in records}
    if len(records) == 1:
        end = f"-seed-{records[0].spec.seed}"
        return Path(_safe(records[0].label)[: LONGEST_NAME - len(end)] + f"{end}.zip")
    return Path(f"{_safe(tasks.pop())[:LONGEST_NAME]}.zip" if len(tasks) == 1 else "results.zip")


def replaces_a_pack(path: Path) -> bool:
    """Return whether ``path`` is a pack already. Raises :class:`UserError` if it is anything else."""
    if not os.path.lexists(path):
        return False
    try:
        with open_archive(path) as archive:
            read_manifest(archive)
    except UserError as error:
        raise UserError(
            f"{path}: exists, and is not a pack that `grasp-bench submit` wrote. It was left unchanged: name "
            "another file with --out."
        ) from error
    return True


def _safe(name: str) -> str:
    return UNSAFE.sub("-", name).lstrip(".-")
