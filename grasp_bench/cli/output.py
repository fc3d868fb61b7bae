"""Output that the commands share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

WIDTH = 100


def console() -> Console:
    """Return a console on standard output: as wide as the terminal, or 100 columns without one."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH)


def table(
    title: str, columns: Iterable[str], rows: Iterable[Sequence[str | Text]], right: Collection[str] = ()
) -> Table:
    """Return a table under its title, without markup in any text; the columns ``right`` are aligned to the right."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    found = Table(title=escape(title), title_justify="left")
    for column in columns:
        found.add_column(Text(column), justify="right" if column in right else "left")
    for row in rows:
        found.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return found


def summary(plugin: Any) -> str:
    """Return the first line of a plugin's docstring."""
    return (plugin.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def version(plugin: Any) -> str:
    """Return a plugin's version; for a backbone, its revision, which may be known from its files alone."""
    return str(getattr(plugin, "version", None) or getattr(plugin, "revision", "by its files"))
