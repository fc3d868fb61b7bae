"""Leaderboards with the folders of the runs behind each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from grasp_bench.results.choose import sort_rows
from grasp_bench.results.load import FoundRun
from grasp_bench.results.site.folder import RunFolder
from grasp_bench.results.summary import RunSummary, summarised
from grasp_bench.results.table import Leaderboard, MetricTable, leaderboards

MAIN = (
    "fd",
    "recall",
    "coverage",
    "vendi",
    "irs_adjusted",
    "authenticity",
    "accuracy_generated",
    "accuracy_topped-up",
)
"""Metrics that are drawn, and that a table starts with."""
TAIL = "tail"


@dataclass(frozen=True)
class Run:
    """A run, and what lies beside its record."""

    found: FoundRun
    summary: RunSummary
    files: RunFolder

    @property
    def seed(self) -> int:
        """Of the run."""
        return self.found.record.spec.seed

    @property
    def finished(self) -> bool:
        """Whether it has scores."""
        return self.found.record.status == "finished"


@dataclass(frozen=True)
class Board:
    """A leaderboard and its runs."""

    table: Leaderboard
    runs: dict[str, list[Run]]
    """Label of the row → its runs by seed, those without scores too."""

    @cached_property
    def indices(self) -> dict[str, int]:
        """Label of a row with scores → its place, which decides on its colour in every chart."""
        return {row.label: number for number, row in enumerate(self.table.rows)}

    @cached_property
    def main(self) -> list[MetricTable]:
        """The metrics that are drawn: those of :data:`MAIN` that there are, or else the first."""
        known = {metric.name: metric for metric in self.table.metrics}
        return [known[name] for name in MAIN if name in known] or list(self.table.metrics[:1])

    def finished(self, label: str) -> list[Run]:
        """The runs with scores of a row."""
        return [run for run in self.runs[label] if run.finished]


def ranked(metric: MetricTable, group: str) -> list[str]:
    """The methods that have ``metric``, the best of ``group`` first; those without a value there come last."""
    sign = 1 if metric.direction == "lower" else -1

    def key(label: str) -> tuple[bool, float, str]:
        cell = metric.scores[label].get(group)
        return (cell is None or cell.mean is None, 0.0 if cell is None else sign * (cell.mean or 0.0), label)

    return sorted(metric.scores, key=key)


def rarest_group(metric: MetricTable) -> str:
    """The group that methods are ranked by: the tail, or else the last one."""
    return TAIL if TAIL in metric.groups else metric.groups[-1]


def read_boards(runs: Sequence[FoundRun]) -> list[Board]:
    """Every leaderboard of ``runs`` with its runs, by the task's label."""
    found = summarised(run.record for run in runs)
    groups: dict[tuple[str, str], list[tuple[FoundRun, RunSummary]]] = {}
    for run, summary in zip(runs, found.summaries, strict=True):
        groups.setdefault((summary.task_label, summary.conditions), []).append((run, summary))
    tables = sort_rows(leaderboards(found), None)  # all at once: they are told apart by what others are like
    return [_board(table, groups[key]) for table, key in zip(tables, sorted(groups), strict=True)]


def _board(table: Leaderboard, runs: Sequence[tuple[FoundRun, RunSummary]]) -> Board:
    known = {row.label for row in table.rows} | {problem.label for problem in table.problems}
    rows: dict[str, list[Run]] = {}
    for run, summary in sorted(runs, key=lambda pair: pair[1].seed):
        of_variant = f"{summary.label} #{summary.variant[:8]}"  # where two versions of a method share a label
        label = summary.label if summary.label in known else of_variant
        rows.setdefault(label, []).append(Run(run, summary, RunFolder(run.folder)))
    return Board(table, dict(sorted(rows.items())))
