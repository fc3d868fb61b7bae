"""Leaderboards with the folders of the runs behind each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts.record import RunRecord
from grasp_bench.results.board import METRIC, PREFERRED_GROUP, ROW, Leaderboard
from grasp_bench.results.frame import frame_of
from grasp_bench.results.leaderboard import leaderboards
from grasp_bench.results.load import FoundRun
from grasp_bench.results.site.folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

MAIN = (
    *(("fd", "generated"), ("recall", "generated"), ("coverage", "generated"), ("vendi", "generated")),
    *(("irs_adjusted", "generated"), ("authenticity", "generated")),
    *(("accuracy", "generated"), ("accuracy", "topped-up")),
)
"""Metrics and sources that are drawn, and that a table starts with."""
DEFAULTS = {"source": "generated", "test_set": "test", "metric_version": "1", "extractor": ""}


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
    """One metric of a leaderboard, from one source and on one test set."""

    cells: pd.DataFrame
    """Cells of the leaderboard, by row and group."""
    references: dict[str, float]
    """Group → real reference; empty where the metric has none."""

    def _first(self, column: str) -> Any:
        return self.cells[column].iloc[0]

    @cached_property
    def place(self) -> dict[str, str]:
        """Metric, version, source, test set and extractor."""
        return {name: str(self._first(name)) for name in METRIC}

    @property
    def key(self) -> str:
        """Name of the metric within the page; a source, test set, version or extractor is part of it unless usual."""
        parts = [self.place["metric"], *(self.place[name] for name in DEFAULTS if self._unusual(name))]
        return ".".join(parts).replace(" ", "_")  # the page lists keys between blanks

    def _unusual(self, name: str) -> bool:
        return self.place[name] != DEFAULTS[name]

    @property
    def label(self) -> str:
        """Title of the metric."""
        return str(self._first("title"))

    @property
    def direction(self) -> str:
        """Which way is better: "lower" or "higher"."""
        return str(self._first("direction"))

    @cached_property
    def groups(self) -> list[str]:
        """Groups in order, all classes together last."""
        return sorted(dict.fromkeys(self.cells["group"]), key=lambda group: group == "all")

    @property
    def rarest(self) -> str:
        """The group that methods are ranked by: the tail, or else the last one."""
        return PREFERRED_GROUP if PREFERRED_GROUP in self.groups else self.groups[-1]

    def means(self) -> pd.Series[float]:
        """Return the means of the rarest group by row, the best first; rows without a value come last."""
        means = self.cells["mean"].unstack("group").reindex(columns=[self.rarest])[self.rarest].sort_index()
        return means.sort_values(ascending=self.direction == "lower", na_position="last", kind="stable")


@dataclass(frozen=True)
class Board:
    """A leaderboard and its runs."""

    table: Leaderboard
    runs: dict[str, list[Run]]
    """Label of a row → its runs by seed, those without scores too."""

    @cached_property
    def metrics(self) -> list[Metric]:
        """All metrics of the leaderboard."""
        found = []
        for cells in self.table.tables:
            real = self.table.references.merge(cells.iloc[:1][METRIC], on=METRIC)
            by_place = cells.assign(row=cells["label"], column=cells["group"]).set_index(["row", "column"])
            by_place.index.names = ["row", "group"]
            found.append(Metric(by_place, dict(zip(real["group"], real["reference"], strict=True))))
        return found

    @cached_property
    def main(self) -> list[Metric]:
        """The metrics that are drawn: those of :data:`MAIN` that there are, or else the first."""
        known: dict[tuple[str, str], list[Metric]] = {}
        for each in self.metrics:
            if each.place["test_set"] == "test":
                known.setdefault((each.place["metric"], each.place["source"]), []).append(each)
        return [each for name in MAIN for each in known.get(name, [])] or self.metrics[:1]

    @cached_property
    def rows(self) -> dict[str, dict[Any, Any]]:
        """Label → method, guidance, settings, and the search that chose some of them."""
        import pandas as pd

        found = pd.concat([self.table.costs[ROW], self.table.problems[ROW]]).fillna({"tuned": "", "settings": ""})
        return found.drop_duplicates("label").set_index("label").to_dict("index")  # type: ignore[return-value]

    @cached_property
    def costs(self) -> pd.DataFrame:
        """Mean costs by row, of rows with scores."""
        return self.table.costs.set_index("label")

    @cached_property
    def indices(self) -> dict[str, int]:
        """Label of a row with scores → its place, which decides on its colour in every chart."""
        return {label: number for number, label in enumerate(self.table.costs["label"])}

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
        for name in ("metric", "source", "test_set", "extractor"):
            found = found[found[name] == metric.place[name]] if len(found) else found
        return found

    def _joined(self, table: str) -> pd.DataFrame:
        import pandas as pd

        found = [getattr(run.files, table).assign(row=label) for label in self.indices for run in self.finished(label)]
        return pd.concat(filled) if (filled := [each for each in found if len(each)]) else pd.DataFrame()

    def finished(self, label: str) -> list[Run]:
        """Return the runs of a row that have scores."""
        return [run for run in self.runs[label] if run.finished]


def read_boards(runs: Sequence[FoundRun]) -> list[Board]:
    """Return every leaderboard of ``runs`` with its runs, by the label of the task."""
    if not runs:
        return []
    by_folder = {str(run.folder): run for run in runs}
    frame = frame_of((folder, run.record) for folder, run in by_folder.items())
    behind = frame.drop_duplicates("folder").sort_values("seed", kind="stable")
    groups = [each for _, each in behind.groupby(["task_label", "conditions"], observed=True)]
    return [_board(*each, by_folder) for each in zip(leaderboards(frame), groups, strict=True)]


def _board(table: Leaderboard, behind: pd.DataFrame, by_folder: dict[str, FoundRun]) -> Board:
    known = {*table.costs["label"], *table.problems["label"]}
    rows: dict[str, list[Run]] = {}
    for folder, label, variant in behind[["folder", "label", "variant"]].itertuples(index=False):
        run = Run(by_folder[folder], RunFolder(by_folder[folder].folder))
        named = label if label in known else f"{label} #{variant[:8]}"  # where two versions of a method share a label
        rows.setdefault(named, []).append(run)
    return Board(table, dict(sorted(rows.items())))
