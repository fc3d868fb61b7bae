"""A report as tables of text, before any format: what terminal, markdown and LaTeX have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from grasp_bench.contracts.record import ARROWS
from grasp_bench.results.across import Across
from grasp_bench.results.build import Report
from grasp_bench.results.differences import Difference, Differences
from grasp_bench.results.table import Cell, Leaderboard, MetricTable, Row

ABSENT = "-"
MINUS = "\N{MINUS SIGN}"
FLOOR = "floor (real vs held-out real)"
NOTE = "Mean ± half the 95 % interval over seeds (Student t; from three seeds on); provisional: one seed."
PROVISIONAL = " (provisional)"
OTHER_PROTOCOL = (
    "Another table has the same heading but for the protocol: other versions of what decides scores, so that the two "
    "do not compare; `grasp-bench compare` says which."
)
COST_COLUMNS = (
    "method",
    "seeds",
    "trainable parameters",
    "training s",
    "s/step",
    "peak memory MiB",
    "weights MiB",
    "evaluations per image",
    "backward passes per image",
    "GFLOP per image",
)


class Text(NamedTuple):
    """A cell of a printed table."""

    text: str
    bold: bool = False
    tier: int | None = None
    """Shown raised."""


@dataclass(frozen=True)
class Grid:
    """A table ready to print: the first ``names`` columns are words, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Text]]
    names: int = 1
    caption: str = ""
    """What the title leaves to its surroundings: for a table that stands alone."""


@dataclass(frozen=True)
class Section:
    """Tables under a heading, and what a reader must know of them."""

    heading: str
    grids: list[Grid]
    notes: list[str]


def sections(report: Report) -> list[Section]:
    """One section a leaderboard, each with its differences to the baseline, and one for the comparison over tasks."""
    found = [_section(board, differences) for board, differences in report.compared]
    return [*found, _across(report.across_tasks)] if report.across_tasks else found


def digits_of(table: MetricTable) -> int:
    """Decimals that suit the metric's largest mean."""
    means = [cell.mean for cells in table.scores.values() for cell in cells.values() if cell.mean is not None]
    return _digits(means)


def score(cell: Cell | None, digits: int) -> str:
    """Mean and half the interval."""
    if cell is None:
        return ABSENT
    if cell.mean is None:
        return f"n too small (n={cell.n})"
    if cell.low is None or cell.high is None:
        return f"{cell.mean:.{digits}f}"
    return f"{cell.mean:.{digits}f} ± {(cell.high - cell.low) / 2:.{digits}f}"


def heading(board: Leaderboard) -> str:
    """Task, version, budget and backbone: what all rows share."""
    protocol = f" · protocol {board.protocol}" if board.protocol else ""
    return (
        f"{board.task_label} · version {board.task_version} · {board.budget} budget · "
        f"{board.backbone}@{board.backbone_revision}{protocol}"
    )


def _section(board: Leaderboard, compared: Differences | None) -> Section:
    provisional = {row.label for row in board.rows if row.provisional}
    grids = [_metric_grid(table, provisional, board) for table in board.metrics]
    if compared and compared.found:
        grids.append(_difference_grid(compared))
    if board.rows:
        rows = [[Text(row.label), Text(str(len(row.seeds))), *_costs(row)] for row in board.rows]
        grids.append(Grid("cost", COST_COLUMNS, rows, caption=heading(board)))
    if board.problems:
        rows = [[Text(p.label), Text(str(p.seed)), Text(p.status), Text(p.reason)] for p in board.problems]
        columns = ("method", "seed", "status", "reason")
        grids.append(Grid("without scores", columns, rows, names=4, caption=heading(board)))
    return Section(heading(board), grids, _notes(board, compared))


def _notes(board: Leaderboard, compared: Differences | None) -> list[str]:
    notes = [NOTE] if board.metrics else []
    if board.protocol:
        notes.append(OTHER_PROTOCOL)
    if board.sorted_by:
        notes.append(f"Rows are sorted by {board.sorted_by}.")
    if board.tiers:
        notes.append(board.tiers)
    if compared:
        notes += [f"Differences to {compared.baseline}: {note}" for note in compared.notes]
    return [*notes, board.streams] if board.streams else notes


