"""How much scores differ between seeds of one specification: what a difference between two runs is measured by.

A task may draw a split and the rare classes by the seed. What other data change is then no part of what two runs on the
same data differ by: it is what the seeds do to rows of other methods as well, and is taken out by the model value = row
+ seed + error of :mod:`grasp_bench.stats.blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.places import resolved
from grasp_bench.results.frame import load_results
from grasp_bench.results.sharing.differences import PLACE, scores_of

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3
"""Seeds of a specification from which their spread is known, and rows from which that of seeds with other data is."""


def spread_beside(*paths: Path) -> pd.DataFrame:
    """Return the spread, indexed and with columns as that of :func:`seed_spread`, that the records beside runs show.

    The runs, whose records are ``paths``, are one that is compared with its rerun, or two that are compared. If their
    data are the same, so are those of the seeds that count. Where there are fewer than :data:`FEWEST` such seeds, those
    with data of their own are compared as :func:`error_spread` does, each run's with the rows of the results that it
    lies in; a run that lies in none has no such rows.
    """
    rows: dict[frozenset[str], tuple[list[RunRecord], Path | None]] = {}
    for path in paths:
        cell = seeds_beside(path)
        seeds = frozenset(each.run_id for each in cell)
        if seeds not in rows or rows[seeds][1] is None:
            rows[seeds] = cell, _results_of(path)
    cells = [cell for cell, _ in rows.values()]
    if len({_data(read_record(path)) for path in paths}) > 1:
        return seed_spread(cells)
    alike = [
        [each for each in cell if _data(each) == data] for cell in cells for data in dict.fromkeys(map(_data, cell))
    ]
    known = [(results, cell[0].run_id) for cell, results in rows.values() if results and len(cell) >= FEWEST]
    if not known or sum(len(group) - 1 for group in alike) >= FEWEST - 1:
        return seed_spread(alike)
    frames = {results: load_results(results) for results in dict.fromkeys(results for results, _ in known)}
    return error_spread([(frames[results], run_id) for results, run_id in known])


def _place(path: Path) -> Path:
    """Return the absolute path of a record. A linked folder keeps its name, by which results are found."""
    return resolved(path) if ".." in path.parts else path.absolute()


def _results_of(path: Path) -> Path | None:
    """Return the results folder of a record in TASK/METHOD/seed-N, by its own names of these; None for one elsewhere.

    What lies above folders of other names may be anything, such as the whole disk.
    """
    record, place = read_record(path), _place(path)
    names = (record.task_label, record.label, f"seed-{record.spec.seed}", RECORD_NAME)
    return place.parents[3] if place.parts[-4:] == names else None


def _data(record: RunRecord) -> str | None:
    """Return the hash of the split and classes that a run's data stage had."""
    return record.stages.get("prepare")


def seeds_beside(path: Path) -> list[RunRecord]:
    """Return the finished records of all seeds of the run whose record is ``path``, itself among them.

    Seeds are beside each other where runs write them, in ``seed-0`` and so on; a record elsewhere is alone.
    """
    record, folder = read_record(path), _place(path).parent
    if folder.name != f"seed-{record.spec.seed}":
        return [record]
    found = [read_record(each) for each in sorted(folder.parent.glob(f"seed-*/{RECORD_NAME}"))]
    spec = record.spec.model_copy(update={"seed": 0})
    same = [each for each in found if each.spec.model_copy(update={"seed": 0}) == spec and each.rules == record.rules]
    return [each for each in same if each.status == "finished"] or [record]


def seed_spread(cells: Sequence[Sequence[RunRecord]]) -> pd.DataFrame:
    """Return ``spread`` and ``freedom`` of every score, indexed by its place.

    ``spread`` is the standard deviation over seeds, pooled over the ``cells``, each of which holds the seeds of one
    specification; ``freedom`` are its degrees of freedom. Scores of fewer than :data:`FEWEST` seeds are left out. On
    the log scale (``log``) are distances: scores of which less is better and which are above 0 for all seeds.
    """
    import numpy as np
    import pandas as pd

    tables = [
        pd.concat([scores_of(record)[["value", "direction"]].assign(cell=number, seed=record.spec.seed)])
        for number, records in enumerate(cells)
        for record in records
    ]
    found = pd.concat(tables).dropna(subset="value")
    places = list(range(found.index.nlevels))
    lowest = found.groupby(level=places)["value"].transform("min")
    log = (found["direction"] == "lower") & (lowest > 0)
    found["value"] = np.where(log, np.log(found["value"].where(log, 1.0)), found["value"])
    found["log"] = log
    grouped = found.set_index("cell", append=True).groupby(level=[*places, len(places)])
    each = grouped.agg(squares=("value", "var"), freedom=("value", "size"), log=("log", "first"))
    each["freedom"] -= 1
    each["squares"] *= each["freedom"]
    total = each.groupby(level=places).agg(squares=("squares", "sum"), freedom=("freedom", "sum"), log=("log", "first"))
    total = total[total["freedom"] >= FEWEST - 1]
    return total.assign(spread=(total["squares"] / total["freedom"]) ** 0.5).drop(columns="squares")


