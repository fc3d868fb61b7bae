"""The registries: everything a run is made of comes in by entry point, and is imported on first use."""

from __future__ import annotations

import difflib
import functools
import warnings
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from grasp_bench.errors import UserError

Kind = Literal["methods", "tasks", "backbones", "guidance", "extractors"]
KINDS: tuple[Kind, ...] = ("methods", "tasks", "backbones", "guidance", "extractors")
SINGULAR = {
    "methods": "method",
    "tasks": "task",
    "backbones": "backbone",
    "guidance": "guidance",
    "extractors": "extractor",
}
BUILT_IN = "grasp-bench"


class PluginWarning(UserWarning):
    """A plugin is broken or its name is taken."""


@functools.cache
def entries(kind: Kind) -> dict[str, EntryPoint]:
    """Name → entry point, sorted by name. A name that is taken twice warns; the built-in one is kept."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=f"grasp_bench.{kind}"), key=_precedence):
        if entry.name not in found:
            found[entry.name] = entry
        elif entry.value != found[entry.name].value:
            warnings.warn(
                f"{SINGULAR[kind]} {entry.name!r} of {_origin(entry)} ({entry.value}) is ignored: the name is taken by "
                f"{_origin(found[entry.name])} ({found[entry.name].value}); rename one of them",
                PluginWarning,
                stacklevel=2,
            )
    return dict(sorted(found.items()))


def load(kind: Kind, name: str) -> Any:
    """Import the plugin ``name``. Raises :class:`UserError` when it is unknown or cannot be imported."""
    known = entries(kind)
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"unknown {SINGULAR[kind]} {name!r}.{hint} There are: {', '.join(known)}.")
    try:
        return known[name].load()
    except Exception as error:
        raise UserError(_broken(kind, known[name], error)) from error


def available(kind: Kind) -> dict[str, Any]:
    """Every plugin of a kind that can be imported; one that cannot is a warning that names it."""
    loaded = {}
    for name, entry in entries(kind).items():
        try:
            loaded[name] = entry.load()
        except Exception as error:
            warnings.warn(_broken(kind, entry, error), PluginWarning, stacklevel=2)
    return loaded


def _precedence(entry: EntryPoint) -> tuple[bool, str, str]:
    return (_origin(entry) != BUILT_IN, _origin(entry), entry.value)


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown package"


def _broken(kind: Kind, entry: EntryPoint, error: Exception) -> str:
    return (
        f"{SINGULAR[kind]} {entry.name!r} of {_origin(entry)} ({entry.value}) cannot be imported: "
        f"{type(error).__name__}: {error}. Mend or uninstall that package."
    )
