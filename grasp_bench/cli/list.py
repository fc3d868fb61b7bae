"""``grasp-bench list``: the plugins that are installed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from grasp_bench import plugins
from grasp_bench.backbones import aliases
from grasp_bench.errors import UserError


def list_plugins(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help=f"Only one kind: {', '.join(plugins.KINDS)}.", show_default=False),
    ] = None,
) -> None:
    """List the methods, tasks, backbones, guidances, feature extractors and metrics that are installed."""
    if kind is not None and kind not in plugins.KINDS:
        raise UserError(f"{kind!r} is no kind of plugin. There are: {', '.join(plugins.KINDS)}.")
    for each in plugins.KINDS:
        if kind in (None, each):
            _print(each, plugins.available(each))


def _print(kind: plugins.Kind, found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from grasp_bench.cli.output import console, summary, version

    table = Table("name", "revision" if kind == "backbones" else "version", "description", title=kind)
    table.title_justify = "left"
    for name, plugin in found.items():
        table.add_row(Text(name), Text(version(plugin)), Text(summary(plugin)))
    if kind == "backbones":
        for alias, source in aliases.available().items():
            table.add_row(Text(alias), Text("by its files"), Text(f"short for {source}"))
    console().print(table)
