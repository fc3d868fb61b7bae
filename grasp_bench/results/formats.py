"""A report in each of its formats: tables for a terminal, markdown and LaTeX; CSV, JSON and parquet for programs."""

from __future__ import annotations

import io
import json
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from grasp_bench.contracts.record import ARROWS, Cost
from grasp_bench.results.board import COLUMN, ROW, SHARED, Leaderboard
from grasp_bench.results.comparisons import MEASURES, Differences
from grasp_bench.results.tables import MINUS, REFERENCE, Grid, Report, Section, Text, sections
from grasp_bench.text import markdown_escaped, printable, to_cell

if TYPE_CHECKING:
    import pandas as pd

BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
GAP = "  "
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
NARROWEST = 8
"""Columns of a terminal that a name keeps, however many numbers stand beside it."""
PREAMBLE = r"% Needs \usepackage{booktabs} and UTF-8."
WORDS = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"}
SIGNS = {"±": r"\pm", MINUS: "-", "·": r"\cdot", "∞": r"\infty", "χ": r"\chi", "²": "^{2}"}
SIGNS |= {ARROWS["lower"]: r"\downarrow", ARROWS["higher"]: r"\uparrow"}
LATEX: dict[str, str | int | None] = {
    **{sign: f"\\{sign}" for sign in "{}&%$#_"},
    **{sign: rf"\text{word}{{}}" for sign, word in WORDS.items()},
    **{sign: f"${command}$" for sign, command in SIGNS.items()},
    '"': "''",
}
"""Sign → how LaTeX sets it."""
KINDS = {
    **dict.fromkeys((*SHARED, "protocol", *ROW, "status", "reason", *COLUMN, "title", "direction"), "string"),
    **dict.fromkeys(("mean", "low", "high"), "Float64"),
    **{"unit": "string", "n_seeds": "Int64", "n": "Int64", "reference": "Float64", "best": "boolean", "tier": "Int64"},
    **{"baseline": "string", **dict.fromkeys(MEASURES, "Float64"), "pairs": "Int64", "difference_unit": "string"},
    **dict.fromkeys(Cost.model_fields, "Float64"),
}
"""Column of CSV and parquet → its type in pandas."""


def rendered(report: Report, form: str, width: int = 100, styled: bool = False) -> bytes:
    """Return the report as a file: ``form`` is table, markdown, latex, csv, json or parquet.

    Tables are ``width`` columns of text wide, and ``styled`` for a terminal that shows bold type.
    """
    if form == "parquet":
        buffer = io.BytesIO()
        long(report).to_parquet(buffer, index=False)
        return buffer.getvalue()
    if form in ("csv", "json"):
        return (csv_text if form == "csv" else json_text)(report).encode()
    if form == "table":
        return terminal(sections(report), width, styled).encode()
    return {"markdown": markdown, "latex": latex}[form](sections(report)).encode()


