"""From records to the leaderboard: one row a method, means and intervals over its seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from grasp_bench.io import digest
from grasp_bench.record import Cost, Metric, RunRecord
from grasp_bench.spec import RunSpec
from grasp_bench.stats.intervals import mean_interval

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True)
class Cell:
    """One metric of one method on one group."""

    mean: float | None
    """None where some seed has none, since there are too few images."""
    low: float | None
    """Lower end of the 95 % interval over seeds; none below three seeds."""
    high: float | None
    n_seeds: int
    n: int
    """Images behind each seed's value; the fewest, should seeds differ."""
    floor: float | None
    """Mean over seeds of what real images score against held-out real images."""
    best: bool = False
    """No method has a better mean, and some method has a worse one."""


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
class MeanCost:
    """What a run of the method spent, the mean over its seeds."""

    trainable_parameters: float
    train_seconds: float
    seconds_per_step: float
    peak_memory_mib: float
    checkpoint_mib: float
    network_evaluations_per_image: float


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
    unequal_streams: tuple[int, ...]
    """Seeds at which methods did not see the same data order, noise and timesteps."""


def leaderboards(records: Iterable[RunRecord]) -> list[Leaderboard]:
    """One leaderboard for all runs under equal conditions, sorted by the task's label."""
    comparable = _grouped(records, lambda record: (record.task_label, _conditions(record)))
    return [_leaderboard(comparable[key]) for key in sorted(comparable)]


def _conditions(record: RunRecord) -> str:
    """Identity of what all methods must share."""
    parts = (record.spec.task, record.spec.backbone, record.spec.budget)
    return digest([record.protocol, *(part.model_dump(mode="json") for part in parts)])


def _variant(spec: RunSpec) -> str:
    """Identity of what is compared: everything in a row but the seed."""
    return digest([part.model_dump(mode="json") for part in (spec.method, spec.guidance)])


def _leaderboard(records: Sequence[RunRecord]) -> Leaderboard:
    named = sorted(_named(records), key=lambda pair: (pair[0], pair[1].spec.seed))
    finished = _grouped((pair for pair in named if pair[1].status == "finished"), lambda pair: pair[0])
    rows = {label: [record for _, record in pairs] for label, pairs in finished.items()}
    spec = records[0].spec
    return Leaderboard(
        task_label=records[0].task_label,
        task=spec.task.name,
        task_version=spec.task.version,
        budget=spec.budget.name,
        backbone=spec.backbone.name,
        backbone_revision=spec.backbone.version,
        rows=tuple(_row(label, runs) for label, runs in rows.items()),
        metrics=_metric_tables(rows),
        problems=tuple(
            Problem(label, record.spec.seed, record.status, record.reason or "no reason recorded")
            for label, record in named
            if record.status != "finished"
        ),
        unequal_streams=_unequal_streams([run for runs in rows.values() for run in runs]),
    )


def _unequal_streams(runs: Sequence[RunRecord]) -> tuple[int, ...]:
    by_seed = _grouped(runs, lambda run: run.spec.seed)
    return tuple(sorted(seed for seed, found in by_seed.items() if len({run.streams for run in found}) > 1))


def _named(records: Sequence[RunRecord]) -> list[tuple[str, RunRecord]]:
    """Records with the label of their row; two versions of a method never share a row."""
    variants: dict[str, set[str]] = {}
    for record in records:
        variants.setdefault(record.label, set()).add(_variant(record.spec))
    return [
        (record.label if len(variants[record.label]) == 1 else f"{record.label} #{_variant(record.spec)[:8]}", record)
        for record in records
    ]


def _row(label: str, runs: Sequence[RunRecord]) -> Row:
    costs = [run.cost for run in runs if run.cost is not None]
    seeds = tuple(run.spec.seed for run in runs)
    return Row(label, seeds, provisional=len(seeds) == 1, cost=_mean_cost(costs) if costs else None)


def _mean_cost(costs: Sequence[Cost]) -> MeanCost:
    return MeanCost(
        trainable_parameters=_mean([cost.trainable_parameters for cost in costs]),
        train_seconds=_mean([cost.train_seconds for cost in costs]),
        seconds_per_step=_mean([cost.seconds_per_step for cost in costs]),
        peak_memory_mib=_mean([cost.peak_memory_mib for cost in costs]),
        checkpoint_mib=_mean([cost.checkpoint_mib for cost in costs]),
        network_evaluations_per_image=_mean([cost.network_evaluations_per_image for cost in costs]),
    )


def _metric_tables(rows: dict[str, list[RunRecord]]) -> tuple[MetricTable, ...]:
    """A table for every metric of groups' images, in the order in which the records first name them."""
    metrics = _grouped(
        (metric for runs in rows.values() for run in runs for metric in run.metrics if metric.scope == "group"),
        lambda metric: metric.name,
    )
    return tuple(_metric_table(found, rows) for found in metrics.values())


def _metric_table(metrics: Sequence[Metric], rows: dict[str, list[RunRecord]]) -> MetricTable:
    name, direction = metrics[0].name, metrics[0].direction
    groups = sorted(dict.fromkeys(metric.group for metric in metrics), key=lambda group: group == "all")
    scores: dict[str, dict[str, Cell]] = {}
    for label, runs in rows.items():
        own = _grouped(
            (m for run in runs for m in run.metrics if (m.name, m.scope) == (name, "group")),
            lambda metric: metric.group,
        )
        if own:
            scores[label] = {group: _cell(own[group]) for group in groups if group in own}
    return MetricTable(
        name=name,
        label=metrics[0].label,
        direction=direction,
        groups=tuple(groups),
        floors={
            group: _mean(floors)
            for group in groups
            if (floors := [m.floor for m in metrics if m.group == group and m.floor is not None])
        },
        scores=_with_best(scores, groups, direction),
    )


def _cell(metrics: Sequence[Metric]) -> Cell:
    values = [metric.value for metric in metrics if metric.value is not None]
    if len(values) < len(metrics):
        return Cell(None, None, None, len(metrics), min(metric.n for metric in metrics), None)
    interval = mean_interval(values)
    floors = [metric.floor for metric in metrics if metric.floor is not None]
    return Cell(
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        n_seeds=interval.n,
        n=min(metric.n for metric in metrics),
        floor=_mean(floors) if floors else None,
    )


def _with_best(
    scores: dict[str, dict[str, Cell]], groups: Iterable[str], direction: Literal["lower", "higher"]
) -> dict[str, dict[str, Cell]]:
    """The same cells with the best of each group marked, unless all are equal."""
    marked = {label: dict(cells) for label, cells in scores.items()}
    for group in groups:
        means = [mean for cells in scores.values() if group in cells and (mean := cells[group].mean) is not None]
        if not means:
            continue
        best, worst = (min(means), max(means)) if direction == "lower" else (max(means), min(means))
        for cells in marked.values():
            if group in cells and cells[group].mean == best != worst:
                cells[group] = replace(cells[group], best=True)
    return marked


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Key → its items, in the order of their first appearance."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
