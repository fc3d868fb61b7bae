"""Names that a shell completes; reads entry points alone, so that a key press imports no plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from grasp_bench import plugins
from grasp_bench.backbones import aliases
from grasp_bench.contracts.spec import LITE, SMOKE, STANDARD

Complete = Callable[[str], list[str]]


def among(known: Iterable[str]) -> Complete:
    """Return what completes one of these names."""
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


def names(kind: plugins.Kind) -> Complete:
    """Return what completes the name of a plugin of this kind; of a backbone also the short names of pipelines."""

    def complete(incomplete: str) -> list[str]:
        known = [*plugins.entries(kind), *(aliases.available() if kind == "backbones" else ())]
        return among(known)(incomplete)

    return complete


def method_then_task(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the first of two names by methods, and the second by tasks."""
    before = context.params.get("names") or ()
    return names("tasks" if before else "methods")(incomplete) if len(before) < 2 else []


def metrics(incomplete: str) -> list[str]:
    """Complete the last of metrics that commas separate."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names("metrics")(last)]


def any_name(incomplete: str) -> list[str]:
    """Complete the name of a plugin of any kind."""
    return sorted({name for kind in plugins.KINDS for name in names(kind)(incomplete)})


kinds = among(plugins.KINDS)
"""Completes the name of a kind of plugin, as `list` takes it."""
kind = among(plugins.SINGULAR.values())
"""Completes the name of a kind of plugin, as `check` takes it."""
budgets = among((STANDARD, LITE, SMOKE))
"""Completes the name of a budget that every task has."""
