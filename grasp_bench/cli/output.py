"""Output that the commands share."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from grasp_bench.screen import Cell, Sheet
from grasp_bench.terminal import Terminal
from grasp_bench.text import printable_json

WIDTH = 100
NARROWEST = 20
"""Columns of the narrowest screen that tables are made for."""


def is_plain() -> bool:
    """Return whether NO_COLOR or TERM=dumb asks for no colour, and so for no bold type either."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def console() -> Terminal:
    """Return a terminal on standard output: as wide as $COLUMNS or the terminal, or 100 columns without either.

    With NO_COLOR or TERM=dumb, nothing is coloured or bold.
    """
    asked = os.environ.get("COLUMNS", "")
    system: Any = None if is_plain() else "auto"
    found = Terminal(highlight=False, color_system=system)
    width = int(asked) if asked.isascii() and asked.isdecimal() and 0 < len(asked) < 5 else 0
    if not width:
        width = found.width if found.is_terminal else WIDTH
    return Terminal(highlight=False, color_system=system, width=max(width, NARROWEST))


def styled(out: Terminal) -> bool:
    """Return whether a terminal shows bold type."""
    return out.is_terminal and out.color_system is not None


def table(
    title: str,
    columns: Iterable[str],
    rows: Iterable[Sequence[str | Cell]],
    right: Collection[str] = (),
    keys: int = 1,
    caption: str = "",
) -> Sheet:
    """Return a table under its title; the columns ``right`` are numbers, the first ``keys`` columns name a row."""
    named = tuple(columns)
    numbers = frozenset(number for number, name in enumerate(named) if name in right)
    return Sheet(title, named, list(rows), numbers, keys, caption)


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON on standard output."""
    print(printable_json(json.dumps(value, indent=2, ensure_ascii=False)))


def summary(plugin: Any) -> str:
    """Return the first line of a plugin's docstring."""
    return (plugin.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def version(plugin: Any) -> str:
    """Return a plugin's version; for a backbone, its revision, which may be known from its files alone."""
    return str(getattr(plugin, "version", None) or getattr(plugin, "revision", "by its files"))
