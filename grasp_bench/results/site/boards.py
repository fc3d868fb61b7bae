"""Leaderboards with the folders of the runs behind each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from grasp_bench.contracts.record import RunRecord
from grasp_bench.results.frame import COSTS, frame_of
from grasp_bench.results.leaderboard import METRIC, Leaderboard, leaderboards
from grasp_bench.results.load import FoundRun
from grasp_bench.results.site.folder import RunFolder

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
    """Metric, with source and test set where it has several, as in "accuracy_generated"."""
    key: tuple[str, str, str]
    """Metric, source and test set."""
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
        return [_metric(self.table, each) for each in self.table.tables]

    @cached_property
    def main(self) -> list[Metric]:
        """The metrics that are drawn: those of :data:`MAIN` that there are, or else the first."""
        known = {metric.name: metric for metric in self.metrics}
        return [known[name] for name in MAIN if name in known] or self.metrics[:1]

    @cached_property
    def indices(self) -> dict[str, int]:
        """Label of a row with scores → its place, which decides on its colour in every chart."""
        return {label: number for number, label in enumerate(self.table.costs["label"])}

    @cached_property
    def costs(self) -> pd.DataFrame:
        """Mean costs by row, of rows whose runs recorded them."""
        return self.table.costs.set_index("label")[[*COSTS]].dropna(how="all")

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
        return found[(found[["metric", "source", "test_set"]] == list(metric.key)).all(axis=1)]

    def _joined(self, table: str) -> pd.DataFrame:
        import pandas as pd

        found = [getattr(run.files, table).assign(row=label) for label in self.indices for run in self.finished(label)]
        return pd.concat(filled) if (filled := [each for each in found if len(each)]) else pd.DataFrame()

    def finished(self, label: str) -> list[Run]:
        """Return the runs of a row that have scores."""
        return [run for run in self.runs[label] if run.finished]


def read_boards(runs: Sequence[FoundRun]) -> list[Board]:
    """Return every leaderboard of ``runs`` with its runs, by the label of the task."""
    by_folder = {str(run.folder): run for run in runs}
    frame = frame_of((folder, run.record) for folder, run in by_folder.items())
    return [_board(table, by_folder) for table in leaderboards(frame)]


def _board(table: Leaderboard, by_folder: Mapping[str, FoundRun]) -> Board:
    rows: dict[str, list[Run]] = {}
    for label, folder in zip(table.runs["label"], table.runs["folder"], strict=True):
        run = by_folder[folder]
        rows.setdefault(label, []).append(Run(run, RunFolder(run.folder)))
    return Board(table, rows)


def _metric(board: Leaderboard, table: pd.DataFrame) -> Metric:
    first = table.iloc[0]
    metric, source, test_set = first["metric"], first["source"], first["test_set"]
    name = metric if first["title"] == first["metric_label"] else f"{metric}_{source}"
    references = board.references.merge(table.iloc[:1][METRIC], on=METRIC)
    return Metric(
        name + "_balanced" * (test_set != "test"),
        (metric, source, test_set),
        first["title"],
        first["direction"],
        tuple(dict.fromkeys(table["group"])),
        dict(zip(references["group"], references["reference"], strict=True)),
        table.rename(columns={"label": "row"}).set_index(["row", "group"]),
    )
