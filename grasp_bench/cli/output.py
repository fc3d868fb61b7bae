"""Output that the commands share."""

from __future__ import annotations

from typing import Any

from rich.console import Console

WIDTH = 100


def console() -> Console:
    """Return a console on standard output: as wide as the terminal, or 100 columns without one."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH)


def summary(plugin: Any) -> str:
    """Return the first line of a plugin's docstring."""
    return (plugin.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def version(plugin: Any) -> str:
    """Return a plugin's version; for a backbone, its revision, which may be known from its files alone."""
    return str(getattr(plugin, "version", None) or getattr(plugin, "revision", "by its files"))
