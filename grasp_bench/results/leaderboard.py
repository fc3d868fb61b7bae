"""From the frame of all runs to leaderboards: one row per method, means and intervals over its seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.results.board import COLUMN, METRIC, PREFERRED_GROUP, ROW, SHARED, Leaderboard
from grasp_bench.results.frame import COSTS
from grasp_bench.results.tiers import with_tiers

if TYPE_CHECKING:
    import pandas as pd

    from grasp_bench.stats import Test

WORDS = {"lower": "lowest", "higher": "highest"}


def leaderboards(frame: pd.DataFrame, test: Test = "permutation", sort: str | None = None) -> list[Leaderboard]:
    """Return one leaderboard for all runs of ``frame`` under equal conditions, sorted by the task's label.

    Tiers are found by ``test``. Rows are in the order of one score, the best first and those without it last:
    ``sort`` is METRIC or METRIC:GROUP, by default the first metric in the tail. Raises
    :class:`~grasp_bench.errors.UserError` for a score that no leaderboard has.
    """
    by_conditions = frame.groupby(["task_label", "conditions"], sort=True, observed=True)
    found = {(str(label), str(conditions)): _leaderboard(runs) for (label, conditions), runs in by_conditions}
    order = sorted(found)
    boards = _sorted_boards([with_tiers(found[key], test) for key in order], sort)
    alike = Counter(map(_heading, boards))
    return [
        replace(board, protocol=conditions[:8]) if alike[_heading(board)] > 1 else board
        for board, (_, conditions) in zip(boards, order, strict=True)
    ]


def sort_key(board: Leaderboard, metric: str = "", group: str = "") -> pd.DataFrame | None:
    """Return the cells, one per row, that rows are sorted by; None where the leaderboard does not have them."""
    table = next((each for each in board.tables if metric in ("", each["metric"].iloc[0])), None)
    if table is None:
        return None
    groups = list(dict.fromkeys(table["group"]))
    group = group or (PREFERRED_GROUP if PREFERRED_GROUP in groups else groups[-1])
    return table[table["group"] == group] if group in groups else None


def check_known(option: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise :class:`UserError` for the first of ``names`` that is not ``known``."""
    for name in names:
        if name not in known:
            raise UserError(
                f"{option} {name}: no run has it.{did_you_mean(name, known)} There are: {', '.join(known)}."
            )


def _heading(board: Leaderboard) -> tuple[str, ...]:
    return tuple(getattr(board, name) for name in SHARED)


def _leaderboard(frame: pd.DataFrame) -> Leaderboard:
    """The leaderboard of runs under equal conditions, rows sorted by their labels."""
    runs = frame.drop_duplicates("folder").astype(dict.fromkeys((*ROW, "variant", "streams", "reason"), object))
    runs = runs.assign(label=_labels(runs)).sort_values(["label", "seed"], kind="stable")
    finished = runs[runs["status"] == "finished"]
    problems = runs.loc[runs["status"] != "finished", [*ROW, "seed", "status", "reason"]]
    first = runs.iloc[0]
    rows = finished.groupby("label", sort=True)
    costs = rows[["method", "guidance", "settings", "tuned", "default_guidance"]].first()
    costs["seeds"] = rows["seed"].agg(tuple)
    costs["provisional"] = costs["seeds"].map(len) == 1
    means, known = rows[[*COSTS]].mean(), rows[[*COSTS]].count()
    costs[[*COSTS]] = means.where(known.eq(known.max(axis=1), axis=0))  # no mean of what some seed did not record
    costs = costs.reset_index()
    problems = problems.fillna({"reason": "no reason recorded"}).reset_index(drop=True)
    by_seed = runs[["label", "seed", "folder"]].reset_index(drop=True)
    heading: Any = {name: str(first[name]) for name in SHARED}
    cells, scores, references = _cells(frame, finished, costs)
    return Leaderboard(
        **heading,
        cells=cells,
        scores=scores,
        references=references,
        costs=costs,
        problems=problems,
        runs=by_seed,
        streams=_streams(finished),
    )


def _labels(runs: pd.DataFrame) -> pd.Series:
    """The label of every run's row; two versions of a method never share a row."""
    several = runs.groupby("label")["variant"].transform("nunique") > 1
    return runs["label"].where(~several, runs["label"] + " #" + runs["variant"].str[:8])