def _metric_grid(table: MetricTable, provisional: set[str], board: Leaderboard) -> Grid:
    digits = digits_of(table)
    rows = []
    for method, cells in table.scores.items():
        name = Text(method + PROVISIONAL * (method in provisional))
        rows.append([name, *(_score(cells.get(group), digits) for group in table.groups)])
    if table.floors:
        floors = [table.floors.get(group) for group in table.groups]
        rows.append([Text(FLOOR), *(Text(ABSENT if floor is None else f"{floor:.{digits}f}") for floor in floors)])
    title = f"{table.label} {ARROWS[table.direction]}"
    return Grid(title, ("method", *table.groups), rows, caption=f"{heading(board)}; {_seeds(board.rows)}. {NOTE}")


def _score(cell: Cell | None, digits: int) -> Text:
    return Text(score(cell, digits), cell.best, cell.tier) if cell else Text(ABSENT)


def _seeds(rows: Sequence[Row]) -> str:
    counts = sorted({len(row.seeds) for row in rows})
    if counts[0] != counts[-1]:
        return f"{counts[0]} to {counts[-1]} seeds"
    return f"{counts[0]} seed{'s' * (counts[0] > 1)}"


def _costs(row: Row) -> list[Text]:
    cost = row.cost
    if cost is None:
        return [Text(ABSENT)] * (len(COST_COLUMNS) - 2)
    return [
        Text(f"{cost.trainable_parameters:,.0f}"),
        Text(f"{cost.train_seconds:.1f}"),
        Text(f"{cost.seconds_per_step:.3f}"),
        Text(f"{cost.peak_memory_mib:,.0f}"),
        Text(f"{cost.checkpoint_mib:.2f}"),
        Text(f"{cost.network_evaluations_per_image:.0f}"),
        Text(_known(cost.backward_passes_per_image, ".0f")),
        Text(_known(cost.gflops_per_image, ",.3g")),
    ]


def _known(value: float | None, form: str) -> str:
    return ABSENT if value is None else format(value, form)


def _difference_grid(compared: Differences) -> Grid:
    means: dict[str, list[float]] = {}
    for each in compared.found:
        means.setdefault(each.metric, []).append(each.mean)
    rows = [
        [
            Text(f"{each.metric_label} {ARROWS[each.direction]}"),
            Text(each.method),
            Text(each.group),
            Text(_signed(each, _digits(means[each.metric])), each.significant),
            Text(str(each.n)),
            Text(_p(each.p)),
            Text(_p(each.adjusted), each.significant),
        ]
        for each in compared.found
    ]
    title = f"difference to {compared.baseline}"
    columns = ("metric", "method", "group", "difference", "seeds", "p", "p (Holm)")
    return Grid(title, columns, rows, names=3, caption=compared.task_label)


def _signed(found: Difference, digits: int) -> str:
    mean = f"{found.mean:+.{digits}f}".replace("-", MINUS)
    return mean if found.low is None or found.high is None else f"{mean} ± {(found.high - found.low) / 2:.{digits}f}"


def _p(p: float | None) -> str:
    if p is None:
        return ABSENT
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _across(found: Across) -> Section:
    title = f"{found.metric} {ARROWS[found.direction]} of {found.group}, over {len(found.tasks)} tasks"
    if not found.methods:
        return Section(title, [], [found.reason])
    rows = [
        [
            Text(each.label),
            Text(f"{each.mean_rank:.2f}"),
            Text(f"{a.value:.3f} ({a.low:.3f} to {a.high:.3f})" if (a := each.aggregate) else ABSENT),
        ]
        for each in found.methods
    ]
    f_statistic = "∞" if found.f_statistic is None else f"{found.f_statistic:.2f}"
    same = "; ".join(", ".join(names) for names in found.cliques) or "none"
    notes = [
        f"Tasks: {', '.join(found.tasks)}.",
        f"Friedman's test: χ² = {found.chi2:.2f}, p = {_p(found.p)}; Iman and Davenport's F = {f_statistic}, "
        f"p = {_p(found.f_p)}.",
        f"Not different at 0.05, with mean ranks (1 is best) less than {found.critical_difference:.2f} apart, "
        f"Nemenyi's critical difference: {same}.",
        f"{found.normalised} In brackets: 95 % interval, seeds redrawn within each task.",
    ]
    if not any(each.aggregate for each in found.methods):
        notes[-1] = found.normalised
    columns = ("method", "mean rank", "interquartile mean")
    return Section(title, [Grid("over tasks", columns, rows, caption=title)], notes)


def _digits(values: Sequence[float]) -> int:
    largest = max(map(abs, values), default=0.0)
    return 1 if largest >= 100 else 2 if largest >= 10 else 3
