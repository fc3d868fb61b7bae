"""From the frame of all runs to leaderboards: one row per method, means and intervals over its seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from grasp_bench.backbones.recipes import recorded
from grasp_bench.contracts.record import ENOUGH_SEEDS
from grasp_bench.contracts.task import GROUPS
from grasp_bench.results.board import CLOSED, COLUMN, METRIC, ROW, SHARED, Leaderboard, numbered
from grasp_bench.results.comparisons import compared
from grasp_bench.results.frame import COSTS
from grasp_bench.results.judging import Procedure
from grasp_bench.results.options import check_known
from grasp_bench.results.sizes import missed
from grasp_bench.results.versions import other_versions

if TYPE_CHECKING:
    import pandas as pd

CONDITIONS = ["task_label", "conditions"]
"""Columns that are equal in all runs of a leaderboard."""
SCORE = ("folder", "seed", *COLUMN, "title", "metric_label", "direction", "scope", "value", "n", "reference")
WORDS = {"lower": "lowest", "higher": "highest"}


def leaderboards(frame: pd.DataFrame, test: Procedure | None = "model", sort: str | None = None) -> list[Leaderboard]:
    """Return one leaderboard for all runs of ``frame`` under equal conditions, sorted by the task's label.

    Rows are compared by ``test``, or not at all where it is None. Metrics that have means over the classes of a group
    are shown as these. Rows are in the order of one score, the best first and those without it last: ``sort`` is METRIC
    or METRIC:GROUP, by default the first metric in the tail. Raises :class:`~grasp_bench.errors.UserError` for a score
    that no leaderboard has.
    """
    runs = frame.drop_duplicates([*CONDITIONS, "folder"])
    runs = runs.assign(versions=other_versions(runs))
    runs = runs.astype(dict.fromkeys((*ROW, "variant", "streams", "reason", "declared"), object))
    scores = _of_groups(frame)
    by_conditions: Any = runs.groupby(CONDITIONS, sort=True, observed=True)
    of_board = scores.groupby(CONDITIONS, observed=True).indices
    found = [(key[1], _leaderboard(each, scores.iloc[of_board.get(key, [])])) for key, each in by_conditions]
    if test is not None:
        found = [(conditions, compared(board, test)) for conditions, board in found]
    metric, _, group = (sort or "").partition(":")
    if sort:
        _check_sort([board.cells for _, board in found], metric, group)
    alike = Counter(_heading(board) for _, board in found)
    return [
        replace(_sorted(board, metric, group), protocol=shared[:8] if alike[_heading(board)] > 1 else "")
        for shared, board in found
    ]


def _of_groups(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of groups: means over classes where the metric has them under the same conditions.

    A group's images taken together count each of its classes as one part of a single mixture, and all classes together
    are scored on as many images as the smallest of them has.
    """
    scores = frame.loc[frame["scope"].isin(["group", "class mean"]), [*CONDITIONS, *SCORE]]
    if not len(scores):
        return scores
    place = numbered(scores, [*CONDITIONS, *METRIC])
    mean = (scores["scope"] == "class mean").to_numpy()
    has = np.zeros(place.max() + 1, dtype=np.bool_)
    has[place[mean & scores["value"].notna().to_numpy()]] = True
    kept: pd.DataFrame = scores[mean == has[place]]
    return kept


def _heading(board: Leaderboard) -> tuple[str, ...]:
    return tuple(getattr(board, name) for name in SHARED)


