"""``grasp-bench check KIND NAME``: whether a plugin keeps its contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench import plugins
from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from rich.text import Text

    from grasp_bench.testing import Report
    from grasp_bench.testing.checks import Status

STYLES: dict[Status, str] = {"passed": "green", "failed": "red", "not applicable": "dim"}


def check(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="method, guidance, task, extractor, metric or backbone.")],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="As `grasp-bench list` has it; a task's TOML file; NAME:SOURCE.")
    ],
    set_: Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="A setting of it; repeatable.")] = [],  # noqa: B006 # typer reads it, nothing changes it
    json_path: shared.Json = None,
) -> None:
    """Check whether a plugin keeps the contract of its kind.

    Takes seconds to a minute, in a temporary folder. The exit code is 1 where a check failed. In the tests of a package
    of your own, grasp_bench.testing has the same checks for pytest.
    """
    known = list(plugins.SINGULAR.values())
    if kind not in known:
        raise UserError(f"{kind!r} cannot be checked.{did_you_mean(kind, known)} There are: {', '.join(known)}.")
    from rich.console import Console

    from grasp_bench import testing
    from grasp_bench.cli.output import console, table
    from grasp_bench.contracts.progress import Progress
    from grasp_bench.io import write_json
    from grasp_bench.version import VERSION

    checks = getattr(testing, f"{kind}_checks")(name, set_)
    with Progress(Console(stderr=True, highlight=False)).task("check", len(checks)) as advance:
        report = testing.run_checks(checks, advance)
    out = console()
    columns = ("check", "", "what must be so, and what was found where it is not")
    out.print(table(f"{kind} {name}", columns, _rows(report)))
    out.print(", ".join(f"{report.count(status)} {status}" for status in STYLES))
    if json_path:
        told = {"kind": kind, "name": name, "settings": set_, "passed": report.passed}
        write_json(json_path, {"grasp_bench": VERSION, **told, "checks": [vars(each) for each in report.outcomes]})
    if not report.passed:
        raise typer.Exit(1)


def _rows(report: Report) -> Iterator[list[str | Text]]:
    from rich.text import Text

    shown = ""
    for outcome in report.outcomes:
        words, style = Text(outcome.contract), STYLES[outcome.status]
        if outcome.found:
            words.append(f"\n{outcome.status}: {'as above' if outcome.found == shown else outcome.found}", style)
            shown = outcome.found
        yield [outcome.name, Text(outcome.status, style), words]
