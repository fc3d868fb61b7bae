"""Records of an older schema, rewritten in the schema of today."""

from __future__ import annotations

from pathlib import Path

from grasp_bench.contracts.record import RECORD_NAME, read_record, record_bytes
from grasp_bench.contracts.record_v1 import class_table
from grasp_bench.errors import UserError
from grasp_bench.io import write_bytes
from grasp_bench.results.load import find_records
from grasp_bench.run.files import CLASSES


def migrate(results: Path) -> tuple[list[Path], int, list[str]]:
    """Rewrite every record, and every table of scores per class, that is not written as this version does.

    Returns the files that were rewritten, how many needed no change, and why files could not be read, one message
    each. Each file is replaced whole or left alone; run ids stay. Raises :class:`UserError` where a file cannot be
    written.
    """
    rewritten, current, unreadable = list[Path](), 0, list[str]()
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
    return rewritten, current, unreadable
