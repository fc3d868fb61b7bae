"""What tables and the page say of rows of the open division, with which nothing is compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from grasp_bench.contracts.entry import Facts
from grasp_bench.results.board import Leaderboard

DECLARED = "declared, not checked"
"""Title of what open rows declare of how their images were made."""
OPEN = (
    "Rows of the open division, whose images came from elsewhere and whose training and sampling were not held equal, "
    "have scores and are in no test, rank, best mean or difference"
)


def open_rows(board: Leaderboard) -> str:
    """Return what a reader must know of rows of the open division; empty where there are none."""
    if not len(board.open):
        return ""
    names = board.row_names()
    return f"{OPEN}: {', '.join(names[label] for label in board.open['label'])}."


def declared_table(facts: Mapping[str, Facts], absent: str) -> tuple[list[str], list[list[str]]]:
    """Return the headings and rows of a table of what is declared: a row for each name that declares anything."""
    found = {name: each.words for name, each in facts.items() if each.words}
    shown = list(dict.fromkeys(word for words in found.values() for word in words))
    return ["method", *shown], [[name, *(words.get(word, absent) for word in shown)] for name, words in found.items()]


def declared_words(declared: Iterable[Facts]) -> str:
    """Return what is declared in one line, marked as declared; of several runs, every one that differs."""
    lines = ["; ".join(f"{name}: {value}" for name, value in each.words.items()) for each in declared]
    found = " / ".join(dict.fromkeys(filter(None, lines)))
    return f"{DECLARED}: {found}" if found else ""
