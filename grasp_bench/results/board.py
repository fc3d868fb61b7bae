"""What a leaderboard holds: rows, cells and costs of the runs that may be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from grasp_bench.contracts.spec import Division

if TYPE_CHECKING:
    import pandas as pd

METRIC = ["metric", "metric_version", "source", "test_set", "extractor"]
"""Columns that tell one table of a leaderboard from another."""
COLUMN = [*METRIC, "group"]
"""Columns that tell one column of these tables from another."""
ROW = ["label", "method", "guidance", "settings", "tuned", "versions", "division"]
"""Columns that say what a row is; ``versions`` names those of method and guidance that are not the installed ones."""
SHARED = ["task_label", "task", "task_version", "budget", "backbone", "backbone_revision", "resolution", "caution"]
CLOSED: Division = "closed"
"""The division whose rows may be compared by tests."""
PREFERRED_GROUP = "tail"
"""Group that rows are sorted by where nothing else is said: the benchmark is about it."""


def numbered(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Return a number (rows,) for every combination of the columns ``names``, counted as they first come.

    The columns are categories without missing values. ``ngroup`` of pandas takes five times as long.
    """
    import pandas as pd

    codes = [frame[name].cat.codes for name in names]
    return pd.factorize(np.ravel_multi_index(codes, [len(frame[name].cat.categories) for name in names]))[0]


@dataclass(frozen=True)
class Leaderboard:
    """Every run that may be compared: the same task at the same version and settings, budget and backbone."""

    task_label: str
    task: str
    task_version: str
    budget: str
    backbone: str
    backbone_revision: str
    resolution: str
    """Pixels a side of the images, where the backbone has a choice."""
    caution: str
    """What headings say of a backbone that only shows that the code runs."""
    rules: str
    """Major.Minor of the fairness rules."""
    cells: pd.DataFrame
    """One row per method, metric and group, in the order in which they are shown: :data:`ROW`, ``seeds``,
    ``provisional``, :data:`COLUMN`, ``title``, ``metric_label``, ``direction``; ``mean`` (NaN where some seed has too
    few images), ``low``, ``high`` (95 % over seeds, from three on), ``n_seeds``, ``n`` (fewest images behind a seed's
    value), ``reference`` (mean over the method's seeds), ``scope`` ("class mean" where the metric has it) and ``best``;
    ``primary`` and, where it is, ``rank_low``, ``rank_high`` (best and worst rank that the row may have) and
    ``could_be_best``."""
    scores: pd.DataFrame
    """What the cells are the means of: ``label``, ``seed``, :data:`COLUMN`, ``direction``, ``value``."""
    references: pd.DataFrame
    """:data:`COLUMN` and ``reference``: mean of what held-out real images score, over all runs of the closed division
    where there are any, since the seeds of open runs are not those of the table."""
    costs: pd.DataFrame
    """One row per method with finished runs: :data:`ROW`, ``default_guidance``, ``declared`` (JSON; empty for closed
    rows), ``seeds`` (tuple), ``provisional``, ``family`` (the first label of the rows that sample the same trained
    weights) and mean costs, which open rows do not have."""
    problems: pd.DataFrame
    """One row per run without scores: :data:`ROW`, ``seed``, ``status``, ``reason``."""
    runs: pd.DataFrame
    """One row per run, with and without scores, by label and seed: ``label``, ``seed``, ``folder``."""
    streams: str = ""
    """Whether methods saw the same data order, noise and timesteps; empty where no seed has two methods."""
    parameters: int | None = None
    """The backbone's parameter budget; None where it names none."""
    sizes: str = ""
    """Which rows miss the backbone's parameter budget by more than a tenth, and by how much; empty: none."""
    judged: pd.DataFrame | None = None
    """One row per metric and group that is compared: :data:`COLUMN`, ``title``, ``direction``, ``primary``, ``scale``,
    ``methods`` (rows compared), ``f_statistic``, ``df_methods``, ``df_error``, ``p`` that all rows are alike, and
    ``p_adjusted``, for a false discovery rate where the metric is not primary; None without two rows."""
    said: tuple[str, ...] = ()
    """What the comparisons say, in sentences, or why there are none."""
    sorted_by: str = ""
    """What the rows are sorted by; empty: their labels."""
    protocol: str = ""
    """A hash of the versions that decide scores, where another leaderboard has all else alike; else empty."""

    @property
    def pixels(self) -> str:
        """The size of the images as headings have it; empty where the backbone has no choice."""
        return f"{self.resolution}×{self.resolution} pixels" if self.resolution else ""  # noqa: RUF001 # as it is written

    @property
    def open(self) -> pd.DataFrame:
        """The rows of the open division among the costs, with what is declared of them."""
        return self.costs[self.costs["division"] != CLOSED]

    @property
    def closed(self) -> pd.DataFrame:
        """The rows of the closed division among the costs: what may be compared."""
        return self.costs[self.costs["division"] == CLOSED]

    @property
    def mixed(self) -> bool:
        """Whether some closed rows sample the same trained weights while others do not.

        Their errors then go together beyond what a seed adds to all rows, which no model of methods and seeds has.
        """
        return 1 < self.closed["family"].nunique() < len(self.closed)

    @property
    def tables(self) -> list[pd.DataFrame]:
        """The cells of each metric, source and test set, in order."""
        return [table for _, table in self.cells.groupby(METRIC, sort=False, observed=True)]

    def sort_key(self, metric: str = "", group: str = "") -> pd.DataFrame | None:
        """Return the cells, one per row, that rows are sorted by; None where the leaderboard does not have them."""
        table = self.cells[self.cells["metric"] == metric] if metric else self.cells
        if not len(table):
            return None
        table = table[numbered(table, METRIC) == 0]
        groups = list(dict.fromkeys(table["group"]))
        group = group or (PREFERRED_GROUP if PREFERRED_GROUP in groups else groups[-1])
        return table[table["group"] == group] if group in groups else None

    def row_names(self) -> dict[str, str]:
        """Return label → a name as short as tells the row from the others: its method, guidance, settings.

        The guidance is named where rows of the method differ in it. What would name two rows is the label instead.
        """
        rows = self.costs[["method", "guidance", "settings"]].astype(str)
        several = rows.groupby("method")["guidance"].transform("nunique") > 1
        told = rows["guidance"].where(several, "").str.cat(rows["settings"], sep=", ").str.strip(", ")
        alone = ~rows["method"].duplicated(keep=False)
        long = rows["method"].where(alone | (told == ""), rows["method"] + " with " + told)
        names = long.where(~long.duplicated(keep=False), self.costs["label"].astype(str))
        return dict(zip(self.costs["label"], names, strict=True))

    def compared_scores(self) -> pd.DataFrame:
        """Return the scores of the closed division's methods that have a mean: what tests may compare.

        How open rows were trained and sampled is not controlled, so that no test can say what a difference comes from.
        """
        known = self.cells["mean"].notna() & (self.cells["division"] == CLOSED)
        if known.all():
            return self.scores
        return self.scores.merge(self.cells.loc[known, [*COLUMN, "label"]], on=[*COLUMN, "label"])