def terminal(sections: Sequence[Section], width: int, styled: bool = False) -> str:
    """Tables of up to ``width`` columns under bold headings: one a metric, then the cost, then what went wrong.

    A library of tables takes seconds for ten thousand lines.
    """
    bold, plain = (BOLD, PLAIN) if styled else ("", "")
    parts = []
    for section in sections:
        notes = [line for note in section.notes for line in textwrap.wrap(printable(note), width)]
        grids = [line for grid in section.grids for line in (*_lines(grid, width, bold, plain), "")]
        parts += [f"{bold}{printable(section.heading)}{plain}", "", *grids, *notes, ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def markdown(sections: Sequence[Section], level: int = 2) -> str:
    """The tables of ``sections`` in GitHub's markdown, under headings of ``level``."""
    parts = []
    for section in sections:
        parts.append(f"{'#' * level} {markdown_escaped(section.heading)}")
        for grid in section.grids:
            rules = ["---"] * grid.names + ["---:"] * (len(grid.columns) - grid.names)
            rows = _marked(grid, markdown_escaped, "**{}**", " <sup>{}</sup>")
            lines = [f"| {' | '.join(cells)} |" for cells in ([*map(markdown_escaped, grid.columns)], rules, *rows)]
            parts.append("\n".join([f"**{markdown_escaped(grid.title)}**", "", *lines]))
        parts += map(markdown_escaped, section.notes)
    return "\n\n".join(parts) + "\n"


def latex(sections: Sequence[Section]) -> str:
    """The tables of ``sections`` as ``table`` floats with ``booktabs`` rules, and task, version and seeds in captions.

    The best of a column is bold and tiers are raised; the notes stand as comments above the tables.
    """
    parts, labels = [PREAMBLE], Counter[str]()
    for section in sections:
        parts += [f"% {printable(line)}" for line in (section.heading, *section.notes)]
        for grid in section.grids:
            task = grid.caption.partition(" · ")[0]
            label = "tab:" + re.sub(r"[^a-z0-9]+", "-", f"{task} {grid.title}".lower()).strip("-")
            labels[label] += 1
            parts.append(f"\n{_latex_table(grid, label if labels[label] == 1 else f'{label}-{labels[label]}')}")
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def latex_escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return printable(text).translate(str.maketrans(LATEX))


def long(report: Report) -> pd.DataFrame:
    """Return one line per leaderboard, method, metric and group, and one per run without scores."""
    import pandas as pd

    found = [_long(*each) for each in zip(report.leaderboards, report.differences, strict=True)]
    return pd.concat(found, ignore_index=True).reindex(columns=[*KINDS]).astype(KINDS)


def csv_text(report: Report) -> str:
    """Return :func:`long` as CSV; a field is empty where there is no value.

    A name or reason that a spreadsheet would take for a formula has an apostrophe before it.
    """
    table = long(report)
    for name in (name for name, kind in KINDS.items() if kind == "string"):
        table[name] = table[name].map(to_cell, na_action="ignore")
    return table.to_csv(index=False, lineterminator="\n")


def json_text(report: Report) -> str:
    """Return all that a report holds: its frames as lists of objects."""
    content = {
        "leaderboards": [_objects(vars(board)) for board in report.leaderboards],
        "differences": [_objects(vars(each)) for each in report.differences if each],
        "across_tasks": asdict(report.across_tasks) if report.across_tasks else None,
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _objects(fields: dict[str, Any]) -> dict[str, Any]:
    import pandas as pd

    return {
        name: value.astype(object).where(value.notna(), None).to_dict("records")
        if isinstance(value, pd.DataFrame)
        else value
        for name, value in fields.items()
    }


def _long(board: Leaderboard, compared: Differences | None) -> pd.DataFrame:
    import pandas as pd

    cells = board.cells.assign(status="finished", unit="seed")
    cells = cells.merge(board.costs[["label", *Cost.model_fields]], on="label", how="left")
    if compared is not None and len(compared.found):
        found = compared.found[["label", *COLUMN, *MEASURES]]
        found = found.assign(baseline=compared.baseline, difference_unit="paired seed")
        cells = cells.merge(found, on=["label", *COLUMN], how="left")
    lines = pd.concat([each.astype(object) for each in (cells, board.problems) if len(each)] or [cells])
    return lines.assign(**{name: getattr(board, name) for name in SHARED}, protocol=board.protocol or None)


def _marked(grid: Grid, escaped: Callable[[str], str], bold: str, raised: str) -> list[list[str]]:
    """The cells as a language of documents has them, in which bold type and raised figures are ``{}`` between marks."""

    def marked(cell: Text) -> str:
        text = escaped(cell.text)
        text = bold.format(text) if cell.bold else text
        return text if cell.tier is None else text + raised.format(cell.tier)

    return [[marked(cell) for cell in row] for row in grid.rows]


def _latex_table(grid: Grid, label: str) -> str:
    numbers = len(grid.columns) - grid.names
    lines = [f"    {' & '.join(cells)} \\\\" for cells in _marked(grid, latex_escaped, r"\textbf{{{}}}", "$^{{{}}}$")]
    if grid.rows and grid.rows[-1][0].text == REFERENCE:
        lines.insert(-1, r"    \midrule")
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{latex_escaped(f'{grid.title}: {grid.caption}')}}}",
            rf"  \label{{{label}}}",
            rf"  \begin{{tabular}}{{@{{}}{'l' * grid.names}{'r' * numbers}@{{}}}}",
            r"    \toprule",
            f"    {' & '.join(map(latex_escaped, grid.columns))} \\\\",
            r"    \midrule",
            *lines,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def _lines(grid: Grid, width: int, bold: str, plain: str) -> list[str]:
    """Lines of a table for a terminal; the headings of numbers have a word a line, which leaves the width to names."""
    rows = [
        [
            printable(text) if tier is None else f"{printable(text)} {str(tier).translate(RAISED)}"
            for text, _, tier in row
        ]
        for row in grid.rows
    ]
    headings = [
        printable(column).split(" ") if number >= grid.names else [printable(column)]
        for number, column in enumerate(grid.columns)
    ]
    deepest = max(map(len, headings))
    above = list(zip(*([""] * (deepest - len(words)) + words for words in headings), strict=True))
    widest = [max(map(_width, column)) for column in zip(*above, *rows, strict=True)]
    widths = _fitted(widest, grid.names, width)
    lines = [printable(grid.title), *(_line(level, widths, grid.names) for level in above)]
    lines.append("─" * (sum(widths) + len(GAP) * (len(widths) - 1)))
    for row, cells in zip(rows, grid.rows, strict=True):
        marks = [(bold, plain) if cell.bold else ("", "") for cell in cells] if bold else None
        folded = [row] if widths == widest else zip_longest(*map(_folded, row, widths), fillvalue="")
        lines += [_line(each, widths, grid.names, marks) for each in folded]
    return lines


@lru_cache(maxsize=2**17)  # a cell is measured for its column, and again for its line
def _width(text: str) -> int:
    """Columns that the text takes."""
    return len(text) if text.isascii() else cell_len(text)


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
    texts: Sequence[str], widths: Sequence[int], names: int, marks: Sequence[tuple[str, str]] | None = None
) -> str:
    cells = []
    for number, text in enumerate(texts):
        space = " " * (widths[number] - _width(text))
        if marks:
            before, after = marks[number]
            text = f"{before}{text}{after}"
        cells.append(text + space if number < names else space + text)
    return GAP.join(cells).rstrip()


def _folded(text: str, room: int) -> list[str]:
    """Lines of at most ``room`` columns, broken at spaces where there are any."""
    if _width(text) <= room:
        return [text]
    lines = []
    for line in textwrap.wrap(text, room, break_on_hyphens=False):
        while cell_len(line) > room:  # letters that take two columns
            end = next(end for end in range(len(line), 0, -1) if end == 1 or cell_len(line[:end]) <= room)
            lines.append(line[:end])
            line = line[end:]
        lines.append(line)
    return lines
