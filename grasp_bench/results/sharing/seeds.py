"""How much scores differ between seeds of one specification: what a difference between two runs is measured by.

A task may draw a split and the rare classes by the seed. What other data change is then no part of what two runs on the
same data differ by: it is what the seeds do to rows of other methods as well, and is taken out by the model value = row
+ seed + error of :mod:`grasp_bench.stats.blocks`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.results.frame import load_results
from grasp_bench.results.sharing.differences import PLACE, scores_of

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3
"""Seeds of a specification from which their spread is known, and rows from which that of seeds with other data is."""


def spread_beside(*paths: Path) -> pd.DataFrame:
    """Return the spread, as :func:`seed_spread` does, that the records beside the runs in ``paths`` show.

    The runs are one that is compared with its rerun, or two that are compared. If their data are the same, so are those
    of the seeds that count, as :func:`spread_by_data` says.
    """
    records, cells = [read_record(path) for path in paths], [seeds_beside(path) for path in paths]
    if len(cells) > 1 and {each.run_id for each in cells[0]} == {each.run_id for each in cells[1]}:
        cells = cells[:1]
    if len({_data(record) for record in records}) > 1:
        return seed_spread(cells)
    return spread_by_data(cells, lambda: load_results(paths[0].parents[3]))


def spread_by_data(cells: Sequence[Sequence[RunRecord]], results: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return the spread between runs on the same data, indexed and with columns as that of :func:`seed_spread`.

    It is that of seeds with the same data, if the ``cells`` have enough of them. Seeds with data of their own are
    compared as :func:`error_spread` does, with the frame of all ``results``, which is read only then.
    """
    alike = [[each for each in cell if _data(each) == data] for cell in cells for data in {_data(one) for one in cell}]
    few = sum(len(group) - 1 for group in alike) < FEWEST - 1
    known = [cell[0].run_id for cell in cells if len(cell) >= FEWEST]
    return error_spread(results(), known) if few and known else seed_spread(alike)


def _data(record: RunRecord) -> str | None:
    """Return the hash of the split and classes that a run's data stage had."""
    return record.stages.get("prepare")


def seeds_beside(path: Path) -> list[RunRecord]:
    """Return the finished records of all seeds of the run whose record is ``path``, itself among them.

    Seeds are beside each other where runs write them, in ``seed-0`` and so on; a record elsewhere is alone.
    """
    record = read_record(path)
    if path.parent.name != f"seed-{record.spec.seed}":
        return [record]
    found = [read_record(each) for each in sorted(path.parent.parent.glob(f"seed-*/{RECORD_NAME}"))]
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


def error_spread(frame: pd.DataFrame, run_ids: Sequence[str]) -> pd.DataFrame:
    """Return the spread of the rows of ``run_ids`` about what row and seed make of a score, as :func:`seed_spread`.

    ``frame`` are all runs. The model is of each of these rows beside one row per other method under equal conditions
    and the same guidance; rows that share a training would hide its noise in what they take for the seed's. Variances
    are those of the model, shrunken over its rows, and their mean where there are several ``run_ids``. A score of fewer
    than :data:`FEWEST` rows of as many seeds is left out.
    """
    import pandas as pd

    found = [_errors(frame, run_id) for run_id in run_ids]
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
    of_row = ["method", "method_version", "method_settings", "tuned"]
    rows = frame[there & (frame["label"].isin(own["label"]) | ~frame["method"].isin(own["method"]))]
    first = rows.drop_duplicates(of_row)["label"]
    rows = rows[rows["label"].isin([*own["label"], *first])].astype(
        dict.fromkeys([*PLACE, "label", "direction"], object)
    )
    found = {}
    for place, scores in rows.groupby(PLACE, sort=False):
        table = scores.pivot(index="label", columns="seed", values="value")
        table = table[table.notna().sum(axis=1) >= FEWEST]
        log = bool(scores["direction"].iloc[0] == "lower" and (scores["value"].dropna() > 0).all())
        with contextlib.suppress(ValueError, KeyError):  # too few seeds, of these rows or of this one
            at = table.index.get_loc(own["label"].iloc[0])
            if len(table) >= FEWEST:
                model = blocks(np.log(table) if log else table)
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
