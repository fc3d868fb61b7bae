"""What the commands share to print."""

from __future__ import annotations

from typing import Any

from rich.console import Console

WIDTH = 100


def console() -> Console:
    """Standard output: as wide as the terminal, or 100 columns where there is none."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH)


def summary(plugin: Any) -> str:
    """First line of a plugin's docstring."""
    return (plugin.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def version(plugin: Any) -> str:
    """Version of a plugin: a backbone's is its revision, which only its files can tell where they are the user's."""
    return str(getattr(plugin, "version", None) or getattr(plugin, "revision", "by its files"))
