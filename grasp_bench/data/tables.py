"""Strict reading of the text files that list a data set: problems are collected, and nothing is repaired."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from grasp_bench.data.listing import Problem
from grasp_bench.errors import UserError


@dataclass(frozen=True)
class Row:
    """One line of a table: as many values as the header has names."""

    line: int
    values: list[str]


@dataclass(frozen=True)
class Table:
    """The well-formed rows of a CSV file, and whatever is wrong with the others."""

    path: Path
    header: list[str]
    rows: list[Row]
    problems: list[Problem]


def place(path: Path, line: int) -> str:
    """How messages name a line of a file."""
    return f"{path}, line {line}"


def leads_out(path: str) -> bool:
    """Whether a path written in a file is absolute or climbs out of the folder it is relative to."""
    relative = PurePosixPath(path)
    # on Windows a backslash separates and a colon names a drive
    return relative.is_absolute() or ".." in relative.parts or "\\" in path or ":" in path


def find_file(root: Path, folders: Sequence[str], name: str) -> Path | Problem:
    """The first of ``name`` and ``name``.gz in ``folders`` of ``root``, or the problem that it is in none of them."""
    for folder in folders:
        for candidate in (root / folder / name, root / folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    sought = ", ".join(str(root / folder) for folder in folders)
    return Problem("missing file", str(root / name), f"neither {name} nor {name}.gz is in any of {sought}")


def read_text(path: Path) -> str:
    """A file in UTF-8, with or without a byte order mark; one called ``.gz`` is decompressed.

    Line ends are left as they are. Raises :class:`UserError` when it cannot be read.
    """
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file.") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        kind = "gzipped text" if path.suffix == ".gz" else "text"
        raise UserError(f"{path}: cannot be read as {kind} in UTF-8 ({error}). Download it again.") from error


def read_table(path: Path, required: Sequence[str] = ()) -> Table:
    """A CSV file with a header, as :func:`read_text` reads it, with any line ends.

    Values are kept as they are written. Rows of the wrong width and rows with an empty value in a ``required`` column
    are left out and become problems, as do a ``required`` column that is missing (then no row is read) and a file
    without rows. A file that is no text or no CSV has one problem, and neither header nor rows.
    """
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
        lines = [Row(reader.line_num, values) for values in reader]
    except UserError as error:
        return Table(path, [], [], [Problem("unreadable file", str(path), str(error).removeprefix(f"{path}: "))])
    except csv.Error as error:
        found = f"cannot be read as CSV ({error}). Download it again."
        return Table(path, [], [], [Problem("unreadable file", place(path, reader.line_num), found)])
    if not lines:
        return Table(path, [], [], [Problem("no rows", str(path), "the file is empty")])
    header = lines[0].values
    problems = [
        Problem("repeated column", place(path, 1), f"{name!r} is there {header.count(name)} times")
        for name in sorted({name for name in header if header.count(name) > 1})
    ]
    for name in required:
        if name not in header:
            problems.append(Problem("missing column", place(path, 1), f"{name!r} is not among {', '.join(header)}"))
    if problems:
        return Table(path, header, [], problems)
    rows = []
    for row in lines[1:]:
        where, values = place(path, row.line), dict(zip(header, row.values, strict=False))
        if not row.values:
            problems.append(Problem("blank line", where, f"nothing, expected {len(header)} values"))
        elif len(row.values) != len(header):
            found = f"{len(row.values)} values, expected {len(header)}: {', '.join(header)}"
            problems.append(Problem("wrong width", where, found))
        elif missing := [repr(name) for name in required if not values[name]]:
            problems.append(Problem("empty value", where, f"nothing under {', '.join(missing)}"))
        else:
            rows.append(row)
    if len(lines) == 1:
        problems.append(Problem("no rows", str(path), "the file names its columns and then holds no line"))
    return Table(path, header, rows, problems)
