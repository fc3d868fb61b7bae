"""``grasp-bench report``: the leaderboard of every run under a results folder."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError
from grasp_bench.terminal import tell

if TYPE_CHECKING:
    import pandas as pd

    from grasp_bench.results.options import Options

# typer takes no list of a Literal
Status = StrEnum("Status", ["finished", "failed", "oom", "cancelled", "skipped"])
Source = StrEnum("Source", {"generated": "generated", "real": "real", "topped_up": "topped-up"})
TestSet = StrEnum("TestSet", {"test": "test", "balanced": "balanced-test"})
ALL: list[Any] = []
"""Default of the filters: nothing is left out."""


def report_runs(
    task: Annotated[
        list[str],
        typer.Option(
            metavar="NAME", help="Report only this task; may be given again.", autocompletion=completion.names("tasks")
        ),
    ] = ALL,
    method: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Report only this method, this row, or rows like 'grasp+*'; may be given again.",
            autocompletion=completion.names("methods"),
        ),
    ] = ALL,
    guidance: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Report only this guidance; may be given again.",
            autocompletion=completion.names("guidance"),
        ),
    ] = ALL,
    status: Annotated[
        list[Status], typer.Option(help="Report only runs that ended in this way; may be given again.")
    ] = ALL,
    metric: Annotated[
        list[str], typer.Option(metavar="NAME", help="Report only this metric, such as fd; may be given again.")
    ] = ALL,
    source: Annotated[
        list[Source],
        typer.Option(help="Report only scores of these images, or of classifiers trained on them; may be given again."),
    ] = ALL,
    test_set: Annotated[
        list[TestSet], typer.Option(help="Report only scores on this test set; may be given again.")
    ] = ALL,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC[:GROUP]",
            help="Sort rows by this score, best first; by default the first metric in the tail.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Also print every method's difference to this method or row.",
            autocompletion=completion.names("methods"),
        ),
    ] = None,
    test: Annotated[
        Literal["model", "permutation", "wilcoxon", "t"],
        typer.Option(help="How methods are compared: a model of methods and seeds, or a paired test over seeds."),
    ] = "model",
    every: Annotated[
        bool,
        typer.Option("--all", help="Report every row; by default each method has one, at its chosen guidance."),
    ] = False,
    view: Annotated[
        Literal["tables", "summary", "findings"],
        typer.Option(
            help="All tables; or, with --baseline, one table of the methods and what is shown of their differences; or "
            "the latter alone."
        ),
    ] = "tables",
    form: Annotated[
        Literal["table", "markdown", "csv", "json", "latex", "parquet", "svg"],
        typer.Option(
            "--format",
            help="Format of the report; svg is a forest plot of the differences to --baseline; parquet and svg need "
            "--out.",
        ),
    ] = "table",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report to this file instead of printing it.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write the runs as an HTML page in this folder, which is new, empty or that of an earlier page.",
        ),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="With --html: put records, logs and images into the page itself.")
    ] = False,
    update: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Renew the tables between `<!-- grasp-bench report OPTIONS -->` and `<!-- end -->` in a document.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="With --update: change nothing, and exit with 1 if a table is out of date.")
    ] = False,
    only_missing: Annotated[
        bool,
        typer.Option("--only-missing", help="Print the commands of runs that the grid of all methods and tasks lacks."),
    ] = False,
    results: shared.Results = shared.RESULTS,
) -> None:
    """Print the leaderboards: one row per method, means with 95 % intervals over seeds, in head, medium and tail."""
    from grasp_bench.results.frame import load_results
    from grasp_bench.results.options import DEFAULTS, Options

    ended, images, tested = ([*map(str, each)] for each in (status, source, test_set))
    options = Options(task, method, guidance, ended, metric, images, tested, sort, baseline, test, every, view)
    printed = None if form == "table" or out else form
    _check_alone(html=html, update=update, only_missing=only_missing or None, out=out, format=printed)
    if check and update is None:
        raise UserError("--check needs --update FILE: the document whose tables are compared.")
    if single_file and html is None:
        raise UserError("--single-file needs --html FOLDER: the folder of the page.")
    if form in ("parquet", "svg") and out is None:
        raise UserError(f"--format {form} is no text to print. Say where to write it: --out FILE.{form}.")
    if form in ("csv", "json", "parquet", "svg") and view != "tables":
        raise UserError(f"--view {view} is for people; --format {form} has everything. Leave one of them out.")
    if update is not None:
        _check_unused(options, DEFAULTS, "--update takes the options of each table from its marker; write {} there.")
    elif html is not None:
        _check_unused(
            options,
            ("metric", "source", "test-set", "sort", "test", "all", "view"),
            "--html shows every row and metric and is sorted by its reader; leave out {}.",
        )
    elif only_missing:
        _check_unused(
            options,
            ("status", "metric", "source", "test-set", "sort", "baseline", "test", "all", "view"),
            "--only-missing looks at tasks, methods and guidances alone; leave out {}.",
        )
    with uncollected():
        runs = load_results(results)
        if update is not None:
            _update(update, check, runs, results)
        elif only_missing:
            from grasp_bench.results.missing import missing_text

            tell(missing_text(runs, options, results), end="")
        elif html is not None:
            from grasp_bench.results.load import read_runs
            from grasp_bench.results.options import chosen
            from grasp_bench.results.site import write_site

            found = read_runs(results, chosen(runs, options, results)["folder"].unique())
            tell(write_site(found, html, options.baseline, single_file=single_file))
        else:
            _print(runs, options, results, form, out)


def _check_alone(**given: object) -> None:
    """Raise :class:`UserError` where several are given: each does something else with the runs."""
    names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise UserError(f"{' and '.join(names)} exclude each other; give one of them.")


def _check_unused(options: Options, names: Iterable[str], message: str) -> None:
    """Raise :class:`UserError` with those of ``names`` that are given, since they would do nothing."""
    from grasp_bench.results.options import DEFAULTS

    values = {name: getattr(options, name.replace("-", "_")) for name in names}
    given = [f"--{name}" for name, value in values.items() if value and value != DEFAULTS[name]]
    if given:
        raise UserError(message.format(", ".join(given)))


def _print(runs: pd.DataFrame, options: Options, results: Path, form: str, out: Path | None) -> None:
    from grasp_bench.cli.output import console, styled
    from grasp_bench.cli.outputs import check_replaceable, tell_written
    from grasp_bench.io import write_bytes
    from grasp_bench.results.formats import is_rendered, rendered
    from grasp_bench.results.tables import build
    from grasp_bench.text import printable_lines

    if out is not None:
        check_replaceable(out, "report", partial(is_rendered, form=form))
    report = build(runs, options, results)
    if out is not None:
        write_bytes(out, rendered(report, form, whole=True))
        tell_written(out)
    else:
        there = console()
        text = rendered(report, form, there.width, styled(there)).decode()
        # names in the cells of a CSV that another program reads stay as they are
        sys.stdout.write(printable_lines(text) if form == "csv" and there.is_terminal else text)


@contextmanager
def uncollected() -> Iterator[None]:
    """Turn the garbage collector off: going through the objects of a large report takes as long as making them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _update(document: Path, check: bool, runs: pd.DataFrame, results: Path) -> None:
    from grasp_bench.io import write_bytes
    from grasp_bench.results.formats import markdown
    from grasp_bench.results.summary import viewed
    from grasp_bench.results.tables import build
    from grasp_bench.results.update import LEVEL, read_document, updated

    text = read_document(document)
    renewed = updated(document, text, lambda options: markdown(viewed(build(runs, options, results)), LEVEL))
    if renewed == text:
        tell(f"{document}: up to date")
    elif check:
        tell(f"{document}: out of date; `grasp-bench report --update {document}` renews it")
        raise typer.Exit(1)
    else:
        write_bytes(document, renewed.encode())
        tell(f"{document}: renewed")
