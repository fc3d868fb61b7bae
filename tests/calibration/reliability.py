"""How reliably each score tells methods apart, of the recorded runs of digits-lt.

``PYTHONPATH=tests python -m calibration.reliability`` writes a table for each edition of the rules into
docs/statistics.md: of methods at their tuned settings with all of its seeds. Where some of them failed, which alone
makes methods differ, one without these is beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import f

from grasp_bench.results.frame import load_results
from grasp_bench.results.grids import MINUS
from grasp_bench.results.judging import is_distance
from grasp_bench.results.options import Options
from grasp_bench.results.rows import one_per_method

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "statistics.md"
BETWEEN = re.compile(r"(?<=<!-- reliability -->\n).*?(?=<!-- end -->)", re.DOTALL)
TASK = "digits-lt"
PLACES = {
    "tail, mean of classes": ("tail", "class mean"),
    "tail, pooled": ("tail", "group"),
    "head, mean of classes": ("head", "class mean"),
    "all, mean of classes": ("all", "class mean"),
}
"""Column of the table → group and scope; scores of classifiers have one scope, "group"."""


class Edition(NamedTuple):
    """Records of one edition of the rules."""

    results: Path
    seeds: int
    told: str


EDITIONS = {
    "1.0": Edition(ROOT / "results" / "archive", 5, "of one split"),
    "2.0": Edition(ROOT / "results", 10, "on five splits, with classes in other orders"),
}
"""Major.Minor of the rules → its records."""
BASELINE = "vanilla-ft"
TIE = 1e-9
"""Correlations are as large as another that are so little smaller."""
FAILED = 2.0
"""A method failed whose mean tail FD is more than so many times that of the baseline."""


@dataclass(frozen=True)
class Reliability:
    """The share of a score's variance over methods and seeds that is due to methods, and its 95 % interval."""

    icc: float
    """Intraclass correlation of one seed, for consistency: ICC(3, 1) of Shrout and Fleiss 1979."""
    low: float
    high: float
    of_mean: float
    """Reliability of the mean over the seeds: ICC(3, k), Cronbach's alpha; below 0 where methods differ less than by
    chance."""


def reliability(values: np.ndarray, alpha: float = 0.05) -> Reliability:
    """Return the reliability of complete scores (methods, seeds) by the mean squares of methods and of residuals.

    Shrout and Fleiss, Intraclass correlations: uses in assessing rater reliability, Psychological Bulletin 86, 1979:
    methods are their targets and seeds their judges, whose own effects do not count.
    """
    k, n = values.shape
    methods = values.mean(axis=1)
    residuals = values - methods[:, None] - values.mean(axis=0) + values.mean()
    between, error = n * methods.var(ddof=1), (residuals**2).sum() / ((k - 1) * (n - 1))
    ratio, df = between / error, ((k - 1), (k - 1) * (n - 1))
    low, high = ratio / f.isf(alpha / 2, *df), ratio * f.isf(alpha / 2, *df[::-1])
    icc, low, high = ((each - 1) / (each + n - 1) for each in (ratio, low, high))
    return Reliability(float(icc), float(low), float(high), float(1 - 1 / ratio))


def rows(rules: str) -> pd.DataFrame:
    """The scores of one row per method that has all seeds, under the rules and of the task that are analysed."""
    results, wanted, _ = EDITIONS[rules]
    frame = load_results(results)
    frame = frame[(frame["rules"] == rules) & (frame["task_label"] == TASK) & (frame["status"] == "finished")]
    frame = one_per_method(frame[frame["metric"].notna()], Options())
    seeds = frame.groupby("label", observed=True)["seed"].transform("nunique")
    return frame[(seeds == wanted) & (frame["source"] != "real") & (frame["extractor"] == "")]


def failed(frame: pd.DataFrame) -> list[str]:
    """The methods of the scores that failed, sorted."""
    fd = frame[(frame["metric"] == "fd") & (frame["group"] == "tail") & (frame["scope"] == "class mean")]
    means = fd.astype({"method": str}).groupby("method")["value"].mean()
    return sorted(means.index[means > FAILED * means[BASELINE]])


