"""A leaderboard as rich tables, markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from grasp_bench.report.table import Cell, Leaderboard, MeanCost, MetricTable, Row

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

ARROWS = {"lower": "↓", "higher": "↑"}
ABSENT = "-"
FLOOR = "floor (real vs held-out real)"
NOTE = "Mean ± half the 95 % interval over seeds (Student t; from three seeds on); provisional: one seed."
PROVISIONAL = " (provisional)"
CSV_COLUMNS = (
    *("task", "task_version", "budget", "backbone", "method", "status", "reason"),
    *("metric", "label", "group", "direction", "mean", "low", "high", "n_seeds", "n", "floor"),
    *("trainable_parameters", "train_seconds", "peak_memory_mib"),
)


@dataclass(frozen=True)
class _Text:
    """A cell of a printed table."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class _Grid:
    """A table ready to print: the first column is names, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[_Text]]
    numbers: bool = True


def rich_table(boards: Sequence[Leaderboard]) -> Group:
    """Tables for a terminal of 100 columns: one a metric, then the cost, then what went wrong."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Text | Table] = []
    for board in boards:
        notes = [Text(note) for note in _notes(board)]
        parts += [Text(_heading(board), style="bold"), *map(_rich, _grids(board)), *notes, Text()]
    return Group(*parts)


def markdown(boards: Sequence[Leaderboard]) -> str:
    """The same tables in GitHub's markdown."""
    parts = []
    for board in boards:
        parts += [
            f"## {_escaped(_heading(board))}",
            *map(_markdown_grid, _grids(board)),
            *_notes(board),
        ]
    return "\n\n".join(parts) + "\n"


def csv_text(boards: Sequence[Leaderboard]) -> str:
    """One line for each task, method, metric and group, and one for each run without scores.

    A field is empty where there is no value.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for board in boards:
        conditions = (board.task_label, board.task_version, board.budget, board.backbone)
        costs = {row.label: row.cost for row in board.rows}
        for table in board.metrics:
            for method, cells in table.scores.items():
                for group, cell in cells.items():
                    score = (cell.mean, cell.low, cell.high, cell.n_seeds, cell.n, cell.floor)
                    names = (table.name, table.label, group, table.direction)
                    writer.writerow((*conditions, method, "finished", "", *names, *score, *_csv_cost(costs[method])))
        for problem in board.problems:
            empty = [""] * (len(CSV_COLUMNS) - len(conditions) - 3)
            writer.writerow((*conditions, problem.label, problem.status, problem.reason, *empty))
    return out.getvalue()


def json_text(boards: Sequence[Leaderboard]) -> str:
    """Everything a leaderboard holds, nested as :class:`Leaderboard` is."""
    return json.dumps([asdict(board) for board in boards], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _csv_cost(cost: MeanCost | None) -> tuple[float | None, ...]:
    return (cost.trainable_parameters, cost.train_seconds, cost.peak_memory_mib) if cost else (None, None, None)


def _notes(board: Leaderboard) -> list[str]:
    """What a reader must know of the tables above."""
    if len(board.rows) < 2:
        return [NOTE]
    if board.unequal_streams:
        seeds = ", ".join(map(str, board.unequal_streams))
        return [NOTE, f"Data order, noise or timesteps DIFFER between methods at seeds {seeds}."]
    return [NOTE, "At each seed, data order, noise and timesteps were identical for all methods (by their hash)."]


def _heading(board: Leaderboard) -> str:
    return (
        f"{board.task_label} · version {board.task_version} · {board.budget} budget · "
        f"{board.backbone}@{board.backbone_revision}"
    )


def _grids(board: Leaderboard) -> list[_Grid]:
    provisional = {row.label for row in board.rows if row.provisional}
    grids = [_metric_grid(table, provisional) for table in board.metrics]
    if board.rows:
        grids.append(_cost_grid(board.rows))
    if board.problems:
        rows = [[_Text(p.label), _Text(str(p.seed)), _Text(p.status), _Text(p.reason)] for p in board.problems]
        grids.append(_Grid("without scores", ("method", "seed", "status", "reason"), rows, numbers=False))
    return grids


def _metric_grid(table: MetricTable, provisional: set[str]) -> _Grid:
    digits = _digits(table)
    rows = []
    for method, cells in table.scores.items():
        found = [cells.get(group) for group in table.groups]
        name = _Text(method + PROVISIONAL * (method in provisional))
        rows.append([name, *(_Text(_score(cell, digits), bool(cell and cell.best)) for cell in found)])
    if table.floors:
        floors = [table.floors.get(group) for group in table.groups]
        rows.append([_Text(FLOOR), *(_Text(ABSENT if floor is None else f"{floor:.{digits}f}") for floor in floors)])
    return _Grid(f"{table.label} {ARROWS[table.direction]}", ("method", *table.groups), rows)


def _cost_grid(rows: Sequence[Row]) -> _Grid:
    columns = (
        "method",
        "seeds",
        "trainable parameters",
        "training s",
        "s/step",
        "peak memory MiB",
        "weights MiB",
        "evaluations per image",
    )
    return _Grid("cost", columns, [[_Text(row.label), _Text(str(len(row.seeds))), *_costs(row)] for row in rows])


def _costs(row: Row) -> list[_Text]:
    cost = row.cost
    if cost is None:
        return [_Text(ABSENT)] * 6
    return [
        _Text(f"{cost.trainable_parameters:,.0f}"),
        _Text(f"{cost.train_seconds:.1f}"),
        _Text(f"{cost.seconds_per_step:.3f}"),
        _Text(f"{cost.peak_memory_mib:,.0f}"),
        _Text(f"{cost.checkpoint_mib:.2f}"),
        _Text(f"{cost.network_evaluations_per_image:.0f}"),
    ]


def _digits(table: MetricTable) -> int:
    """Decimals that suit the metric's largest mean."""
    means = [cell.mean for cells in table.scores.values() for cell in cells.values() if cell.mean is not None]
    largest = max(map(abs, means), default=0.0)
    return 1 if largest >= 100 else 2 if largest >= 10 else 3


def _score(cell: Cell | None, digits: int) -> str:
    if cell is None:
        return ABSENT
    if cell.mean is None:
        return f"n too small (n={cell.n})"
    if cell.low is None or cell.high is None:
        return f"{cell.mean:.{digits}f}"
    return f"{cell.mean:.{digits}f} ± {(cell.high - cell.low) / 2:.{digits}f}"


def _rich(grid: _Grid) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(grid.title, style="italic"), title_justify="left")
    for index, column in enumerate(grid.columns):
        if grid.numbers and index > 0:  # a word a line leaves the width to the names
            table.add_column(column.replace(" ", "\n"), justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(cell.text, style="bold" if cell.bold else "") for cell in row))
    return table


def _markdown_grid(grid: _Grid) -> str:
    rules = ["---", *["---:" if grid.numbers else "---"] * (len(grid.columns) - 1)]
    rows = [[f"**{cell.text}**" if cell.bold else _escaped(cell.text) for cell in row] for row in grid.rows]
    lines = [f"| {' | '.join(cells)} |" for cells in (grid.columns, rules, *rows)]
    return "\n".join([f"**{_escaped(grid.title)}**", "", *lines])


def _escaped(text: str) -> str:
    """Text that neither ends a cell nor starts a new line."""
    for special in "\\|*_<":
        text = text.replace(special, f"\\{special}")
    return " ".join(text.split())
