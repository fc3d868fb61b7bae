"""``grasp-bench report``: the leaderboard of every run under a results folder."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from grasp_bench.results.options import Options


class Format(StrEnum):
    """What to print a report as."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"
    LATEX = "latex"
    PARQUET = "parquet"


class RunStatus(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    FAILED = "failed"
    OOM = "oom"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class Source(StrEnum):
    """Images that are scored, or that the scored classifiers were trained on."""

    GENERATED = "generated"
    REAL = "real"
    TOPPED_UP = "topped-up"


class TestSet(StrEnum):
    """Real images that classifiers are tested on."""

    TEST = "test"
    BALANCED = "balanced-test"


class Test(StrEnum):
    """How two methods are compared over the seeds that both have."""

    PERMUTATION = "permutation"
    WILCOXON = "wilcoxon"
    T = "t"


def report_runs(
    task: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this task; may be given again.", show_default=False)
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this method, this row, or rows like 'grasp+*'; may be given again.",
            show_default=False,
        ),
    ] = None,
    guidance: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this guidance; may be given again.", show_default=False),
    ] = None,
    status: Annotated[
        list[RunStatus] | None, typer.Option(help="Only runs that ended so; may be given again.", show_default=False)
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this metric, such as fd; may be given again.", show_default=False),
    ] = None,
    source: Annotated[
        list[Source] | None,
        typer.Option(
            help="Only scores of these images, or of classifiers trained on them; may be given again.",
            show_default=False,
        ),
    ] = None,
    test_set: Annotated[
        list[TestSet] | None, typer.Option(help="Only scores on this test set.", show_default=False)
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="METRIC[:GROUP]", help="Best rows first by this; else by the first metric, in the tail."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="Also print every method's paired difference to this method or row."),
    ] = None,
    test: Annotated[
        Test, typer.Option(help="Test behind tiers and differences, paired over seeds.")
    ] = Test.PERMUTATION,
    form: Annotated[Format, typer.Option("--format", help="What to print; parquet needs --out.")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write there instead of printing.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the runs as a page to look through instead.")
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Renew the tables between `<!-- grasp-bench report OPTIONS -->` and `<!-- end -->` in a document.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="With --update: change nothing, exit with 1 if a table is out of date.")
    ] = False,
    only_missing: Annotated[
        bool,
        typer.Option("--only-missing", help="Print the commands of runs that the grid of all methods and tasks lacks."),
    ] = False,
    results: shared.Results = shared.RESULTS,
) -> None:
    """Print the leaderboard: mean and 95 % interval over seeds, one row per method; head, medium and tail apart."""
    from grasp_bench.results.frame import load_results
    from grasp_bench.results.options import NAMES, Options

    options = Options(
        task=tuple(task or ()),
        method=tuple(method or ()),
        guidance=tuple(guidance or ()),
        status=tuple(each.value for each in status or ()),
        metric=tuple(metric or ()),
        source=tuple(each.value for each in source or ()),
        test_set=tuple(each.value for each in test_set or ()),
        sort=sort,
        baseline=baseline,
        test=test.value,
    )
    printed = None if form is Format.TABLE or out else form
    _check_alone(html=html, update=update, only_missing=only_missing or None, out=out, format=printed)
    if check and update is None:
        raise UserError("--check needs --update FILE: the document whose tables are compared.")
    if form is Format.PARQUET and out is None:
        raise UserError("--format parquet is no text to print. Say where to write it: --out FILE.parquet.")
    if update is not None:
        _check_unused(options, NAMES, "--update takes the options of each table from its marker; write {} there.")
    elif html is not None:
        _check_unused(
            options,
            ("metric", "source", "test-set", "sort", "test"),
            "--html shows every metric, is sorted by its reader and compares by permutation; leave out {}.",
        )
    elif only_missing:
        _check_unused(
            options,
            ("status", "metric", "source", "test-set", "sort", "baseline", "test"),
            "--only-missing looks at tasks, methods and guidances alone; leave out {}.",
        )
    with uncollected():
        runs = load_results(results)
        if update is not None:
            _update(update, check, runs, results)
        elif only_missing:
            from grasp_bench.results.missing import find_missing, missing_text

            print(missing_text(find_missing(runs, options, results)), end="")
        elif html is not None:
            _write_site(runs, options, results, html)
        else:
            _print(runs, options, results, form, out)


def _check_alone(**given: object) -> None:
    """Each of these is another thing to do with the runs, but that --format says what --out writes."""
    names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise UserError(f"{' and '.join(names)} exclude each other; give one of them.")


def _check_unused(options: Options, names: Iterable[str], message: str) -> None:
    """Raise :class:`UserError` with those of ``names`` that are given, since they would do nothing."""
    given = [
        f"--{name}"
        for name in names
        if getattr(options, field := name.replace("-", "_")) != getattr(type(options)(), field)
    ]
    if given:
        raise UserError(message.format(", ".join(given)))


def _print(runs: pd.DataFrame, options: Options, results: Path, form: Format, out: Path | None) -> None:
    from grasp_bench.cli.output import console
    from grasp_bench.io import write_bytes
    from grasp_bench.results import grids, render
    from grasp_bench.results.build import build
    from grasp_bench.results.text import terminal

    report = build(runs, options, results)
    if out is not None:
        write_bytes(out, render.rendered(report, form))
        print(out)
    elif form is Format.TABLE:
        there = console()
        sys.stdout.write(terminal(grids.sections(report), there.width, styled=there.is_terminal))
    else:
        sys.stdout.write(render.rendered(report, form).decode())


@contextmanager
def uncollected() -> Iterator[None]:
    """Turn the garbage collector off: a large report is a million objects that all stay.

    To go through them again and again takes as long as making them.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _write_site(runs: pd.DataFrame, options: Options, results: Path, folder: Path) -> None:
    from grasp_bench.results.choose import chosen
    from grasp_bench.results.load import read_runs
    from grasp_bench.results.site import write_site

    found = read_runs(results, chosen(runs, options, results)["folder"].unique())
    print(write_site(found, folder, options.baseline))


def _update(document: Path, check: bool, runs: pd.DataFrame, results: Path) -> None:
    from grasp_bench.io import write_bytes
    from grasp_bench.results.build import build
    from grasp_bench.results.grids import sections
    from grasp_bench.results.markdown import markdown
    from grasp_bench.results.update import LEVEL, read_document, updated

    text = read_document(document)
    renewed = updated(document, text, lambda options: markdown(sections(build(runs, options, results)), LEVEL))
    if renewed == text:
        print(f"{document}: up to date")
    elif check:
        print(f"{document}: out of date; `grasp-bench report --update {document}` renews it")
        raise typer.Exit(1)
    else:
        write_bytes(document, renewed.encode())
        print(f"{document}: renewed")
