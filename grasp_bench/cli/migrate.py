"""``grasp-bench migrate``: records of an older version, rewritten in the current schema."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from grasp_bench.errors import UserError
from grasp_bench.terminal import tell


def migrate_results(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of the runs' records.")],
) -> None:
    """Rewrite records of older versions in the current schema; run ids, scores and everything else stay."""
    if not results.is_dir():
        raise UserError(f"{results}: is no folder. Name the one that holds TASK/METHOD/seed-N/record.json.")
    rewritten, current, unreadable = migrate(results)
    for message in unreadable:
        tell(f"left as it is: {message}", sys.stderr)
    tell(f"{results}: files rewritten: {len(rewritten)}, already current: {current}")
    if unreadable:
        raise typer.Exit(1)


def migrate(results: Path) -> tuple[list[Path], int, list[str]]:
    """Rewrite every record, and every table of scores per class, that is not written as this version does.

    Returns the files that were rewritten, how many needed no change, and why files could not be read, one message
    each. Each file is replaced whole or left alone; run ids stay. What another process publishes meanwhile is kept: a
    file is read again and written under the lock of its results. Raises :class:`UserError` where a file cannot be
    written.
    """
    from grasp_bench.locks import publishing
    from grasp_bench.results.load import find_records

    rewritten, current, unreadable = list[Path](), 0, list[str]()
    for name in find_records(results):
        folder = results / name
        try:
            files, stale = _files(folder)
            if stale:
                with publishing(folder.parents[2]):  # of <task>/<label>/seed-<n>
                    files, stale = _files(folder)
                    _write(stale)
        except UnreadableError as error:
            unreadable.append(str(error))
            continue
        rewritten += stale
        current += files - len(stale)
    return rewritten, current, unreadable


class UnreadableError(Exception):
    """Why a file of a run cannot be read."""


def _files(folder: Path) -> tuple[int, dict[Path, bytes]]:
    """Return how many files of a run this version writes, and those that differ, with what it writes in their place."""
    from grasp_bench.contracts.record import RECORD_NAME, read_record, record_bytes
    from grasp_bench.contracts.record_v1 import class_table
    from grasp_bench.io import check_file
    from grasp_bench.run.files import CLASSES

    classes = folder / CLASSES
    try:
        contents = {folder / RECORD_NAME: record_bytes(read_record(folder / RECORD_NAME))}
        if classes.exists():
            contents[classes] = class_table(check_file(classes).read_text(encoding="utf-8")).encode()
        stale = {path: content for path, content in contents.items() if path.read_bytes() != content}
    except UserError as error:
        raise UnreadableError(str(error)) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableError(f"{classes}: cannot be read: {error}") from error
    return len(contents), stale


def _write(files: dict[Path, bytes]) -> None:
    from grasp_bench.io import write_bytes

    for path, content in files.items():
        write_bytes(path, content)