def _cells(
    frame: pd.DataFrame, finished: pd.DataFrame, rows: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The frames of scores: cells, scores and references."""
    import pandas as pd

    scores = frame[(frame["scope"] == "group") & frame["folder"].isin(finished["folder"])]
    order = pd.Series(range(len(finished)), index=finished["folder"])
    row = pd.Series(rows.index, index=rows["label"]).reindex(finished["label"]).to_numpy()
    run = scores["folder"].astype(object).map(order).to_numpy(dtype=np.int64)
    scores = scores.assign(run=run, row=row[run]).sort_values("run", kind="stable")
    names = scores[[*COLUMN, "title", "metric_label", "direction"]].drop_duplicates(COLUMN).astype(object)
    names = _in_order(names)
    column = scores.groupby(COLUMN, sort=False, observed=True).ngroup()
    places = pd.Series(range(len(names)), index=names.pop("number")).sort_index().to_numpy()
    scores = scores.assign(column=places[column.to_numpy()] if len(names) else column)
    scores = scores.sort_values(["column", "row", "run"], kind="stable")
    grouped = scores.groupby(["column", "row"], sort=True)
    cells = grouped.agg(
        deviation=("value", "std"),
        n_seeds=("seed", "size"),
        known=("value", "count"),
        n=("n", "min"),
        reference=("reference", "mean"),
    ).reset_index()
    starts = np.cumsum(cells["n_seeds"]) - cells["n_seeds"]  # pandas' mean sums otherwise, which tells ties apart
    sums = np.add.reduceat(scores["value"].to_numpy(), starts) if len(starts) else starts
    cells["mean"] = sums / cells["n_seeds"]
    return _tables(cells, scores, names, rows)


def _in_order(names: pd.DataFrame) -> pd.DataFrame:
    """The columns of all tables, metric by metric as they first come, with all classes as the last of their groups.

    ``number`` is the place of each before they are put in order.
    """
    names = names.assign(number=range(len(names)))
    metric = names.groupby(METRIC, sort=False).ngroup()
    order = np.lexsort((names["number"], names["group"] == "all", metric))
    return names.iloc[order].reset_index(drop=True)


def _tables(
    cells: pd.DataFrame, scores: pd.DataFrame, names: pd.DataFrame, rows: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    from grasp_bench.stats import half_width

    absent = cells["known"] < cells["n_seeds"]
    cells[["mean", "reference"]] = cells[["mean", "reference"]].mask(absent)
    half = half_width(cells["deviation"], cells["n_seeds"])
    cells["low"], cells["high"] = cells["mean"] - half, cells["mean"] + half
    lower = (names["direction"] == "lower").to_numpy(dtype=bool)[cells["column"]]
    signed = cells["mean"].where(~lower, -cells["mean"]).groupby(cells["column"])
    cells["best"] = (cells["mean"].where(~lower, -cells["mean"]) == signed.transform("max")) & (
        signed.transform("max") != signed.transform("min")
    )
    cells["tier"] = np.nan
    measures = cells[["mean", "low", "high", "n_seeds", "n", "reference", "best", "tier"]]
    what = names.iloc[cells["column"].to_numpy()].reset_index(drop=True)
    who = rows[[*ROW, "seeds", "provisional"]].iloc[cells["row"].to_numpy()].reset_index(drop=True)
    references = scores.groupby("column")["reference"].mean().dropna()
    real = names.iloc[references.index.to_numpy()][COLUMN].reset_index(drop=True)
    each = names.iloc[scores["column"].to_numpy()][[*COLUMN, "direction"]].reset_index(drop=True)
    each = each.assign(label=rows["label"].to_numpy()[scores["row"]])
    return (
        who.join(what).join(measures.astype({"n": "int64"})),
        each.assign(seed=scores["seed"].to_numpy(), value=scores["value"].to_numpy()),
        real.assign(reference=references.to_numpy()),
    )


def _streams(finished: pd.DataFrame) -> str:
    """Words on the hashes of what methods saw at the same seed; none where no two share a seed."""
    if not len(finished) or finished["seed"].value_counts().max() < 2:
        return ""
    other: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for _, runs in finished.groupby("seed", sort=False):
        streams = [
            (label, each if isinstance(each, str) and each else None)
            for label, each in zip(runs["label"], runs["streams"], strict=True)
        ]
        hashes = Counter(each for _, each in streams if each)
        usual = hashes.most_common(1)[0][0] if hashes else None
        unknown.update((label, None) for label, each in streams if not each)
        other.update((label, None) for label, each in streams if each and each != usual)
    said = []
    if other:
        said.append(
            f"Data order, noise or timesteps of {', '.join(other)} DIFFER from the other methods' at the same seed, as "
            "they do where a method resamples classes."
        )
    if unknown:
        said.append(f"No hash of data order, noise and timesteps is recorded for {', '.join(unknown)}.")
    same = "At each seed, data order, noise and timesteps were identical for all methods (by their hash)."
    return " ".join(said) or same


def _sorted_boards(boards: Sequence[Leaderboard], key: str | None) -> list[Leaderboard]:
    metric, _, group = (key or "").partition(":")
    if key:
        tables = [board.cells for board in boards]
        check_known(
            "--sort", [metric], list(dict.fromkeys(name for table in tables for name in table["metric"].unique()))
        )
        groups = dict.fromkeys(
            each for cells in tables for each in cells.loc[cells["metric"] == metric, "group"].unique()
        )
        if group:
            check_known("--sort", [f"{metric}:{group}"], [f"{metric}:{each}" for each in groups])
    return [_sorted(board, metric, group) for board in boards]


def _sorted(board: Leaderboard, metric: str, group: str) -> Leaderboard:
    import pandas as pd

    table = sort_key(board, metric, group)
    if table is None:
        return board
    direction, label, at = table[["direction", "title", "group"]].iloc[0]
    means = table.set_index("label")["mean"].reindex(sorted(board.costs["label"]))
    means = means.sort_values(ascending=direction == "lower", na_position="last", kind="stable")
    place = pd.Series(range(len(means)), index=means.index)
    metrics = board.cells.groupby(METRIC, sort=False).ngroup()
    order = np.lexsort((board.cells.index, board.cells["label"].map(place), metrics))
    words = f"{label}, {at}: {WORDS[direction]} first" if len(means) > 1 else ""
    costs = board.costs.set_index("label").loc[means.index].reset_index()
    return replace(
        board, cells=board.cells.iloc[order].reset_index(drop=True), costs=costs[board.costs.columns], sorted_by=words
    )
