"""A report in each of its formats: tables for a terminal, markdown and LaTeX; CSV, JSON and parquet; a picture."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts.record import ARROWS, Cost
from grasp_bench.contracts.sized import OFF
from grasp_bench.results.board import COLUMN, ROW, SHARED, Leaderboard
from grasp_bench.results.comparisons import MEASURES, Differences
from grasp_bench.results.forest import SVG, forest_svg
from grasp_bench.results.grids import BESIDE, MINUS, REFERENCE, Grid, Section
from grasp_bench.results.summary import viewed
from grasp_bench.results.tables import Report
from grasp_bench.screen import PLAIN, STYLES, Cell, Sheet, folded
from grasp_bench.text import markdown_escaped, printable, printable_json, to_cell

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

PREAMBLE = r"% Needs \usepackage{booktabs} and UTF-8."
FIRST_LINES = {"table": "# grasp-bench report", "markdown": "<!-- written by grasp-bench report -->"}
"""Form → first line of a file of it that another report may replace; the other forms have headings of their own."""
WORDS = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"}
SIGNS = {"±": r"\pm", MINUS: "-", "·": r"\cdot", "∞": r"\infty", "χ": r"\chi", "²": "^{2}", OFF: r"\dagger"}
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
    **{"unit": "string", "n_seeds": "Int64", "n": "Int64", "reference": "Float64", "best": "boolean"},
    **{"scope": "string", "primary": "boolean", "rank_low": "Int64", "rank_high": "Int64", "could_be_best": "boolean"},
    **{"baseline": "string", **dict.fromkeys(MEASURES, "Float64"), "pairs": "Int64", "scale": "string"},
    **{"significant": "boolean", "declared": "string"},
    **dict.fromkeys(Cost.model_fields, "Float64"),
}
"""Column of CSV and parquet → its type in pandas."""


def rendered(report: Report, form: str, width: int = 100, styled: bool = False, whole: bool = False) -> bytes:
    """Return the report as a file: ``form`` is table, markdown, latex, csv, json, parquet, or svg for the forest plot.

    Tables are ``width`` columns of text wide, and ``styled`` for a terminal that shows bold type. A ``whole`` file of a
    form without a heading of its own begins with a line that says what wrote it.
    """
    if whole and form in FIRST_LINES:
        return f"{FIRST_LINES[form]}\n\n".encode() + rendered(report, form, width, styled)
    if form == "parquet":
        buffer = io.BytesIO()
        long(report).to_parquet(buffer, index=False)
        return buffer.getvalue()
    if form in ("csv", "json"):
        return (csv_text if form == "csv" else json_text)(report).encode()
    if form == "svg":
        return forest_svg(report).encode()
    if form == "table":
        return terminal(viewed(report), width, styled).encode()
    return {"markdown": markdown, "latex": latex}[form](viewed(report)).encode()


def is_rendered(path: Path, form: str) -> bool:
    """Return whether a file begins, or ends where it is parquet, as a whole one of :func:`rendered` does."""
    if form == "parquet":
        import pyarrow.parquet as pq

        try:
            return list(pq.read_schema(path).names) == [*KINDS]
        except ValueError:  # pyarrow's errors are
            return False
    starts = {**FIRST_LINES, "svg": SVG, "latex": PREAMBLE, "csv": ",".join(KINDS), "json": '{\n  "leaderboards": '}
    start = starts[form].encode()
    with path.open("rb") as file:
        return file.read(len(start)) == start


def terminal(sections: Sequence[Section], width: int, styled: bool = False) -> str:
    """Tables of up to ``width`` columns under bold headings: one a metric, then the cost, then what went wrong.

    A library of tables takes seconds for ten thousand lines.
    """
    bold, plain = (STYLES["bold"], PLAIN) if styled else ("", "")
    parts = []
    for section in sections:
        said = [*section.notes, *(f"{tag}: {text}" for tag, text in section.findings)]
        notes = [line for note in said if note for line in folded(printable(note), width)]
        grids = [line for grid in section.grids for line in (*_lines(grid, width, styled), "")]
        lines = folded(printable(section.heading), width) if section.heading else []
        heading = [f"{bold}{line}{plain}" for line in lines]
        parts += [*heading, *[""] * bool(heading), *grids, *notes, ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def markdown(sections: Sequence[Section], level: int = 2) -> str:
    """The tables of ``sections`` in GitHub's markdown, under headings of ``level``."""
    parts = []
    for section in sections:
        if section.heading:
            parts.append(f"{'#' * level} {markdown_escaped(section.heading)}")
        for grid in section.grids:
            rules = ["---"] * grid.names + ["---:"] * (len(grid.columns) - grid.names)
            rows = _marked(grid, markdown_escaped, "**{}**")
            lines = [f"| {' | '.join(cells)} |" for cells in ([*map(markdown_escaped, grid.columns)], rules, *rows)]
            parts.append("\n".join([f"**{markdown_escaped(grid.title)}**", "", *lines]))
        parts += map(markdown_escaped, section.notes)
        if section.findings:
            said = [f"- *{tag}*: {markdown_escaped(text)}" for tag, text in section.findings]
            parts.append("\n".join([*said, f"- These lines are of `{section.command}`."]))
    return "\n\n".join(parts) + "\n"


