"""Entry points of installed packages, any of which may be broken without having to do with this one."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from importlib.metadata import Distribution, EntryPoint, EntryPoints, distributions
from typing import Any

_read: Callable[..., EntryPoints] = importlib.metadata.entry_points


def entry_points(broken: Callable[[str], None], **selected: Any) -> EntryPoints:
    """The entry points of all packages, or those ``selected`` by group or name.

    A package whose entry points cannot be read is passed over, and ``broken`` is told which and why.
    """
    try:
        return _read(**selected)
    except Exception:
        found: list[EntryPoint] = []
        for package in distributions():
            try:
                found += package.entry_points.select(**selected)
            except Exception as error:
                broken(f"an installed package in {package.locate_file('')} is broken and passed over: {error}")
        return EntryPoints(found)


def shield() -> None:
    """Let every library of this process pass over broken packages; pydantic, torch and fsspec would raise.

    It has to come before their import.
    """
    importlib.metadata.entry_points = _tolerant  # type: ignore[assignment] # without its old forms


def _tolerant(**selected: Any) -> EntryPoints:
    return entry_points(lambda why: None, **selected)


def name_of(package: Distribution | None) -> str | None:
    """The name of a package; None where its metadata are missing or damaged."""
    try:
        return package.metadata["Name"] if package else None
    except Exception:
        return None
