"""A report for a terminal: tables that fit its width, without a library that takes seconds for ten thousand lines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from rich.cells import cell_len

from grasp_bench.results.grids import Grid, Section, Text

BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
GAP = "  "
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
NARROWEST = 8
"""Columns of text that a name keeps, however many numbers stand beside it."""


def terminal(sections: Sequence[Section], width: int, styled: bool = False) -> str:
    """Tables of up to ``width`` columns under bold headings: one a metric, then the cost, then what went wrong."""
    bold, plain = (BOLD, PLAIN) if styled else ("", "")
    parts = []
    for section in sections:
        notes = [line for note in section.notes for line in textwrap.wrap(printable(note), width)]
        grids = [line for grid in section.grids for line in (*_table(grid, width, bold, plain), "")]
        parts += [f"{bold}{printable(section.heading)}{plain}", "", *grids, *notes, ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def printable(text: str) -> str:
    """One line of text that cannot steer a terminal: what is not printable is shown as its escape."""
    if text.isprintable():
        return text
    text = " ".join(text.split())
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _table(grid: Grid, width: int, bold: str, plain: str) -> list[str]:
    cells = [[_Piece.of(printable(cell.text) + _raised(cell)) for cell in row] for row in grid.rows]
    headings = [_heading(column, number >= grid.names) for number, column in enumerate(grid.columns)]
    widths = [
        max(piece.length for piece in (*heading, *(row[number] for row in cells)))
        for number, heading in enumerate(headings)
    ]
    widths = _fitted(widths, grid.names, width)
    deepest = max(map(len, headings))
    above = [[NOTHING] * (deepest - len(heading)) + heading for heading in headings]
    lines = [printable(grid.title)]
    lines += [_line([heading[level] for heading in above], widths, grid.names) for level in range(deepest)]
    lines.append("─" * (sum(widths) + len(GAP) * (len(widths) - 1)))
    for row, pieces in zip(grid.rows, cells, strict=True):
        marks = [(bold, plain) if cell.bold else ("", "") for cell in row] if bold else None
        if all(piece.length <= room for piece, room in zip(pieces, widths, strict=True)):
            lines.append(_line(pieces, widths, grid.names, marks))
            continue
        folded = [_folded(piece, room) for piece, room in zip(pieces, widths, strict=True)]
        lines += [_line(each, widths, grid.names, marks) for each in zip_longest(*folded, fillvalue=NOTHING)]
    return lines


class _Piece(NamedTuple):
    """Text with the columns that it takes, counted once."""

    text: str
    length: int

    @classmethod
    def of(cls, text: str) -> _Piece:
        narrow = text.isascii() or text.replace("±", "").isascii()
        return cls(text, len(text) if narrow else cell_len(text))


NOTHING = _Piece("", 0)


def _raised(cell: Text) -> str:
    return "" if cell.tier is None else f" {str(cell.tier).translate(RAISED)}"


def _heading(column: str, number: bool) -> list[_Piece]:
    """A word a line above numbers, which leaves the width to the names."""
    return [_Piece.of(word) for word in (printable(column).split(" ") if number else [printable(column)])]


def _fitted(widths: Sequence[int], names: int, width: int) -> list[int]:
    """Widths that fit: the widest of the first ``names`` columns give way, but each keeps :data:`NARROWEST`."""
    fitted = list(widths)
    room = width - len(GAP) * (len(widths) - 1) - sum(widths[names:])
    while sum(fitted[:names]) > room:
        widest = max(range(names), key=lambda number: fitted[number])
        if fitted[widest] <= NARROWEST:
            break
        fitted[widest] -= 1
    return fitted


def _line(
    pieces: Sequence[_Piece], widths: Sequence[int], names: int, marks: Sequence[tuple[str, str]] | None = None
) -> str:
    cells = []
    for number, (text, length) in enumerate(pieces):
        space = " " * (widths[number] - length)
        if marks:
            before, after = marks[number]
            text = f"{before}{text}{after}"
        cells.append(text + space if number < names else space + text)
    return GAP.join(cells).rstrip()


def _folded(piece: _Piece, room: int) -> list[_Piece]:
    """Lines of at most ``room`` columns, broken at spaces where there are any."""
    if piece.length <= room:
        return [piece]
    lines = []
    for line in textwrap.wrap(piece.text, room, break_on_hyphens=False):
        while cell_len(line) > room:  # letters that take two columns
            end = next(end for end in range(len(line), 0, -1) if end == 1 or cell_len(line[:end]) <= room)
            lines.append(line[:end])
            line = line[end:]
        lines.append(line)
    return [_Piece.of(line) for line in lines]