def table(rules: str, without: Sequence[str] = ()) -> str:
    """The reliability of every metric in every place as Markdown, of all methods but those named."""
    frame, edition = rows(rules), EDITIONS[rules]
    frame = frame[~frame["method"].isin(without)]
    methods = frame["method"].nunique()
    but = f" ({' and '.join(f'`{each}`' for each in without)} left out, which failed)" if without else ""
    found: dict[tuple[str, str, str], dict[str, Reliability]] = {}
    for name, (group, scope) in PLACES.items():
        there = frame[(frame["group"] == group) & (frame["scope"] == scope)]
        for where, scores in there.groupby(["metric", "source", "test_set"], observed=True):
            values = scores.astype({"label": str}).pivot(index="label", columns="seed", values="value").to_numpy()
            if len(values) == methods and np.isfinite(values).all() and np.ptp(values) > 0:
                log = is_distance(str(where[0])) and bool((values > 0).all())
                found.setdefault(where, {})[name] = reliability(np.log(values) if log else values)
    first = next(iter(PLACES))
    order = sorted(found, key=lambda where: -found[where][first].icc if first in found[where] else np.inf)
    lines = [
        f"Rules {rules}, {methods} methods{but}, {edition.seeds} seeds {edition.told}: the share of a score's variance "
        "that is due to methods, of one seed (with its 95 % interval where it is of the tail's classes), beyond what a "
        "seed adds to all methods.",
        "",
        f"| metric | of | {' | '.join(PLACES)} | mean over seeds, {first} |",
        f"| --- | --- | {' | '.join('---:' for _ in PLACES)} | ---: |",
    ]
    for where in order:
        each = found[where]
        cells = [f"{each[name].icc:.2f}" if name in each else "" for name in PLACES]
        if first in each:
            cells[0] += f" [{each[first].low:.2f}, {each[first].high:.2f}]"
        mean = f"{each[first].of_mean:.2f}" if first in each else ""
        lines.append(f"| `{where[0]}` | {where[1]}, {where[2]} | {' | '.join(cells)} | {mean} |")
    return "\n".join(lines) + "\n"


class OfSplits(NamedTuple):
    """How deviations of two seeds that share a split go together."""

    correlation: float
    """The rows' median; independent seeds have -1 / (seeds - 1) on average."""
    p: float
    """Two-sided and exact: of all ways to make pairs of the seeds."""


def of_splits(values: np.ndarray, splits: int = 5) -> OfSplits:
    """Return it of deviations (rows, seeds), of mean 0 in each row; seeds that are ``splits`` apart share a split."""
    products = np.einsum("is,it->ist", values, values) / np.square(values).mean(axis=1)[:, None, None]
    found = [
        np.median(np.mean([products[:, i, j] for i, j in pairs], axis=0)) for pairs in pairings([*range(2 * splits)])
    ]
    ours = np.median(np.mean([products[:, i, i + splits] for i in range(splits)], axis=0))
    below, above = (np.mean(each) for each in (found <= ours + TIE, found >= ours - TIE))
    return OfSplits(float(ours), float(min(1, 2 * min(below, above))))


def pairings(seeds: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
    """Every way to put an even number of seeds into pairs."""
    if not seeds:
        yield []
        return
    first, *rest = seeds
    for other in rest:
        for pairs in pairings([each for each in rest if each != other]):
            yield [(first, other), *pairs]


def splits(rules: str = "2.0") -> str:
    """Whether the two seeds of a split go together, of each primary metric, as a sentence."""
    frame, said = rows(rules), []
    for metric in ("fd", "coverage"):
        there = frame[(frame["metric"] == metric) & (frame["group"] == "tail") & (frame["scope"] == "class mean")]
        values = there.astype({"label": str}).pivot(index="label", columns="seed", values="value").to_numpy()
        own = np.log(values) if is_distance(metric) else values
        own = own - own.mean(axis=1, keepdims=True)
        raw, residuals = of_splits(own), of_splits(own - own.mean(axis=0))
        said.append(
            f"{raw.correlation:.2f} in tail `{metric}` (p = {raw.p:.2f}; "
            f"{residuals.correlation:.2f}, p = {residuals.p:.2f}, of residuals)"
        )
    seeds = EDITIONS[rules].seeds
    return (
        f"Two seeds that share a split: their deviations from a row's mean correlate by {' and '.join(said)}, medians "
        f"of {len(values)} rows, where independent seeds have {-1 / (seeds - 1):.2f}; residuals are of the model, "
        "without what a seed adds to all rows, and p is two-sided, of all ways to pair the seeds.\n"
    ).replace("-0", f"{MINUS}0")


def tables() -> str:
    """Those of all editions, each followed by the one without methods that failed, and what seeds of a split share."""
    found = []
    for rules in EDITIONS:
        without = failed(rows(rules))
        found += [table(rules), *([table(rules, without)] if without else [])]
    return "\n".join([*found, splits()])


def written(text: str) -> str:
    """A page with the tables."""
    made = tables()
    return BETWEEN.sub(lambda _: made, text)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
    print(tables())
