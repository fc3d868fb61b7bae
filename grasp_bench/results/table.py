"""From runs to the leaderboard: one row a method, means and intervals over its seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from grasp_bench.contracts.record import RunRecord
from grasp_bench.results.cells import Cell, Scores, make_cells
from grasp_bench.results.summary import COSTS, MeanCost, Runs, RunSummary, ScoreKey, summarised

if TYPE_CHECKING:
    from grasp_bench.stats import Test

__all__ = ["Cell", "Leaderboard", "MeanCost", "MetricTable", "Problem", "Row", "leaderboards"]

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True)
class MetricTable:
    """One metric: the methods that have it, by group."""

    name: str
    label: str
    direction: Literal["lower", "higher"]
    groups: tuple[str, ...]
    floors: dict[str, float]
    """Group → mean floor over every run; empty where the metric has none."""
    scores: dict[str, dict[str, Cell]]
    """Method's label → group → cell."""


@dataclass(frozen=True)
class Row:
    """A method with the seeds that finished."""

    label: str
    seeds: tuple[int, ...]
    provisional: bool
    """One seed says nothing of the spread."""
    cost: MeanCost | None


@dataclass(frozen=True)
class Problem:
    """A run without scores, and why."""

    label: str
    seed: int
    status: str
    reason: str


@dataclass(frozen=True)
class Leaderboard:
    """Every run that may be compared: the same task at the same version and settings, budget and backbone."""

    task_label: str
    task: str
    task_version: str
    budget: str
    backbone: str
    backbone_revision: str
    rows: tuple[Row, ...]
    metrics: tuple[MetricTable, ...]
    problems: tuple[Problem, ...]
    streams: str = ""
    """Whether methods saw the same data order, noise and timesteps; empty where no seed has two methods."""
    tiers: str = ""
    """What the tiers of the cells mean, or why there are none."""
    sorted_by: str = ""
    """What the rows are sorted by; empty: their labels."""
    protocol: str = ""
    """A hash of the versions that decide scores, where another leaderboard has all else alike; else empty."""


def leaderboards(runs: Iterable[RunRecord] | Runs, test: Test = "permutation") -> list[Leaderboard]:
    """One leaderboard for all runs under equal conditions, sorted by the task's label, with tiers by ``test``."""
    from grasp_bench.results.tiers import with_tiers

    found = runs if isinstance(runs, Runs) else summarised(runs)
    comparable = _grouped(
        range(len(found.summaries)), lambda at: (found.summaries[at].task_label, found.summaries[at].conditions)
    )
    boards = [with_tiers(_leaderboard(found.at(comparable[key])), test) for key in sorted(comparable)]
    alike = Counter(map(_conditions, boards))
    return [
        replace(board, protocol=conditions[:8]) if alike[_conditions(board)] > 1 else board
        for board, (_, conditions) in zip(boards, sorted(comparable), strict=True)
    ]


def _conditions(board: Leaderboard) -> tuple[str, ...]:
    return (board.task_label, board.task_version, board.budget, board.backbone, board.backbone_revision)


def _leaderboard(runs: Runs) -> Leaderboard:
    labels = _labels(runs.summaries)
    order = sorted(range(len(labels)), key=lambda at: (labels[at], runs.summaries[at].seed))
    named = [(labels[at], runs.summaries[at]) for at in order]
    rows = _grouped((pair for pair in named if pair[1].status == "finished"), lambda pair: pair[0])
    found = {label: [run for _, run in pairs] for label, pairs in rows.items()}
    first = runs.summaries[0]
    return Leaderboard(
        task_label=first.task_label,
        task=first.task,
        task_version=first.task_version,
        budget=first.budget,
        backbone=first.backbone,
        backbone_revision=first.backbone_revision,
        rows=tuple(_row(label, each) for label, each in found.items()),
        metrics=_metric_tables(runs.at(order), [label for label, _ in named], list(found)),
        problems=tuple(
            Problem(label, run.seed, run.status, run.reason or "no reason recorded")
            for label, run in named
            if run.status != "finished"
        ),
        streams=_streams(found),
    )


def _labels(runs: Sequence[RunSummary]) -> list[str]:
    """The label of every run's row; two versions of a method never share a row."""
    variants: dict[str, set[str]] = {}
    for run in runs:
        variants.setdefault(run.label, set()).add(run.variant)
    return [run.label if len(variants[run.label]) == 1 else f"{run.label} #{run.variant[:8]}" for run in runs]