def error_spread(runs: Sequence[tuple[pd.DataFrame, str]]) -> pd.DataFrame:
    """Return the spread of the rows of ``runs`` about what row and seed make of a score, as :func:`seed_spread`.

    Each run is the frame of the results that it is among and its ``run_id``. The model is of its row beside one row per
    other method under equal conditions and the same guidance; rows that share a training would hide its noise in what
    they take for the seed's. Two versions of a method are two rows, also in folders of one label. Variances are those
    of the model, shrunken over its rows, and their mean where there are several ``runs``. A score is left out where
    fewer than :data:`FEWEST` rows, the run's own among them, have it for as many of that row's seeds.
    """
    import pandas as pd

    found = [_errors(frame, run_id) for frame, run_id in runs]
    every = pd.concat([each for each in found if len(each)] or found)
    of_place = every.assign(part=every["variance"] ** 2 / every["freedom"]).groupby(level=PLACE, sort=False)
    total = of_place.agg(
        squares=("variance", "sum"), part=("part", "sum"), rows=("variance", "size"), log=("log", "all")
    )
    total = total[of_place["log"].nunique() == 1]
    freedom = (total["squares"] ** 2 / total["part"]).where(total["part"] > 0, 1.0)
    spread = (total["squares"] / total["rows"]) ** 0.5
    return total[["log"]].assign(freedom=freedom, spread=spread)


def _errors(frame: pd.DataFrame, run_id: str) -> pd.DataFrame:
    """Return ``variance``, ``freedom`` and ``log`` of one row's errors, by place."""
    import numpy as np
    import pandas as pd

    from grasp_bench.stats import blocks

    own = frame[frame["run_id"] == run_id].iloc[:1]
    there = frame["status"].eq("finished") & frame["metric"].notna()
    for name in ("task_label", "conditions", "guidance"):
        there &= frame[name].isin(own[name])
    mine = frame["label"].isin(own["label"]) & frame["variant"].isin(own["variant"])
    rows = frame[there & (mine | ~frame["method"].isin(own["method"]))]
    rows = rows.astype(dict.fromkeys([*PLACE, "label", "variant", "direction"], object))
    rows = rows.assign(row=rows["label"] + " #" + rows["variant"], own=mine)
    most = rows.assign(seeds=rows.groupby("row")["seed"].transform("nunique"))
    most = most.sort_values("seeds", ascending=False, kind="stable")
    first = most.drop_duplicates(["method", "method_version", "method_settings", "tuned"])["row"]
    found = {}
    for place, scores in rows[rows["row"].isin(first)].groupby(PLACE, sort=False):
        if not scores["own"].any():
            continue
        this = scores.loc[scores["own"], "row"].iloc[0]
        table = scores.pivot(index="row", columns="seed", values="value")
        table = table[(table.notna() & table.loc[this].notna()).sum(axis=1) >= FEWEST]
        if this not in table.index or len(table) < FEWEST:
            continue
        log = bool(scores["direction"].iloc[0] == "lower" and (scores["value"].dropna() > 0).all())
        model, at = blocks(np.log(table) if log else table), table.index.get_loc(this)
        found[place] = (model.variances[at], min(float(model.shrunken_df[at]), model.df), log)
    index = pd.MultiIndex.from_tuples(found, names=PLACE) if found else pd.MultiIndex.from_arrays([[]] * len(PLACE))
    return pd.DataFrame(list(found.values()), index.set_names(PLACE), ["variance", "freedom", "log"])


def apart(scores: pd.DataFrame, spread: pd.DataFrame) -> pd.Series[float]:
    """Return the difference of ``value_b`` and ``value_a`` over what two seeds differ by at most in 95 of 100 cases.

    That is Student's t of the spread over seeds, times its root of 2. Above 1 it is more than seeds explain; missing
    where the spread is not known or a value is missing.
    """
    import numpy as np
    from scipy.stats import t

    known = spread.reindex(scores.index)
    a, b = scores["value_a"], scores["value_b"]
    log = known["log"].eq(True) & (a > 0) & (b > 0)
    difference = np.where(log, np.log(b.where(log, 1.0) / a.where(log, 1.0)), b - a)
    limit = t.ppf(0.975, known["freedom"]) * known["spread"] * math.sqrt(2)
    ratio = np.abs(difference) / limit.where(limit > 0)
    found: pd.Series[float] = ratio.mask((limit == 0) & (a != b), math.inf).mask((limit == 0) & (a == b), 0.0)
    return found.rename("apart")
