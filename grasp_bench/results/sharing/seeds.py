"""How much scores differ between seeds of one specification: what a difference between two runs is measured by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.results.sharing.differences import scores_of

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3
"""Seeds of a specification from which their spread is known."""


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
