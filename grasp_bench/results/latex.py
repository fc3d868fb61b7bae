"""A report in LaTeX, ready for a paper: one floating table a metric, with the rules of ``booktabs``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from grasp_bench.contracts.record import ARROWS
from grasp_bench.results.grids import MINUS, REFERENCE, Grid, Section, Text
from grasp_bench.results.text import printable

PREAMBLE = r"% Needs \usepackage{booktabs} and UTF-8."
SYMBOLS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    **{each: f"\\{each}" for each in "&%$#_"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    MINUS: r"$-$",
    "·": r"$\cdot$",
    "∞": r"$\infty$",
    "χ": r"$\chi$",
    "²": r"$^{2}$",
    ARROWS["lower"]: r"$\downarrow$",
    ARROWS["higher"]: r"$\uparrow$",
}
CODES = str.maketrans(SYMBOLS)


def latex(sections: Sequence[Section]) -> str:
    """A ``table`` for every table of ``sections``, with task, version and seeds in its caption.

    The best of a column is bold and tiers are raised; the notes stand as comments above the tables.
    """
    parts, labels = [PREAMBLE], Counter[str]()
    for section in sections:
        parts += [f"% {printable(line)}" for line in (section.heading, *section.notes)]
        for grid in section.grids:
            label = _label(grid)
            labels[label] += 1
            parts.append(f"\n{_table(grid, label if labels[label] == 1 else f'{label}-{labels[label]}')}")
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return printable(text).translate(CODES)


def _table(grid: Grid, label: str) -> str:
    numbers = len(grid.columns) - grid.names
    rules = {len(grid.rows) - 1} if grid.rows and grid.rows[-1][0].text == REFERENCE else set[int]()
    lines = []
    for number, row in enumerate(grid.rows):
        lines += [r"    \midrule"] * (number in rules) + [f"    {' & '.join(map(_cell, row))} \\\\"]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escaped(f'{grid.title}: {grid.caption}')}}}",
            rf"  \label{{{label}}}",
            rf"  \begin{{tabular}}{{@{{}}{'l' * grid.names}{'r' * numbers}@{{}}}}",
            r"    \toprule",
            f"    {' & '.join(map(escaped, grid.columns))} \\\\",
            r"    \midrule",
            *lines,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def _cell(cell: Text) -> str:
    text = escaped(cell.text)
    raised = "" if cell.tier is None else f"$^{{{cell.tier}}}$"
    return (rf"\textbf{{{text}}}" if cell.bold else text) + raised


def _label(grid: Grid) -> str:
    """Letters, digits and hyphens of the task and the title."""
    task = grid.caption.partition(" · ")[0]
    return "tab:" + re.sub(r"[^a-z0-9]+", "-", f"{task} {grid.title}".lower()).strip("-")
