"""``grasp-bench check KIND NAME``: whether a plugin keeps its contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench import plugins
from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.screen import Cell
from grasp_bench.text import counted

if TYPE_CHECKING:
    from grasp_bench.testing import Report
    from grasp_bench.testing.checks import Status

STYLES: dict[Status, str] = {"passed": "green", "failed": "red", "not applicable": "dim"}


def check(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="method, guidance, task, extractor, metric or backbone.",
            autocompletion=completion.kind,
        ),
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="As `grasp-bench list` has it; a task's TOML file; NAME:SOURCE.",
            autocompletion=completion.any_name,
        ),
    ],
    set_: Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="A setting of it; repeatable.")] = [],  # noqa: B006 # typer reads it, nothing changes it
    json_path: shared.Json = None,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Check whether a plugin keeps the contract of its kind.

    Takes seconds to a minute, in a temporary folder. The exit code is 1 where a check failed. In the tests of a package
    of your own, grasp_bench.testing has the same checks for pytest.
    """
    known = list(plugins.SINGULAR.values())
    if kind not in known:
        raise UserError(f"{kind!r} cannot be checked.{did_you_mean(kind, known)} There are: {', '.join(known)}.")
    from grasp_bench import testing
    from grasp_bench.cli.output import console, table
    from grasp_bench.cli.outputs import check_json, write_outcome
    from grasp_bench.version import VERSION

    progress = shared.told(quiet, verbose)
    check_json(json_path, "check")
    checks = getattr(testing, f"{kind}_checks")(name, set_)
    with progress.task("check", len(checks)) as advance:
        report = testing.run_checks(checks, advance)
    out = console()
    columns = ("check", "", "what must be so, and what was found where it is not")
    out.print(table(f"{kind} {name}", columns, _rows(report)))
    out.print(", ".join(f"{report.count(status)} {status}" for status in STYLES))
    told = {"kind": kind, "name": name, "settings": set_, "passed": report.passed}
    checked = [vars(each) for each in report.outcomes]
    write_outcome(json_path, "check", {"grasp_bench": VERSION, **told, "checks": checked})
    if not report.passed:
        raise typer.Exit(1)


def _rows(report: Report) -> Iterator[list[str | Cell]]:
    """Yield a row for each check, and one for all those that do not apply."""
    shown = ""
    inapplicable: dict[str, list[str]] = {}
    for outcome in report.outcomes:
        if outcome.status == "not applicable":
            inapplicable.setdefault(outcome.found, []).append(outcome.name)
            continue
        words = outcome.contract
        if outcome.found:
            words += f"\n{outcome.status}: {'as above' if outcome.found == shown else outcome.found}"
            shown = outcome.found
        yield [outcome.name, Cell(outcome.status, STYLES[outcome.status]), words]
    if inapplicable:
        style = STYLES["not applicable"]
        yield [
            counted(sum(map(len, inapplicable.values())), "other"),
            Cell("not applicable", style),
            Cell("; ".join(f"{', '.join(names)}: {reason}" for reason, names in inapplicable.items()), style),
        ]
