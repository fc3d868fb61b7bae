"""``grasp-bench list``: the plugins that are installed."""

from __future__ import annotations

from typing import Annotated

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
        raise UserError(f"{kind!r} is not a kind of plugin. There are: {', '.join(plugins.KINDS)}.")
    from grasp_bench.cli.output import console, summary, table, version

    for each in plugins.KINDS:
        if kind in (None, each):
            found = plugins.available(each).items()
            rows = [(name, version(plugin), summary(plugin)) for name, plugin in found]
            if each == "backbones":
                rows += [
                    (alias, "by its files", f"short for {source}") for alias, source in aliases.available().items()
                ]
            console().print(table(each, ("name", version_name(each), "description"), rows))


def version_name(kind: plugins.Kind) -> str:
    """Return what the version of a plugin is called."""
    return "revision" if kind == "backbones" else "version"
