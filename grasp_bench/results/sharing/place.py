"""Where a pack is written: what it is called unless the user says, and what it may take the place of."""

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
"""What stands in no file's name: some file system or shell reads more into it."""
LONGEST_NAME = 150  # file systems take 255 bytes, with what a temporary name adds


def default_path(records: Sequence[RunRecord]) -> Path:
    """In the working folder, and named after the run; of several, after their task; of several tasks, "results"."""
    tasks = {record.spec.task.name for record in records}
    if len(records) == 1:
        end = f"-seed-{records[0].spec.seed}"
        return Path(_safe(records[0].label)[: LONGEST_NAME - len(end)] + f"{end}.zip")
    return Path(f"{_safe(tasks.pop())[:LONGEST_NAME]}.zip" if len(tasks) == 1 else "results.zip")


def replaces_a_pack(path: Path) -> bool:
    """Whether a pack lies there already. Raises :class:`UserError` where anything else does."""
    if not os.path.lexists(path):
        return False
    try:
        with open_archive(path) as archive:
            read_manifest(archive)
    except UserError as error:
        raise UserError(
            f"{path}: is there already, and is no pack that `grasp-bench submit` wrote. It was left as it is: name "
            "another file with --out."
        ) from error
    return True


def _safe(name: str) -> str:
    return UNSAFE.sub("-", name).lstrip(".-")