def latex(sections: Sequence[Section]) -> str:
    """The tables of ``sections`` as ``table`` floats with ``booktabs`` rules, and task, version and seeds in captions.

    The best of a column is bold; the notes stand as comments above the tables.
    """
    parts, labels = [PREAMBLE], Counter[str]()
    for section in sections:
        said = (section.heading, *section.notes, *(f"{tag}: {text}" for tag, text in section.findings))
        parts += [f"% {printable(line)}" for line in said]
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
    return printable_json(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def _objects(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with frames as lists of objects."""
    import pandas as pd

    return {
        name: _with_none(value).to_dict("records") if isinstance(value, pd.DataFrame) else value
        for name, value in fields.items()
    }


def _with_none(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with None for what JSON has no word for: no value, and an infinite F of rows without error."""
    import numpy as np

    found = frame.astype(object)
    return found.where(frame.notna() & ~found.isin([np.inf, -np.inf]), None)


def _long(board: Leaderboard, compared: Differences | None) -> pd.DataFrame:
    import pandas as pd

    cells = board.cells.assign(status="finished", unit="seed")
    cells = cells.merge(board.costs[["label", "declared", *Cost.model_fields]], on="label", how="left")
    if compared is not None and len(compared.found):
        found = compared.found[["label", *COLUMN, *MEASURES, "scale", "significant"]].assign(baseline=compared.baseline)
        cells = cells.merge(found, on=["label", *COLUMN], how="left")
    lines = pd.concat([each.astype(object) for each in (cells, board.problems) if len(each)] or [cells])
    return lines.assign(**{name: getattr(board, name) for name in SHARED}, protocol=board.protocol or None)


def _marked(grid: Grid, escaped: Callable[[str], str], bold: str) -> list[list[str]]:
    """The cells as a language of documents has them, in which bold type is ``{}`` between marks."""
    return [[bold.format(escaped(text)) if strong else escaped(text) for text, strong in row] for row in grid.rows]


def _latex_table(grid: Grid, label: str) -> str:
    numbers = len(grid.columns) - grid.names
    lines = [f"    {' & '.join(cells)} \\\\" for cells in _marked(grid, latex_escaped, r"\textbf{{{}}}")]
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


def _lines(grid: Grid, width: int, styled: bool) -> list[str]:
    """Lines of a table for a terminal."""
    rows = [[Cell(text, "bold" if bold else "") for text, bold in row] for row in grid.rows]
    count = len(grid.columns)
    keys = grid.names if grid.names < count else 2
    numbers = frozenset(range(grid.names, count))
    beside = frozenset(number for number, name in enumerate(grid.columns) if name in BESIDE)
    return Sheet(grid.title, grid.columns, rows, numbers, keys, beside=beside).lines(width, styled)
