"""Methods over several tasks: their ranks, and one score that is comparable between tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from grasp_bench.results.board import COLUMN, Leaderboard
from grasp_bench.results.leaderboard import sort_key

if TYPE_CHECKING:
    import pandas as pd

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
    """Interquartile mean of its normalised scores; the interval resamples seeds within each task."""


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
    """Return the comparison over tasks on the score that rows are sorted by; None where there is but one task.

    A task that has several leaderboards, as of another budget or version, counts once: the one with most methods.
    """
    metric, _, group = (sort or "").partition(":")
    largest: dict[str, tuple[Leaderboard, pd.DataFrame]] = {}
    for board in boards:
        cells = sort_key(board, metric, group)
        if cells is not None and (board.task not in largest or len(board.costs) > len(largest[board.task][0].costs)):
            largest[board.task] = (board, cells)
    if len(largest) < 2:
        return None
    first = next(iter(largest.values()))[1].iloc[0]
    tables = {
        board.task_label: (board, cells)
        for board, _ in largest.values()
        if (cells := sort_key(board, first["metric"], first["group"])) is not None
        and cells["direction"].iloc[0] == first["direction"]
    }
    titles = {cells["title"].iloc[0] for _, cells in tables.values()}
    label = first["title"] if titles == {first["title"]} else first["metric"]
    unranked = Across(label, first["group"], first["direction"], tuple(tables))
    methods = sorted(
        set.intersection(*(set(cells.loc[cells["mean"].notna(), "label"]) for _, cells in tables.values()))
    )
    if len(tables) < TASKS or len(methods) < METHODS:
        few = f"it takes {TASKS} tasks with the same {METHODS} methods, and {len(tables)} share {len(methods)}"
        return replace(unranked, reason=f"Not compared over tasks: {few}.")
    if len(methods) > MOST_METHODS:
        many = f"{len(methods)} methods are too many to rank at once; name up to {MOST_METHODS} with --method"
        return replace(unranked, reason=f"Not compared over tasks: {many}.")
    values = [_values(*each) for each in tables.values()]
    references = [_reference(*each) for each in tables.values()]
    return _ranked(unranked, {label: [each[label] for each in values] for label in methods}, references)


def _values(board: Leaderboard, cells: pd.DataFrame) -> dict[str, list[float]]:
    """Method → its values, one per seed."""
    scores = board.scores.merge(cells.iloc[:1][COLUMN], on=COLUMN)
    return {str(label): each.tolist() for label, each in scores.groupby("label", sort=False)["value"]}


def _reference(board: Leaderboard, cells: pd.DataFrame) -> float | None:
    found = board.references.merge(cells.iloc[:1][COLUMN], on=COLUMN)["reference"]
    return float(found.iloc[0]) if len(found) else None


def _ranked(
    unranked: Across, values: Mapping[str, Sequence[Sequence[float]]], references: Sequence[float | None]
) -> Across:
    """Ranks and aggregates from each method's ``values``, per task and seed; ``references`` has one per task."""
    from grasp_bench.stats import cliques, critical_difference, friedman, stratified_bootstrap

    means = {label: [math.fsum(task) / len(task) for task in each] for label, each in values.items()}
    found = friedman(means, unranked.direction)
    difference = critical_difference(len(values), found.n)
    runs, how = _normalised(values, references, unranked.direction)
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


def _normalised(
    values: Mapping[str, Sequence[Sequence[float]]], references: Sequence[float | None], direction: str
) -> tuple[Mapping[str, Sequence[Sequence[float]]], str]:
    """Method → its runs on every task on one scale, where that can be, and how."""
    if any(len(task) < 2 for each in values.values() for task in each):
        return {}, "No interquartile mean: some method has but one seed on some task."
    if direction == "higher" and not any(each is not None for each in references):
        return values, "Interquartile mean: of the scores as they are, since the metric has no real reference."
    known = [each for each in references if each is not None and each > 0]
    if len(known) < len(references) or any(value <= 0 for each in values.values() for task in each for value in task):
        needed = "scores can be normalised by the real reference only where both are above zero"
        return {}, f"No interquartile mean: {needed}."
    lower = direction == "lower"
    scaled = {
        label: [
            [real / value if lower else value / real for value in task] for task, real in zip(each, known, strict=True)
        ]
        for label, each in values.items()
    }
    ratio = "real reference / score" if lower else "score / real reference"
    return scaled, f"Interquartile mean: of {ratio}, which is 1 for held-out real images; more is better."
