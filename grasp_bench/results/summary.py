"""Many runs in little room: what tables need of each record, and the scores of all of them as columns.

Tables are made of this alone, whether it was read from the records or from the index of them.
"""

from __future__ import annotations

import shlex
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import nan
from typing import Literal

import numpy as np
from pydantic import JsonValue

from grasp_bench.contracts.record import Cost, RunRecord, titled
from grasp_bench.contracts.spec import STANDARD
from grasp_bench.io import digest


@dataclass(frozen=True)
class MeanCost:
    """What a run spent, or the mean over the runs of a method."""

    trainable_parameters: float
    train_seconds: float
    seconds_per_step: float
    peak_memory_mib: float
    checkpoint_mib: float
    network_evaluations_per_image: float
    backward_passes_per_image: float | None
    """None, like those below, where a record of before does not say it."""
    gflops_per_image: float | None
    generate_peak_memory_mib: float | None


COSTS = tuple(field.name for field in fields(MeanCost))


@dataclass(frozen=True)
class ScoreKey:
    """What a score of a group's images is called."""

    name: str
    label: str
    group: str
    direction: Literal["lower", "higher"]


@dataclass(frozen=True)
class RunSummary:
    """What tables need of a record, but for its scores."""

    folder: str
    """Of the record, under the results: ``<task>/<label>/seed-<n>``."""
    run_id: str
    task_label: str
    label: str
    task: str
    task_version: str
    budget: str
    backbone: str
    backbone_revision: str
    method: str
    guidance: str
    seed: int
    status: str
    reason: str | None
    streams: str | None
    conditions: str
    """Identity of what all methods must share."""
    variant: str
    """Identity of the method and the guidance with all their settings."""
    task_arguments: str
    """What makes the task, the budget and the backbone on the command line of ``grasp-bench run``."""
    method_arguments: str
    guidance_arguments: str
    cost: MeanCost | None


