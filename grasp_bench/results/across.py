"""Methods over several tasks: their ranks, and one score that is comparable between tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from grasp_bench.results.cells import Cell
from grasp_bench.results.choose import sort_key
from grasp_bench.results.table import Leaderboard, MetricTable

if TYPE_CHECKING:
    from grasp_bench.stats import Aggregate

TASKS = 3
METHODS = 3
MOST_METHODS = 20
"""Beyond, Nemenyi's difference grows past any use, and nobody reads the ranks."""


@dataclass(frozen=True)
class MethodAcross:
    """One method over all tasks."""

    label: str
    mean_rank: float
    """1 is best."""
    aggregate: Aggregate | None
    """Interquartile mean of its normalised scores; the interval redraws seeds within each task."""


@dataclass(frozen=True)
class Across:
    """One metric of one group over the tasks that share methods; without methods, ``reason`` says why."""

    metric: str
    group: str
    direction: Literal["lower", "higher"]
    tasks: tuple[str, ...]
    methods: tuple[MethodAcross, ...] = ()
    """By mean rank."""
    chi2: float = 0.0
    """Friedman's statistic."""
    p: float = 1.0
    f_statistic: float | None = None
    """Iman and Davenport's; none where all tasks rank alike, since it is infinite then."""
    f_p: float = 1.0
    critical_difference: float = 0.0
    """Nemenyi's, at 0.05."""
    cliques: tuple[tuple[str, ...], ...] = ()
    """Methods whose mean ranks lie less than that apart."""
    normalised: str = ""
    """How scores of different tasks were brought to one scale, or why they were not."""
    reason: str = ""


def across_tasks(boards: Sequence[Leaderboard], sort: str | None) -> Across | None:
    """The comparison over tasks on the score that rows are sorted by; none where there is but one task.

    A task that has several leaderboards, as of another budget or version, counts once: the one with most methods.
    """
    metric, _, group = (sort or "").partition(":")
    largest: dict[str, tuple[Leaderboard, MetricTable, str]] = {}
    for board in boards:
        key = sort_key(board, metric, group)
        if key and (board.task not in largest or len(board.rows) > len(largest[board.task][0].rows)):
            largest[board.task] = (board, *key)
    if len(largest) < 2:
        return None
    _, first, at = next(iter(largest.values()))
    tables = {
        board.task_label: each[0]
        for board, _, _ in largest.values()
        if (each := sort_key(board, first.name, at)) and each[0].direction == first.direction
    }
    label = first.label if {table.label for table in tables.values()} == {first.label} else first.name
    unranked = Across(label, at, first.direction, tuple(tables))
    methods = _shared(tables, at)
    if len(tables) < TASKS or len(methods) < METHODS:
        few = f"it takes {TASKS} tasks with the same {METHODS} methods, and {len(tables)} share {len(methods)}"
        return replace(unranked, reason=f"Not compared over tasks: {few}.")
    if len(methods) > MOST_METHODS:
        many = f"{len(methods)} methods are too many to rank at once; name up to {MOST_METHODS} with --method"
        return replace(unranked, reason=f"Not compared over tasks: {many}.")
    return _ranked(
        unranked,
        {label: [table.scores[label][at] for table in tables.values()] for label in methods},
        [table.floors.get(at) for table in tables.values()],
    )


def _shared(tables: Mapping[str, MetricTable], group: str) -> list[str]:
    """The methods that have a mean on every task."""
    having = [
        {label for label, cells in table.scores.items() if group in cells and cells[group].mean is not None}
        for table in tables.values()
    ]
    return sorted(set.intersection(*having)) if having else []


def _ranked(unranked: Across, cells: Mapping[str, Sequence[Cell]], floors: Sequence[float | None]) -> Across:
    """Ranks and aggregates from each method's cells, one a task as ``floors`` are."""
    from grasp_bench.stats import cliques, critical_difference, friedman, stratified_bootstrap

    found = friedman({label: [_mean(cell) for cell in each] for label, each in cells.items()}, unranked.direction)
    difference = critical_difference(len(cells), found.n)
    runs, how = _normalised(cells, floors, unranked.direction)
    aggregates = {label: stratified_bootstrap(each) for label, each in runs.items()}
    by_rank = sorted(found.mean_ranks, key=lambda label: (found.mean_ranks[label], label))
    return replace(
        unranked,
        methods=tuple(MethodAcross(each, found.mean_ranks[each], aggregates.get(each)) for each in by_rank),
        chi2=found.statistic,
        p=found.p,
        f_statistic=found.f_statistic if math.isfinite(found.f_statistic) else None,
        f_p=found.f_p,
        critical_difference=difference,
        cliques=tuple(cliques(found.mean_ranks, difference)),
        normalised=how,
    )


def _mean(cell: Cell) -> float:
    return math.fsum(cell.values.values()) / len(cell.values)


def _normalised(
    cells: Mapping[str, Sequence[Cell]], floors: Sequence[float | None], direction: str
) -> tuple[dict[str, list[list[float]]], str]:
    """Method → its runs on every task on one scale, where that can be, and how."""
    values = {label: [list(cell.values.values()) for cell in each] for label, each in cells.items()}
    if any(len(task) < 2 for each in values.values() for task in each):
        return {}, "No interquartile mean: some method has but one seed on some task."
    if direction == "higher" and not any(floor is not None for floor in floors):
        return values, "Interquartile mean: of the scores as they are, since the metric has no floor."
    known = [floor for floor in floors if floor is not None and floor > 0]
    if len(known) < len(floors) or any(value <= 0 for each in values.values() for task in each for value in task):
        return {}, "No interquartile mean: scores can be normalised by their floor only where both are above zero."
    lower = direction == "lower"
    scaled = {
        label: [
            [floor / value if lower else value / floor for value in task]
            for task, floor in zip(each, known, strict=True)
        ]
        for label, each in values.items()
    }
    ratio = "floor / score" if lower else "score / floor"
    return scaled, f"Interquartile mean: of {ratio}, which is 1 for held-out real images; more is better."
