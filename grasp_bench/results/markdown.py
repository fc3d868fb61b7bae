"""A report in GitHub's markdown."""

from __future__ import annotations

from collections.abc import Sequence

from grasp_bench.results.grids import Grid, Section, Text
from grasp_bench.results.text import printable

SPECIAL = "\\|*_<>`[]&"
"""What could end a cell, start a link or a tag, or change the type."""
PAIRED = "~$"
"""What does so only where it comes twice: one tilde stands in the label of every method with changed settings."""


def markdown(sections: Sequence[Section], level: int = 2) -> str:
    """The tables of ``sections`` under headings of ``level``."""
    parts = []
    for section in sections:
        parts += [
            f"{'#' * level} {escaped(section.heading)}",
            *map(_grid, section.grids),
            *map(escaped, section.notes),
        ]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text that is shown as it is, on one line and within one cell."""
    special = SPECIAL + "".join(each for each in PAIRED if text.count(each) > 1)
    return "".join(f"\\{each}" if each in special else each for each in printable(text))


def _grid(grid: Grid) -> str:
    numbers = len(grid.columns) - grid.names
    rules = ["---"] * grid.names + ["---:"] * numbers
    rows = [[_cell(cell) for cell in row] for row in grid.rows]
    lines = [f"| {' | '.join(cells)} |" for cells in ([escaped(each) for each in grid.columns], rules, *rows)]
    return "\n".join([f"**{escaped(grid.title)}**", "", *lines])


def _cell(cell: Text) -> str:
    text = escaped(cell.text)
    raised = "" if cell.tier is None else f" <sup>{cell.tier}</sup>"
    return (f"**{text}**" if cell.bold else text) + raised
