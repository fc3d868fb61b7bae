"""Records of an older schema, rewritten in the schema of today."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grasp_bench.contracts.record import RECORD_NAME, read_record, record_bytes
from grasp_bench.contracts.record_v1 import class_table
from grasp_bench.errors import UserError
from grasp_bench.io import write_bytes
from grasp_bench.results.load import find_records
from grasp_bench.run.files import CLASSES


@dataclass(frozen=True)
class Migration:
    """What was done to the files of a results folder."""

    rewritten: list[Path]
    current: int
    """Files that needed no change."""
    unreadable: list[str]
    """Why a file could not be read, one message per file."""


def migrate(results: Path) -> Migration:
    """Rewrite every record, and every table of scores per class, that is not written as this version does.

    Each file is replaced whole or left alone; run ids stay. Raises :class:`UserError` where a file cannot be written.
    """
    rewritten: list[Path] = []
    unreadable: list[str] = []
    current = 0
    for name in find_records(results):
        folder = results / name
        classes = folder / CLASSES
        try:
            contents = {folder / RECORD_NAME: record_bytes(read_record(folder / RECORD_NAME))}
            if classes.is_file():
                contents[classes] = class_table(classes.read_text(encoding="utf-8")).encode()
        except (UserError, OSError, UnicodeDecodeError) as error:
            unreadable.append(str(error) if isinstance(error, UserError) else f"{classes}: cannot be read: {error}")
            continue
        for path, content in contents.items():
            if path.read_bytes() == content:
                current += 1
            else:
                write_bytes(path, content)
                rewritten.append(path)
    return Migration(rewritten, current, unreadable)
