"""``grasp-bench list``: the plugins that are installed."""

from __future__ import annotations

from typing import Annotated

import typer

from grasp_bench import plugins
from grasp_bench.backbones import aliases
from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError


def list_plugins(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help=f"Only one kind: {', '.join(plugins.KINDS)}.",
            show_default=False,
            autocompletion=completion.kinds,
        ),
    ] = None,
    json_: shared.PrintJson = False,
) -> None:
    """List the methods, tasks, backbones, guidances, feature extractors and metrics that are installed."""
    from grasp_bench.cli.output import console, print_json, table

    listed = {each: _rows(each) for each in ([_kind(kind)] if kind else plugins.KINDS)}
    if json_:
        print_json(
            {each: [dict(zip(_columns(each), row, strict=True)) for row in rows] for each, rows in listed.items()}
        )
        return
    for each, rows in listed.items():
        console().print(table(each, _columns(each), rows))


def _kind(named: str) -> plugins.Kind:
    """Return the kind of plugins that a user calls ``named``, one of it or many."""
    called = {
        name: kind for kind in plugins.KINDS for name in (kind, plugins.SINGULAR[kind], f"{plugins.SINGULAR[kind]}s")
    }
    if named not in called:
        raise UserError(f"{named!r} is not a kind of plugin. There are: {', '.join(plugins.KINDS)}.")
    return called[named]


def _rows(kind: plugins.Kind) -> list[tuple[str, str, str]]:
    from grasp_bench.cli.output import summary, version

    rows = [(name, version(plugin), summary(plugin)) for name, plugin in plugins.available(kind).items()]
    if kind == "backbones":
        rows += [(alias, "by its files", f"short for {source}") for alias, source in aliases.available().items()]
    return rows


def _columns(kind: plugins.Kind) -> tuple[str, str, str]:
    return "name", version_name(kind), "description"


def version_name(kind: plugins.Kind) -> str:
    """Return what the version of a plugin is called."""
    return "revision" if kind == "backbones" else "version"
