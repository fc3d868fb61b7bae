"""Leaderboards with the folders of the runs behind each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts.record import RunRecord
from grasp_bench.results.board import COLUMN, METRIC, PREFERRED_GROUP, ROW, Leaderboard
from grasp_bench.results.comparisons import baseline_rows
from grasp_bench.results.frame import frame_of
from grasp_bench.results.leaderboard import leaderboards
from grasp_bench.results.load import FoundRun
from grasp_bench.results.options import Options
from grasp_bench.results.rows import one_per_method
from grasp_bench.results.site.folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

MAIN = (
    *(("fd", "generated"), ("recall", "generated"), ("coverage", "generated"), ("vendi", "generated")),
    *(("irs_adjusted", "generated"), ("authenticity", "generated")),
    *(("accuracy", "generated"), ("accuracy", "topped-up")),
)
"""Metrics and sources that are drawn, and that a table starts with."""
OF_SETS = {"accuracy": "average_precision"}
"""Metric → the one in its place where images may have several labels."""
BASELINE = "vanilla-ft"
"""Method that others are compared with where nothing else is said: full fine-tuning."""
JUDGED = ["primary", "rank_low", "rank_high", "could_be_best", "best"]
HIGHLIGHTED = 6  # methods that charts show in colour at first
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
    every: Leaderboard
    """All rows, of which ``table`` has one per method; only those of ``table`` have ranks."""
    runs: dict[str, list[Run]]
    """Label of a row → its runs by seed, those without scores too."""
    baseline: str | None = None
    """Label of the row that others are compared with at first; None where no row of the closed division has scores."""

    @property
    def all_rows(self) -> Board:
        """The board with all rows."""
        return replace(self, table=self.every)

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
        """The metrics that are drawn: those of :data:`MAIN`, or what stands for them, or else the first."""
        known: dict[tuple[str, str], list[Metric]] = {}
        for each in self.metrics:
            if each.place["test_set"] == "test":
                known.setdefault((each.place["metric"], each.place["source"]), []).append(each)
        drawn = (known.get((name, of)) or known.get((OF_SETS.get(name, name), of), []) for name, of in MAIN)
        return [each for some in drawn for each in some] or self.metrics[:1]

    @cached_property
    def rows(self) -> dict[str, dict[Any, Any]]:
        """Label → method, guidance, settings, and the search that chose some of them."""
        import pandas as pd

        found = pd.concat([self.every.costs[ROW], self.every.problems[ROW]]).fillna({"tuned": "", "settings": ""})
        return found.drop_duplicates("label").set_index("label").to_dict("index")  # type: ignore[return-value]

    @cached_property
    def settings(self) -> dict[str, str]:
        """Label → settings that are not the defaults, with the search that chose some of them."""
        found = {}
        for label, row in self.rows.items():
            variant = label.partition(" #")[2]  # of two versions of a method
            tuned = f"tuned={row['tuned']}" if row["tuned"] else ""
            parts = [tuned, row["settings"], row["versions"], f"#{variant}" if variant else ""]
            found[label] = ", ".join(filter(None, parts))
        return found

    @cached_property
    def names(self) -> dict[str, str]:
        """Label → name of the row: as short as it can be for those of ``table``, else method, guidance and settings.

        What would name two rows has the label too.
        """
        parts = {label: (row["method"], row["guidance"], self.settings[label]) for label, row in self.rows.items()}
        names = {label: " · ".join(filter(None, each)) for label, each in parts.items()}
        count = Counter(names.values())
        long = {label: name if count[name] == 1 else f"{name} ({label})" for label, name in names.items()}
        return long | self.table.row_names()

    @cached_property
    def highlighted(self) -> list[str]:
        """Rows in colour at first: the best row of each of the best methods, and the baseline."""
        if not self.main:
            return []
        best: dict[str, str] = {}
        for label in map(str, self.main[0].means().index):
            best.setdefault(self.rows[label]["method"], label)
        shown = [*best.values()][:HIGHLIGHTED]
        return list(dict.fromkeys([*shown, *(label for label in self.indices if label == self.baseline)]))

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
        """Rows of the training logs of all finished runs, with the label of the row as ``series``."""
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

        runs = [(label, run) for label in self.indices for run in self.finished(label)]
        found = [getattr(run.files, table).assign(series=label) for label, run in runs]
        return pd.concat(filled) if (filled := [each for each in found if len(each)]) else pd.DataFrame()

    def finished(self, label: str) -> list[Run]:
        """Return the runs of a row that have scores."""
        return [run for run in self.runs[label] if run.finished]


def read_boards(runs: Sequence[FoundRun], baseline: str | None = None) -> list[Board]:
    """Return every leaderboard of ``runs`` with its runs, by the label of the task.

    ``baseline`` names a row, by default full fine-tuning; raises :class:`UserError` if no leaderboard has it.
    """
    if not runs:
        return []
    by_folder = {str(run.folder): run for run in runs}
    frame = frame_of((folder, run.record) for folder, run in by_folder.items())
    behind = frame.drop_duplicates("folder").sort_values("seed", kind="stable")
    groups = [each for _, each in behind.groupby(["task_label", "conditions"], observed=True)]
    every = leaderboards(frame, None)
    tables = leaderboards(one_per_method(frame, Options(method=[baseline] if baseline else [])))
    rows = baseline_rows(tables, baseline) if baseline else [_usual_baseline(table) for table in tables]
    each = zip(tables, every, groups, rows, strict=True)
    return [_board(table, whole, found, by_folder, row) for table, whole, found, row in each]


def _usual_baseline(table: Leaderboard) -> str | None:
    """Return the row of full fine-tuning, or else the first of the closed division."""
    rows = table.closed
    labels = [*rows.loc[rows["method"] == BASELINE, "label"], *rows["label"]]
    return str(labels[0]) if labels else None


def _board(
    table: Leaderboard, every: Leaderboard, behind: pd.DataFrame, by_folder: dict[str, FoundRun], baseline: str | None
) -> Board:
    known = {*every.costs["label"], *every.problems["label"]}
    rows: dict[str, list[Run]] = {}
    for folder, label, variant in behind[["folder", "label", "variant"]].itertuples(index=False):
        run = Run(by_folder[folder], RunFolder(by_folder[folder].folder))
        named = label if label in known else f"{label} #{variant[:8]}"  # where two versions of a method share a label
        rows.setdefault(named, []).append(run)
    return Board(table, _with_ranks(every, table), dict(sorted(rows.items())), baseline)


def _with_ranks(every: Leaderboard, table: Leaderboard) -> Leaderboard:
    """Return all rows, the table's with its ranks and best means, and its real references where it has them."""
    import pandas as pd

    place = [*COLUMN, "label"]
    cells = every.cells.drop(columns=JUDGED).astype(dict.fromkeys(place, str))
    judged = table.cells[[*place, *JUDGED]].astype(
        dict.fromkeys(place, str) | dict.fromkeys(("primary", "best"), object)
    )
    cells = cells.merge(judged, on=place, how="left")
    for name in ("primary", "best"):
        cells[name] = cells[name].eq(True)
    references = pd.concat([each.references.astype(dict.fromkeys(COLUMN, str)) for each in (table, every)])
    return replace(every, cells=cells, references=references.drop_duplicates(COLUMN, ignore_index=True))
