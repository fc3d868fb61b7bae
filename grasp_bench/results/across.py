"""Methods over several tasks: their ranks, and one score that is comparable between tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from grasp_bench.results.board import CLOSED, COLUMN, Leaderboard

if TYPE_CHECKING:
    import pandas as pd

    from grasp_bench.stats import Aggregate

TASKS = 3
METHODS = 3
MOST_METHODS = 20
"""With more methods Nemenyi's critical difference is too large to be of use, and the ranks are hard to read."""


@dataclass(frozen=True)
class MethodAcross:
    """One method over all tasks."""

    label: str
    name: str
    """What people read in place of the label: method, guidance and settings, as short as tells it from the others."""
    mean_rank: float
    """Mean of its ranks over the tasks; 1 is best."""
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
    """Methods, sorted by mean rank."""
    chi2: float = 0.0
    """Friedman's statistic."""
    p: float = 1.0
    f_statistic: float | None = None
    """Iman and Davenport's F; None where it is infinite because all tasks rank alike."""
    f_p: float = 1.0
    critical_difference: float = 0.0
    """Nemenyi's critical difference at 0.05."""
    cliques: tuple[tuple[str, ...], ...] = ()
    """Names of groups of methods whose mean ranks lie less than the critical difference apart."""
    normalised: str = ""
    """How scores of different tasks were brought to one scale, or why they were not."""
    reason: str = ""


def across_tasks(boards: Sequence[Leaderboard], sort: str | None) -> Across | None:
    """Return the comparison over tasks on the score that rows are sorted by; None where there is but one task.

    A task with several leaderboards, for example of several budgets or versions, counts once: by the one with most
    methods.
    """
    metric, _, group = (sort or "").partition(":")
    largest: dict[str, tuple[Leaderboard, pd.DataFrame]] = {}
    for board in boards:
        cells = board.sort_key(metric, group)
        if cells is not None and (board.task not in largest or len(board.costs) > len(largest[board.task][0].costs)):
            largest[board.task] = (board, cells)
    if len(largest) < 2:
        return None
    first = next(iter(largest.values()))[1].iloc[0]
    tables = {
        board.task_label: (board, cells.set_index("label"))
        for board, _ in largest.values()
        if (cells := board.sort_key(first["metric"], first["group"])) is not None
        and cells["direction"].iloc[0] == first["direction"]
    }
    same = all(cells["title"].iloc[0] == first["title"] for _, cells in tables.values())
    name = first["title"] if same else first["metric"]
    unranked = Across(name, first["group"], first["direction"], tuple(tables))
    known = [cells["mean"].notna() & (cells["division"] == CLOSED) for _, cells in tables.values()]
    methods = sorted(set.intersection(*(set(each.index[each]) for each in known)))
    if len(tables) < TASKS or len(methods) < METHODS:
        few = f"it takes {TASKS} tasks with the same {METHODS} methods, and {len(tables)} share {len(methods)}"
        return replace(unranked, reason=f"Not compared over tasks: {few}.")
    if len(methods) > MOST_METHODS:
        many = f"{len(methods)} methods are too many to rank at once; name up to {MOST_METHODS} with --method"
        return replace(unranked, reason=f"Not compared over tasks: {many}.")
    return _ranked(unranked, methods, [*tables.values()])


def _ranked(unranked: Across, methods: Sequence[str], tables: Sequence[tuple[Leaderboard, pd.DataFrame]]) -> Across:
    """Return the ranks and aggregates of ``methods`` from each task's leaderboard and its cells by method."""
    from grasp_bench.stats import cliques, critical_difference, friedman, stratified_bootstrap

    found = friedman({each: [cells["mean"][each] for _, cells in tables] for each in methods}, unranked.direction)
    difference = critical_difference(len(methods), found.n)
    runs, how = _normalised(tables, methods, unranked.direction)
    names = tables[0][0].row_names()
    by_rank = sorted(methods, key=lambda label: (found.mean_ranks[label], label))
    return replace(
        unranked,
        methods=tuple(
            MethodAcross(
                label,
                names[label],
                found.mean_ranks[label],
                stratified_bootstrap([task[label] for task in runs]) if runs else None,
            )
            for label in by_rank
        ),
        chi2=found.statistic,
        p=found.p,
        f_statistic=found.f_statistic if math.isfinite(found.f_statistic) else None,
        f_p=found.f_p,
        critical_difference=difference,
        cliques=tuple(tuple(names[each] for each in same) for same in cliques(found.mean_ranks, difference)),
        normalised=how,
    )


def _normalised(
    tables: Sequence[tuple[Leaderboard, pd.DataFrame]], methods: Sequence[str], direction: str
) -> tuple[list[dict[str, np.ndarray]], str]:
    """Return, for each task, method → its runs on one scale, where there is one, and which scale it is in words."""
    runs: list[dict[str, np.ndarray]] = []
    references: list[float] = []
    for board, cells in tables:
        place = cells.iloc[:1][COLUMN]
        scores = board.scores.merge(place, on=COLUMN)
        runs.append({label: scores.loc[scores["label"] == label, "value"].to_numpy() for label in methods})
        references += board.references.merge(place, on=COLUMN)["reference"].to_list()
    values = [each for task in runs for each in task.values()]
    if any(len(each) < 2 for each in values):
        return [], "No interquartile mean: some method has but one seed on some task."
    if direction == "higher" and not references:
        return runs, "Interquartile mean: of the scores as they are, since the metric has no real reference."
    if len(references) < len(runs) or min(references) <= 0 or any((each <= 0).any() for each in values):
        needed = "scores can be normalised by the real reference only where both are above zero"
        return [], f"No interquartile mean: {needed}."
    lower = direction == "lower"
    scaled = [
        {label: real / each if lower else each / real for label, each in task.items()}
        for task, real in zip(runs, references, strict=True)
    ]
    ratio = "real reference / score" if lower else "score / real reference"
    return scaled, f"Interquartile mean: of {ratio}, which is 1 for held-out real images; more is better."