def _leaderboard(runs: pd.DataFrame, scores: pd.DataFrame) -> Leaderboard:
    """The leaderboard of runs under equal conditions and of their groups' scores, rows sorted by their labels."""
    runs = runs.assign(label=_labels(runs)).sort_values(["label", "seed"], kind="stable")
    heading: Any = {name: str(runs[name].iloc[0]) for name in SHARED}
    finished = runs[runs["status"] == "finished"]
    problems = runs.loc[runs["status"] != "finished", [*ROW, "seed", "status", "reason"]]
    rows = finished.groupby("label", sort=True)
    costs = rows[[*ROW[1:], "default_guidance", "declared"]].first()
    costs["seeds"] = rows["seed"].agg(tuple)
    costs["provisional"] = costs["seeds"].map(len) < ENOUGH_SEEDS
    costs["family"] = costs.index.map(_families(finished))
    means, known = rows[[*COSTS]].mean(), rows[[*COSTS]].count()
    means = means.where(known.eq(known.max(axis=1), axis=0))  # no mean of what some seed did not record
    costs = costs.join(means).reset_index()
    scores, names = _scores(scores, finished, costs)
    references = _of_closed(scores, costs).groupby("column")["reference"].mean().dropna()
    what = names[[*COLUMN, "direction"]].iloc[scores["column"]].reset_index(drop=True)
    board = Leaderboard(
        **heading,
        rules=str(runs["rules"].iloc[0]),
        parameters=recorded(heading["backbone"], str(runs["recipe"].iloc[0])).parameters,
        cells=_cells(scores, names, costs),
        scores=what.assign(
            label=costs["label"].to_numpy()[scores["row"]],
            seed=scores["seed"].to_numpy(),
            value=scores["value"].to_numpy(),
        ),
        references=names[COLUMN].iloc[references.index].assign(reference=references).reset_index(drop=True),
        costs=costs,
        problems=problems.fillna({"reason": "no reason recorded"}).reset_index(drop=True),
        runs=runs[["label", "seed", "folder"]].reset_index(drop=True),
    )
    named = board.row_names()
    return replace(
        board,
        sizes=missed(costs.assign(name=costs["label"].map(named.__getitem__)), board.parameters),
        streams=_streams(finished.assign(name=finished["label"].map(named.__getitem__))),
    )


def _families(finished: pd.DataFrame) -> dict[str, str]:
    """Return label → the first label of the rows that sample, at some seed, the same trained weights."""
    family = {label: label for label in finished["label"].unique()}
    trained = finished[finished["training"].notna() & (finished["training"] != "")]
    together = trained.groupby("training", observed=True)["label"].unique()
    for labels in together[together.map(len) > 1]:
        joined = {family[label] for label in labels}
        family = {label: min(joined) if first in joined else first for label, first in family.items()}
    return family