def _streams(found: Mapping[str, Sequence[RunSummary]]) -> str:
    """Words on the hashes of what methods, by their labels, saw at the same seed; none where no two share a seed."""
    by_seed = _grouped(((label, run) for label, runs in found.items() for run in runs), lambda pair: pair[1].seed)
    if max(map(len, by_seed.values()), default=0) < 2:
        return ""
    other: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for pairs in by_seed.values():
        hashes = Counter(run.streams for _, run in pairs if run.streams)
        usual = hashes.most_common(1)[0][0] if hashes else None
        unknown.update((label, None) for label, run in pairs if not run.streams)
        other.update((label, None) for label, run in pairs if run.streams and run.streams != usual)
    said = []
    if other:
        said.append(
            f"Data order, noise or timesteps of {', '.join(other)} DIFFER from the other methods' at the same seed, as "
            "they do where a method resamples classes."
        )
    if unknown:
        said.append(f"No hash of data order, noise and timesteps is recorded for {', '.join(unknown)}.")
    same = "At each seed, data order, noise and timesteps were identical for all methods (by their hash)."
    return " ".join(said) or same


def _row(label: str, runs: Sequence[RunSummary]) -> Row:
    costs = [run.cost for run in runs if run.cost is not None]
    seeds = tuple(run.seed for run in runs)
    return Row(label, seeds, provisional=len(seeds) == 1, cost=_mean_cost(costs) if costs else None)


def _mean_cost(costs: Sequence[MeanCost]) -> MeanCost:
    spent: dict[str, list[Any]] = {name: [getattr(cost, name) for cost in costs] for name in COSTS}
    means: dict[str, Any] = {name: None if None in each else sum(each) / len(each) for name, each in spent.items()}
    return MeanCost(**means)


def _metric_tables(runs: Runs, labels: Sequence[str], rows: Sequence[str]) -> tuple[MetricTable, ...]:
    """A table for every metric of groups' images, in the order in which the runs first name them.

    ``labels`` are those of the runs, ``rows`` those of the finished ones, each once and sorted.
    """
    number = {label: at for at, label in enumerate(rows)}
    row = np.array(
        [number[label] if run.status == "finished" else -1 for label, run in zip(labels, runs.summaries, strict=True)],
        np.int64,
    )[runs.run]
    kept = np.flatnonzero(row >= 0)
    columns, key = _columns(runs, kept)
    column_of = {(each.name, each.group): at for at, each in enumerate(columns)}
    lower = np.array([each.direction == "lower" for each in columns], bool)
    seeds = np.array([run.seed for run in runs.summaries], np.int64)[runs.run]
    scores = Scores(row[kept], key, seeds[kept], runs.value[kept], runs.n[kept], runs.floor[kept])
    cells, floors = make_cells(scores, lower), _floors(scores, len(columns))
    tables = []
    for name, each in _grouped(columns, lambda found: found.name).items():
        groups = sorted((found.group for found in each), key=lambda group: group == "all")
        at = {group: column_of[name, group] for group in groups}
        by_row = {
            label: {group: cells[place, at[group]] for group in groups if (place, at[group]) in cells}
            for place, label in enumerate(rows)
        }
        tables.append(
            MetricTable(
                name=name,
                label=each[0].label,
                direction=each[0].direction,
                groups=tuple(groups),
                floors={group: floors[at[group]] for group in groups if at[group] in floors},
                scores={label: found for label, found in by_row.items() if found},
            )
        )
    return tuple(tables)


def _columns(runs: Runs, kept: np.ndarray) -> tuple[list[ScoreKey], np.ndarray]:
    """The metrics and groups of the scores ``kept``, as they first come, and the column of each score."""
    used, first = np.unique(runs.key[kept], return_index=True)
    columns: dict[tuple[str, str], int] = {}
    keys: list[ScoreKey] = []
    column_of_key = np.zeros(len(runs.keys), np.int64)
    for number in used[np.argsort(first)]:
        key = runs.keys[number]
        column_of_key[number] = columns.setdefault((key.name, key.group), len(columns))
        if len(columns) > len(keys):
            keys.append(key)
    return keys, column_of_key[runs.key[kept]]


def _floors(scores: Scores, columns: int) -> dict[int, float]:
    """Column → mean floor over all its scores that have one."""
    known = ~np.isnan(scores.floor)
    counts = np.bincount(scores.column[known], minlength=columns)
    sums = np.bincount(scores.column[known], weights=scores.floor[known], minlength=columns)
    return {at: float(sums[at] / counts[at]) for at in np.flatnonzero(counts).tolist()}


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Key → its items, in the order of their first appearance."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
