"""``grasp-bench report``: the leaderboard of every run under a results folder."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from grasp_bench.record import RunRecord
    from grasp_bench.report.table import Leaderboard


class Format(StrEnum):
    """What to print a report as."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"


def report_runs(
    task: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this task; may be given again.", show_default=False)
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this metric, such as fd; may be given again.", show_default=False),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.TABLE,
    results: Annotated[Path, typer.Option(help="Folder of the runs' records.")] = Path("results"),
) -> None:
    """Print the leaderboard: mean and 95 % interval over seeds, a row a method, head, medium and tail apart."""
    from grasp_bench.report import render
    from grasp_bench.report.load import load_records
    from grasp_bench.report.table import leaderboards

    boards = _measured(leaderboards(_chosen(load_records(results), task or [], results)), metric or [])
    if form is Format.TABLE:
        from grasp_bench.cli.output import console

        console().print(render.rich_table(boards))
    else:
        plain = {Format.MARKDOWN: render.markdown, Format.CSV: render.csv_text, Format.JSON: render.json_text}
        print(plain[form](boards), end="")


def _measured(boards: list[Leaderboard], names: list[str]) -> list[Leaderboard]:
    """The leaderboards with the metrics ``names`` alone, or all. Raises :class:`UserError` for one that none has."""
    known = list(dict.fromkeys(table.name for board in boards for table in board.metrics))
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"--metric {name}: no run has it.{hint} There are: {', '.join(known)}.")
    return [
        replace(board, metrics=tuple(table for table in board.metrics if not names or table.name in names))
        for board in boards
    ]


def _chosen(records: list[RunRecord], tasks: list[str], results: Path) -> list[RunRecord]:
    """The records of ``tasks``, or all of them. Raises :class:`UserError` where one has none."""
    known = sorted({record.spec.task.name for record in records})
    missing = [name for name in tasks or known if name not in known]
    if not records or missing:
        wanted = missing[0] if missing else "digits-lt"
        there = f" There are runs of: {', '.join(known)}." if known else ""
        of = f" of task {missing[0]!r}" if missing else ""
        raise UserError(
            f"{results}: no run{of} is recorded there.{there} "
            f"Make one with `grasp-bench run --method grasp --task {wanted} --results {results}`, "
            "or name another folder with --results."
        )
    return [record for record in records if not tasks or record.spec.task.name in tasks]