def _of_closed(scores: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The scores of rows of the closed division; all where there is none."""
    closed = (rows["division"] == CLOSED).to_numpy()
    return scores[closed[scores["row"]]] if closed.any() else scores


def _labels(runs: pd.DataFrame) -> pd.Series:
    """The label of every run's row; two versions of a method never share a row."""
    several = runs.groupby("label")["variant"].transform("nunique") > 1
    return runs["label"].where(~several, runs["label"] + " #" + runs["variant"].str[:8])


def _scores(scores: pd.DataFrame, finished: pd.DataFrame, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores of groups, by the numbers of their ``column`` and ``row``, and what each column is.

    Columns are in order metric by metric as they first come, and within each by group: the usual ones from head to
    tail, then others as they first come, then all classes.
    """
    import pandas as pd

    run_of = np.full(len(scores["folder"].cat.categories), -1)
    run_of[finished["folder"].cat.codes] = np.arange(len(finished))
    run = run_of[scores["folder"].cat.codes]
    row = pd.Index(rows["label"]).get_indexer(finished["label"])[run]
    scores = scores.assign(run=run, row=row)[run >= 0].sort_values("run", kind="stable")  # and so by row
    column = numbered(scores, COLUMN)
    first = np.unique(column, return_index=True)[1]
    names = scores.iloc[first][[*COLUMN, "title", "metric_label", "direction", "scope"]]
    place = names["group"].astype(str).map({**{name: at for at, name in enumerate(GROUPS, -len(GROUPS))}, "all": 1})
    order = np.lexsort((place.fillna(0), numbered(names, METRIC)))
    scores = scores.assign(column=np.argsort(order)[column]).sort_values("column", kind="stable")
    return scores, names.iloc[order].reset_index(drop=True)


def _cells(scores: pd.DataFrame, names: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    from grasp_bench.stats import half_width

    cells = (
        scores.groupby(["column", "row"], sort=True)
        .agg(
            deviation=("value", "std"),
            n_seeds=("seed", "size"),
            known=("value", "count"),
            n=("n", "min"),
            reference=("reference", "mean"),
        )
        .reset_index()
    )
    starts = np.cumsum(cells["n_seeds"]) - cells["n_seeds"]  # pandas' mean sums otherwise, which tells ties apart
    cells["mean"] = (np.add.reduceat(scores["value"].to_numpy(), starts) if len(starts) else starts) / cells["n_seeds"]
    cells[["mean", "reference"]] = cells[["mean", "reference"]].mask(cells["known"] < cells["n_seeds"])
    half = half_width(cells["deviation"], cells["n_seeds"])
    cells["low"], cells["high"] = cells["mean"] - half, cells["mean"] + half
    lower = (names["direction"] == "lower").to_numpy(dtype=bool)[cells["column"]]
    signed = cells["mean"].where(~lower, -cells["mean"])
    signed = signed.where((rows["division"] == CLOSED).to_numpy()[cells["row"]])
    best, worst = (signed.groupby(cells["column"]).transform(each) for each in ("max", "min"))
    cells["best"] = (signed == best) & (best != worst)
    measures = cells[["mean", "low", "high", "n_seeds", "n", "reference", "best"]].astype({"n": "int64"})
    measures = measures.assign(primary=False, rank_low=np.nan, rank_high=np.nan, could_be_best=np.nan)
    who = rows[[*ROW, "seeds", "provisional"]].iloc[cells["row"]].reset_index(drop=True)
    return who.join(names.iloc[cells["column"]].reset_index(drop=True)).join(measures)


def _streams(finished: pd.DataFrame) -> str:
    """Words on the hashes of what methods saw at the same seed; none where no two share a seed.

    ``finished`` has the ``name`` of every run's row.
    """
    finished = finished[finished["division"] == CLOSED]
    if not finished["seed"].duplicated().any():
        return ""
    known = finished["streams"].fillna("") != ""
    unknown, finished = finished[~known], finished[known]
    usual = finished.groupby("seed")["streams"].transform(lambda each: each.value_counts(sort=False).idxmax())
    other = finished[finished["streams"] != usual]
    said = []
    if len(other):
        said.append(
            f"Data order, noise or timesteps of {', '.join(other['name'].unique())} DIFFER from the other methods' at "
            "the same seed, as they do where a method resamples classes."
        )
    if len(unknown):
        names = ", ".join(unknown["name"].unique())
        said.append(f"No hash of data order, noise and timesteps is recorded for {names}.")
    same = "At each seed, data order, noise and timesteps were identical for all methods (by their hash)."
    return " ".join(said) or same


def _check_sort(tables: Sequence[pd.DataFrame], metric: str, group: str) -> None:
    metrics = dict.fromkeys(name for cells in tables for name in cells["metric"].unique())
    check_known("--sort", [metric], [*metrics])
    if group:
        groups = dict.fromkeys(
            each for cells in tables for each in cells.loc[cells["metric"] == metric, "group"].unique()
        )
        check_known("--sort", [f"{metric}:{group}"], [f"{metric}:{each}" for each in groups])


def _sorted(board: Leaderboard, metric: str, group: str) -> Leaderboard:
    import pandas as pd

    table = board.sort_key(metric, group)
    if table is None:
        return board
    direction, label, at = table[["direction", "title", "group"]].iloc[0]
    means = table.set_index("label")["mean"].reindex(sorted(board.costs["label"]))
    means = means.sort_values(ascending=direction == "lower", na_position="last", kind="stable")
    place = pd.Series(range(len(means)), index=means.index)
    order = np.lexsort((board.cells["label"].map(place), numbered(board.cells, METRIC)))
    cells = board.cells.iloc[order].reset_index(drop=True)
    costs = board.costs.iloc[np.argsort(board.costs["label"].map(place))].reset_index(drop=True)
    words = f"{label}, {at}: {WORDS[direction]} first" if len(means) > 1 else ""
    return replace(board, cells=cells, costs=costs, sorted_by=words)
