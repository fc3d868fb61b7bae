"""Leaderboards with the folders of the runs behind each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from grasp_bench.contracts.record import RunRecord
from grasp_bench.results.choose import sort_rows
from grasp_bench.results.load import FoundRun
from grasp_bench.results.site.folder import RunFolder
from grasp_bench.results.summary import RunSummary, summarised
from grasp_bench.results.table import Leaderboard, MetricTable, leaderboards

if TYPE_CHECKING:
    import pandas as pd

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
    """A run and the files beside its record."""

    found: FoundRun
    files: RunFolder

    @property
    def record(self) -> RunRecord:
        """Record of the run."""
        return self.found.record

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.record.spec.seed

    @property
    def finished(self) -> bool:
        """Whether the run has scores."""
        return self.record.status == "finished"


@dataclass(frozen=True)
class Metric:
    """One metric of a leaderboard."""

    name: str
    label: str
    direction: Literal["lower", "higher"]
    groups: tuple[str, ...]
    references: dict[str, float]
    """Group → real reference; empty where the metric has none."""
    cells: pd.DataFrame
    """Mean over seeds, interval, counts, tier and best, by row and group; the mean is NaN where n is too small."""

    @property
    def rarest(self) -> str:
        """The group that methods are ranked by: the tail, or else the last one."""
        return TAIL if TAIL in self.groups else self.groups[-1]

    def ranked(self) -> list[str]:
        """Return the rows that have the metric, the best of the rarest group first; those without a value come last."""
        means = self.cells["mean"].unstack("group").reindex(columns=[self.rarest]).sort_index()
        lower = self.direction == "lower"
        return list(means.sort_values(self.rarest, ascending=lower, na_position="last", kind="stable").index)


@dataclass(frozen=True)
class Board:
    """A leaderboard and its runs."""

    table: Leaderboard
    runs: dict[str, list[Run]]
    """Label of a row → its runs by seed, those without scores too."""

    @cached_property
    def metrics(self) -> list[Metric]:
        """All metrics of the leaderboard."""
        return [_metric(each) for each in self.table.metrics]

    @cached_property
    def main(self) -> list[Metric]:
        """The metrics that are drawn: those of :data:`MAIN` that there are, or else the first."""
        known = {metric.name: metric for metric in self.metrics}
        return [known[name] for name in MAIN if name in known] or self.metrics[:1]

    @cached_property
    def indices(self) -> dict[str, int]:
        """Label of a row with scores → its place, which decides on its colour in every chart."""
        return {row.label: number for number, row in enumerate(self.table.rows)}

    @cached_property
    def costs(self) -> pd.DataFrame:
        """Mean costs by row, of rows whose runs recorded them."""
        import pandas as pd

        return pd.DataFrame.from_dict({row.label: asdict(row.cost) for row in self.table.rows if row.cost}, "index")

    @cached_property
    def losses(self) -> pd.DataFrame:
        """Rows of the training logs of all finished runs, with the label of the row as ``row``."""
        return self._joined("log")

    @cached_property
    def _class_scores(self) -> pd.DataFrame:
        return self._joined("classes")

    def classes(self, metric: Metric) -> pd.DataFrame:
        """Return the scores of single classes in ``metric`` of all finished runs."""
        found = self._class_scores
        if found.empty:
            return found
        suffix = "_" + found["source"] + found["test_set"].map({"test": "", "balanced-test": "_balanced"})
        return found[(found["metric"] == metric.name) | (found["metric"] + suffix == metric.name)]

    def _joined(self, table: str) -> pd.DataFrame:
        import pandas as pd

        found = [getattr(run.files, table).assign(row=label) for label in self.indices for run in self.finished(label)]
        return pd.concat(filled) if (filled := [each for each in found if len(each)]) else pd.DataFrame()

    def finished(self, label: str) -> list[Run]:
        """Return the runs of a row that have scores."""
        return [run for run in self.runs[label] if run.finished]


def read_boards(runs: Sequence[FoundRun]) -> list[Board]:
    """Return every leaderboard of ``runs`` with its runs, by the label of the task."""
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
        rows.setdefault(label, []).append(Run(run, RunFolder(run.folder)))
    return Board(table, dict(sorted(rows.items())))


def _metric(table: MetricTable) -> Metric:
    import pandas as pd

    cells = {(row, group): vars(cell) for row, scores in table.scores.items() for group, cell in scores.items()}
    frame = pd.DataFrame.from_dict(cells, "index").astype({"mean": float, "low": float, "high": float})
    frame.index = pd.MultiIndex.from_tuples(cells, names=["row", "group"])
    return Metric(table.name, table.label, table.direction, table.groups, table.floors, frame)