@dataclass(frozen=True)
class Runs:
    """Runs with the scores of their groups, one row a score."""

    summaries: tuple[RunSummary, ...]
    keys: tuple[ScoreKey, ...]
    run: np.ndarray
    """(scores,) index into ``summaries``, rising."""
    key: np.ndarray
    """(scores,) index into ``keys``."""
    value: np.ndarray
    """(scores,) float64; NaN where there are too few images."""
    n: np.ndarray
    """(scores,) images behind the value."""
    floor: np.ndarray
    """(scores,) float64; NaN where there is none."""

    def where(self, wanted: Callable[[RunSummary], bool]) -> Runs:
        """The runs that ``wanted`` is true of."""
        return self.at([index for index, summary in enumerate(self.summaries) if wanted(summary)])

    def at(self, indices: Sequence[int]) -> Runs:
        """The runs of ``indices``, in their order."""
        sizes = np.bincount(self.run, minlength=len(self.summaries))
        starts = np.cumsum(sizes) - sizes
        chosen = np.asarray(indices, dtype=np.int64)
        lengths = sizes[chosen]
        run = np.repeat(np.arange(len(chosen)), lengths)
        within = np.arange(len(run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self._with_scores(tuple(self.summaries[index] for index in indices), run, starts[chosen][run] + within)

    def of_metrics(self, names: Iterable[str]) -> Runs:
        """The same runs with the scores of some metrics alone."""
        wanted = {number for number, key in enumerate(self.keys) if key.name in set(names)}
        rows = np.flatnonzero(np.isin(self.key, list(wanted)))
        return self._with_scores(self.summaries, self.run[rows], rows)

    def _with_scores(self, summaries: tuple[RunSummary, ...], run: np.ndarray, rows: np.ndarray) -> Runs:
        return Runs(summaries, self.keys, run, self.key[rows], self.value[rows], self.n[rows], self.floor[rows])


def summarised(records: Iterable[RunRecord]) -> Runs:
    """Runs as their records tell, in the folders where a run leaves them."""
    return summarised_at((f"{each.task_label}/{each.label}/seed-{each.spec.seed}", each) for each in records)


def summarised_at(found: Iterable[tuple[str, RunRecord]]) -> Runs:
    """Runs as their records tell, each with its folder under the results; no record is kept."""
    summaries: list[RunSummary] = []
    keys: dict[ScoreKey, int] = {}
    run, key, n = array("q"), array("q"), array("q")
    value, floor = array("d"), array("d")
    for number, (folder, record) in enumerate(found):
        summaries.append(_summary(record, folder))
        titles = {score.place: label for label, each in titled(record.scores).items() for score in each}
        several = {score.metric for score in record.scores if score.source != "generated"}
        for metric in record.scores:
            if metric.scope == "group":
                source = f"_{metric.source}{'_balanced' * (metric.test_set != 'test')}"
                name = metric.metric + source * (metric.metric in several)
                called = ScoreKey(name, titles[metric.place], metric.group, metric.direction)
                run.append(number)
                key.append(keys.setdefault(called, len(keys)))
                value.append(nan if metric.value is None else metric.value)
                n.append(metric.n)
                floor.append(nan if metric.reference is None else metric.reference)
    return Runs(tuple(summaries), tuple(keys), *(np.array(each) for each in (run, key, value, n, floor)))


def joined(first: Runs, second: Runs) -> Runs:
    """The runs of both, those of ``first`` before the others."""
    numbers = {key: number for number, key in enumerate(first.keys)}
    moved = np.array([numbers.setdefault(key, len(numbers)) for key in second.keys], np.int64)
    return Runs(
        first.summaries + second.summaries,
        tuple(numbers),
        np.concatenate([first.run, second.run + len(first.summaries)]),
        np.concatenate([first.key, moved[second.key]]) if len(moved) else first.key,
        np.concatenate([first.value, second.value]),
        np.concatenate([first.n, second.n]),
        np.concatenate([first.floor, second.floor]),
    )


def _summary(record: RunRecord, folder: str) -> RunSummary:
    spec = record.spec
    return RunSummary(
        folder=folder,
        run_id=record.run_id,
        task_label=record.task_label,
        label=record.label,
        task=spec.task.name,
        task_version=spec.task.version,
        budget=spec.budget.name,
        backbone=spec.backbone.name,
        backbone_revision=spec.backbone.version,
        method=spec.method.name,
        guidance=spec.guidance.name,
        seed=spec.seed,
        status=record.status,
        reason=record.reason,
        streams=record.streams,
        conditions=_conditions(record),
        variant=digest([part.model_dump(mode="json") for part in (spec.method, spec.guidance)]),
        task_arguments=_task_arguments(record),
        method_arguments=_method_arguments(record),
        guidance_arguments=_guidance_arguments(record),
        cost=_cost(record.cost),
    )


def _conditions(record: RunRecord) -> str:
    parts = (record.spec.task, record.spec.backbone, record.spec.budget)
    protocol = {**record.protocol, "rules": record.rules}
    return digest([protocol, *(part.model_dump(mode="json") for part in parts)])


def _cost(cost: Cost | None) -> MeanCost | None:
    return MeanCost(*(getattr(cost, name) for name in COSTS)) if cost else None


def _task_arguments(record: RunRecord) -> str:
    spec = record.spec
    words = [] if spec.budget.name == STANDARD else ["--budget", spec.budget.name]
    if not record.default_backbone:
        words += ["--backbone", spec.backbone.name]
    return shlex.join(words + _named("--task-set", record.changed.get("task", {})))


def _method_arguments(record: RunRecord) -> str:
    words = ["--method", record.spec.method.name, *_named("--set", record.changed.get("method", {}))]
    return shlex.join([*words, "--tuned"] if record.tuned else words)


def _guidance_arguments(record: RunRecord) -> str:
    words = ["--guidance", record.spec.guidance.name]
    return shlex.join([*words, *_named("--guidance-set", record.changed.get("guidance", {}))])


def _named(option: str, settings: Mapping[str, JsonValue]) -> list[str]:
    """Settings as options of the command line."""
    return [word for name, value in settings.items() for word in (option, f"{name}={value}")]
