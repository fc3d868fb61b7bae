"""One column of a leaderboard, a metric in a group, as arrays, and what a statistical procedure finds in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from grasp_bench import plugins
from grasp_bench.contracts.primary import TAIL_FIDELITY_AND_COVERAGE, Primary
from grasp_bench.errors import UserError
from grasp_bench.results.board import COLUMN, Leaderboard, numbered

if TYPE_CHECKING:
    import pandas as pd

    from grasp_bench.stats import Blocks, Test

ALPHA = 0.05
Procedure = Literal["model", "permutation", "wilcoxon", "t"]


class Said(NamedTuple):
    """A procedure in words."""

    name: str
    omnibus: str
    """How it says that rows differ at all."""
    ranks: str
    differences: str


def _paired(name: str) -> Said:
    return Said(
        name,
        f"smallest p of all pairs, by the {name} and Holm's correction",
        f"Ranks: {name} over seeds, Holm-corrected over all pairs of rows; what no row is better than could be best.",
        f"p of the {name} over seeds, Holm-corrected over all rows of a primary metric; the interval is "
        "Student's of one difference alone.",
    )


PROCEDURES: dict[Procedure, Said] = {
    "model": Said(
        "model of methods and seeds",
        "F test of a model of methods and seeds",
        "Ranks: Tukey's or Holm's procedure over all pairs of rows; best: Hsu's comparison with the best; in a model "
        "of methods and seeds with moderated variances.",
        "Primary metrics: Dunnett's intervals and adjusted p, for all rows together, in a model of methods and seeds; "
        "p is of one difference alone by the variances of its two rows, and may be the larger of both.",
    ),
    "permutation": _paired("exact paired permutation test"),
    "wilcoxon": _paired("Wilcoxon signed-rank test of pairs"),
    "t": _paired("paired t test"),
}


@dataclass(frozen=True)
class Column:
    """The scores of one metric in one group, on the scale on which they are compared."""

    place: tuple[str, ...]
    """Values of :data:`~grasp_bench.results.board.COLUMN`."""
    title: str
    direction: str
    primary: bool
    scale: Literal["linear", "log"]
    every: dict[str, np.ndarray]
    """Label of a row → its scores (seeds,), NaN where a seed is missing."""

    @property
    def labels(self) -> list[str]:
        """Rows with enough seeds to be compared."""
        from grasp_bench.stats import FEWEST_SEEDS

        return [label for label, each in self.every.items() if np.isfinite(each).sum() >= FEWEST_SEEDS]

    @property
    def few(self) -> list[str]:
        """Rows with too few seeds."""
        known = set(self.labels)
        return [label for label in self.every if label not in known]

    @cached_property
    def model(self) -> Blocks | None:
        """The model of methods and seeds; None where too few rows share their seeds."""
        from grasp_bench.stats import NoSharedSeedsError, blocks

        try:
            return blocks(np.stack([self.every[label] for label in self.labels])) if len(self.labels) > 1 else None
        except NoSharedSeedsError:  # no two rows share two seeds
            return None


@dataclass(frozen=True)
class Judged:
    """What a procedure finds in a column."""

    line: dict[str, Any]
    rows: pd.DataFrame
    """:data:`~grasp_bench.results.board.COLUMN`, ``label``, ``rank_low``, ``rank_high`` and ``could_be_best``."""


def columns_of(board: Leaderboard) -> list[Column]:
    """Return the columns of generated and topped-up images that have a mean, in the order of the cells.

    A column is compared on the log scale where the task declares it so, and where the metric is a distance: less is
    better, 0 is the least and there is no most. A value of 0 leaves it on the linear one.
    """
    scores = board.compared_scores()
    scores = scores[scores["source"] != "real"]
    if not len(scores):
        return []
    primaries = declared(board.task)
    place = numbered(scores, COLUMN)
    titles = dict(zip(board.cells[COLUMN].itertuples(index=False, name=None), board.cells["title"], strict=True))
    found = []
    for number in range(place.max() + 1):
        each = scores[place == number]
        where: Any = tuple(each[COLUMN].iloc[0])
        table = each.astype({"label": str}).pivot(index="label", columns="seed", values="value")
        values = table.to_numpy(dtype=np.float64)
        chosen = primaries.get(where)
        log = chosen.scale == "log" if chosen else is_distance(where[0])
        log = log and bool((values[~np.isnan(values)] > 0).all())
        every = dict(zip(table.index, np.log(values) if log else values, strict=True))
        direction = str(each["direction"].iloc[0])
        found.append(Column(where, titles[where], direction, chosen is not None, "log" if log else "linear", every))
    order = {where: number for number, where in enumerate(dict.fromkeys(titles))}
    return sorted(found, key=lambda column: order[column.place])


def declared(task: str) -> dict[tuple[str, ...], Primary]:
    """Return place of a column → the primary metric that the task declares; the usual ones for a task of no plugin."""
    try:
        primaries = plugins.load("tasks", task).primary
    except UserError:
        primaries = TAIL_FIDELITY_AND_COVERAGE
    found: dict[tuple[str, ...], Primary] = {}
    for each in primaries:
        version = _metric(each.metric)[0]
        found[(each.metric, version, "generated", "test", "", each.group)] = each
    return found


def is_distance(metric: str) -> bool:
    """Return whether the metric is a distance: less is better, 0 is the least, and there is no most."""
    return _metric(metric)[1]


@lru_cache(maxsize=256)
def _metric(name: str) -> tuple[str, bool]:
    """Return the installed version of a metric and whether it is a distance; version 1 of one that is not installed."""
    try:
        metric = plugins.load("metrics", name)
    except UserError:
        return "1", False
    return metric.version, metric.direction == "lower" and metric.bounds == (0.0, math.inf)


def judge(column: Column, procedure: Procedure) -> Judged:
    """Return whether the rows of a column differ, and, where it is primary, their ranks and which could be best."""
    line = {
        **dict(zip(COLUMN, column.place, strict=True)),
        **{"title": column.title, "direction": column.direction, "primary": column.primary, "scale": column.scale},
        **{"methods": len(column.labels), "f_statistic": np.nan, "df_methods": np.nan, "df_error": np.nan, "p": np.nan},
        "words": "rows are not compared: they share too few seeds.",
    }
    ranks, best = np.full((len(column.labels), 2), np.nan), np.ones(len(column.labels), dtype=np.bool_)
    if procedure == "model" and column.model is not None:
        ranks, best = _by_model(column, column.model, line)
    elif procedure != "model":
        ranks, best = _by_pairs(column, procedure, line)
    return Judged(line, _rows(column, ranks, best))


def _rows(column: Column, ranks: np.ndarray, best: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    rows = pd.DataFrame({"label": column.labels, "rank_low": ranks[:, 0], "rank_high": ranks[:, 1]})
    return rows.assign(could_be_best=best, **dict(zip(COLUMN, column.place, strict=True)))


def _by_model(column: Column, model: Blocks, line: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    from grasp_bench.stats import all_pairs, could_be_best, rank_intervals

    line.update(f_statistic=model.f_statistic, df_methods=model.f_df[0], df_error=model.f_df[1], p=model.p)
    shown = f"F({model.f_df[0]:.1f}, {model.f_df[1]:.1f}) = {model.f_statistic:.2f}, p = {model.p:.2g}"
    line["words"] = f"rows {'differ' if model.p < ALPHA else 'are not shown to differ'} ({shown})."
    if not column.primary:
        return np.full((len(column.labels), 2), np.nan), np.ones(len(column.labels), dtype=np.bool_)
    lower = column.direction == "lower"
    ranks = rank_intervals(model.difference, all_pairs(model), lower=lower, alpha=ALPHA)
    return ranks, could_be_best(model, lower=lower, alpha=ALPHA)


def _by_pairs(column: Column, test: Test, line: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Judge by a paired test of every two rows, Holm-corrected over all pairs."""
    from grasp_bench.stats import FEWEST_SEEDS, holm, least_p, paired_difference, rank_intervals

    count = len(column.labels)
    difference, p = np.zeros((count, count)), np.full((count, count), np.nan)
    values = np.stack([column.every[label] for label in column.labels])
    there = ~np.isnan(values)
    shared = there.astype(np.int64) @ there.T.astype(np.int64)
    rows, others = np.nonzero(np.triu(shared >= FEWEST_SEEDS, 1))
    least = min((least_p(int(each), test) for each in shared[rows, others]), default=1.0) * len(rows)
    line["words"] = f"rows cannot differ: the least p of so many seeds and pairs is {min(1.0, least):.3g}."
    if len(rows) and least < ALPHA:
        found = [
            paired_difference(values[row][both].tolist(), values[other][both].tolist(), test)
            for row, other in zip(rows, others, strict=True)
            for both in [there[row] & there[other]]
        ]
        adjusted = holm([each.p for each in found])
        for row, other, one, each in zip(rows, others, found, adjusted, strict=True):
            difference[row, other], difference[other, row] = one.mean, -one.mean
            p[row, other] = p[other, row] = np.nan if each is None else each
        line["p"] = float(np.nanmin(p))
        differ = "differ" if line["p"] < ALPHA else "are not shown to differ"
        line["words"] = f"rows {differ} (smallest corrected p of all pairs: {line['p']:.2g})."
    ranks = rank_intervals(difference, p, lower=column.direction == "lower", alpha=ALPHA)
    return ranks, ranks[:, 0] == 1


def paired_pairs(column: Column, row: str, test: Test) -> dict[str, tuple[float, ...]]:
    """Return label → difference to ``row``, ends of Student's interval, p, and p Holm-corrected over all rows."""
    from grasp_bench.stats import holm, paired_difference

    theirs, found = column.every[row], {}
    for label, each in column.every.items():
        shared = ~(np.isnan(each) | np.isnan(theirs))
        if label != row and shared.any():
            found[label] = paired_difference(each[shared].tolist(), theirs[shared].tolist(), test)
    adjusted = holm([each.p for each in found.values()])
    return {
        label: tuple(np.nan if x is None else float(x) for x in (each.mean, each.low, each.high, each.p, corrected))
        for (label, each), corrected in zip(found.items(), adjusted, strict=True)
    }
