"""How often comparisons of methods err, and how often they find what is there, under known truth.

``PYTHONPATH=tests python -m calibration.comparisons [--seeds 20] [--methods 5] [--tables N]`` records the simulated
leaderboards of these numbers, or of all, and writes the tables of all that were recorded into docs/statistics.md; about
half an hour on one core for all.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import levene, studentized_range

from grasp_bench.stats import Blocks, all_pairs, blocks, rank_intervals
from grasp_bench.stats.comparisons import chance_of_any
from grasp_bench.stats.maximum import largest_range

PAGE = Path(__file__).parents[2] / "docs/statistics.md"
MEASURED = Path(__file__).with_name("comparisons.json")
BLOCK = re.compile(r"(<!-- calibration comparisons -->\n).*?(<!-- end -->)", re.DOTALL)
METHODS, ALPHA = 18, 0.05
SEEDS = (5, 10, 20)
TABLES = 2000
SLOWER = 4
"""Ranks are simulated for one in so many leaderboards."""
SPREADS: dict[str, Callable[[int], np.ndarray]] = {
    "all 1": np.ones,
    "0.5 to 1.5, evenly": lambda methods: np.linspace(0.5, 1.5, methods),
    "0.5 and 1.5, half each": lambda methods: np.repeat([0.5, 1.5], methods // 2),
    "two 1.5, others 0.5": lambda methods: np.r_[np.full(methods - 2, 0.5), 1.5, 1.5],
    "one 1.5, others 0.5": lambda methods: np.r_[np.full(methods - 1, 0.5), 1.5],
}
"""Name → standard deviations over seeds of so many methods, beyond what a seed adds to all of them."""
MORE_SEEDS = 3
"""The first so many of these are simulated at ten and twenty seeds, too."""
FEW_METHODS = (2, 3, 5)
FEW_SEEDS = (3, 5, 10)
"""Small leaderboards, of which the first two spreads are simulated."""
STEP = 0.5
"""Difference between neighbours where every method has another mean."""
DIFFERENCES = (1.0, 2.0, 3.0)
"""True differences of which the power is measured, in standard deviations."""


@dataclass(frozen=True)
class Errors:
    """Shares of simulated leaderboards with at least one wrong statement of a kind."""

    tables: int
    """Simulated leaderboards."""
    ranked: int
    """Those of them whose ranks were looked at."""
    pairs: float
    """A difference between two equal methods is found."""
    tukey: float
    """The same by Tukey's test alone."""
    tukey_after_test: float
    """The same by Tukey's test unless Brown and Forsythe's rejects equal variances, and else as in ``pairs``."""
    omnibus: float
    """The F test finds that equal methods differ."""
    baseline: float
    """An interval of a difference to the noisiest method leaves out the truth."""
    best: float
    """The best method is not among those that could be, where it is the noisiest and all others are as good."""
    ranks: float
    """A method's rank is outside its interval, where every method has another mean."""


def drawn(stream: np.random.Generator, deviations: np.ndarray, seeds: int, means: np.ndarray | float = 0) -> np.ndarray:
    """A leaderboard (methods, seeds): means, what each seed adds to all methods, and noise."""
    noise = stream.normal(size=(len(deviations), seeds)) * deviations[:, None]
    return np.broadcast_to(means, len(deviations))[:, None] + stream.normal(size=seeds) + noise


def errors(deviations: np.ndarray, seeds: int, tables: int, seed: int = 0, slower: int = SLOWER) -> Errors:
    """Simulate as many leaderboards as ``tables``, and look at the ranks of one in ``slower``."""
    stream = np.random.default_rng([seed, seeds])
    steps = STEP * np.random.default_rng(seed).permutation(len(deviations))
    last, true = len(deviations) - 1, 1 + np.argsort(np.argsort(steps))
    critical = float(studentized_range.ppf(1 - ALPHA, len(deviations), (len(deviations) - 1) * (seeds - 1)))
    quick, slow = [], []
    for number in range(tables):
        values = drawn(stream, deviations, seeds)
        model = blocks(values)
        pairs, tukey = _differs(model), _range(values) > critical
        residuals = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0)
        alike = levene(*residuals, center="median").pvalue >= ALPHA
        against, better = (chance_of_any(model, last, sign) < ALPHA for sign in (0, -1))
        quick.append((pairs, tukey, tukey if alike else pairs, model.p < ALPHA, against, better))
        if number % slower == 0:
            other = blocks(values + steps[:, None])
            ranks = rank_intervals(other.difference, all_pairs(other), lower=True, alpha=ALPHA)
            outside = (true < ranks[:, 0]) | (true > ranks[:, 1])
            slow.append(outside.any())
    return Errors(tables, len(slow), *np.mean(quick, axis=0).tolist(), float(np.mean(slow)))


def power(deviations: np.ndarray, seeds: int, difference: float, tables: int, seed: int = 1) -> float:
    """Return the share of pairs that are found to differ, where half of the methods are better by ``difference``."""
    stream = np.random.default_rng([seed, seeds])
    better = np.arange(len(deviations)) % 2 == 0
    found = []
    for _ in range(tables):
        model = blocks(drawn(stream, deviations, seeds, np.where(better, difference, 0.0)))
        found.append((all_pairs(model)[better][:, ~better] < ALPHA).mean())
    return float(np.mean(found))


def _differs(model: Blocks) -> bool:
    """Whether any pair is found to differ: as :func:`all_pairs` says, of which only the smallest p is computed here."""
    if model.homogeneous:
        return bool(largest_range([np.sqrt(2) * np.abs(model.t).max()], len(model.t), model.df)[0] < ALPHA)
    return bool(np.nanmin(all_pairs(model)) < ALPHA)


def _range(values: np.ndarray) -> float:
    """The studentized range, in which all methods share one variance."""
    means = values.mean(axis=1)
    residuals = values - means[:, None] - values.mean(axis=0) + values.mean()
    methods, seeds = values.shape
    variance = (residuals**2).sum() / ((methods - 1) * (seeds - 1))
    return float(np.ptp(means) / np.sqrt(variance / seeds))


def cells() -> Iterator[tuple[str, int, int]]:
    """Spread, methods and seeds of every row of the first table."""
    for number, name in enumerate(SPREADS):
        yield from ((name, METHODS, seeds) for seeds in (SEEDS if number < MORE_SEEDS else SEEDS[:1]))
    for methods in FEW_METHODS:
        yield from ((name, methods, seeds) for name in list(SPREADS)[:2] for seeds in FEW_SEEDS)


def cell(name: str, methods: int, seeds: int) -> str:
    """What the record calls a cell."""
    return f"{name}, {methods} methods, {seeds}"


def pages() -> str:
    """Return both tables of what is recorded in markdown."""
    found = json.loads(MEASURED.read_text())
    lines = [
        "Share of simulated leaderboards with at least one false statement, in percent; 5 is promised. The Monte-Carlo "
        "error of 5 % is 0.5 in 2,000 leaderboards, 1.0 in 500 and 3.1 in 50.",
        "",
        "| standard deviations | methods | seeds | pairs | baseline | best | F test | Tukey alone | Tukey after a test "
        "| of | ranks | of |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, methods, seeds in cells():
        each = Errors(**found["errors"][cell(name, methods, seeds)])
        shares = (each.pairs, each.baseline, each.best, each.omnibus, each.tukey, each.tukey_after_test)
        shown = [
            *(f"{100 * share:.1f}" for share in shares),
            f"{each.tables:,}",
            f"{100 * each.ranks:.1f}",
            each.ranked,
        ]
        lines.append(_row(name, methods, seeds, *shown))
    lines += [
        "",
        f"Share of truly different pairs that are found, in percent, over leaderboards of {METHODS} methods, half of "
        "them better by so many standard deviations (of the mean over methods):",
        "",
        f"| standard deviations | seeds | {' | '.join(f'{each:g}' for each in DIFFERENCES)} | of |",
        f"| --- | ---: | {' | '.join('---:' for _ in DIFFERENCES)} | ---: |",
    ]
    for name in list(SPREADS)[:2]:
        for seeds in SEEDS:
            of = found["power"][f"{name}, {seeds}"]
            lines.append(_row(name, seeds, *(f"{100 * share:.1f}" for share in of["found"]), of["tables"]))
    return "\n".join(lines)


def _row(*shown: object) -> str:
    return f"| {' | '.join(map(str, shown))} |"


def written(text: str) -> str:
    """A page with the tables of what is recorded."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{pages()}\n\n{match[2]}", text)


def _record(part: str, of: str, found: dict[str, object]) -> None:
    every = json.loads(MEASURED.read_text())
    every[part][of] = found
    MEASURED.write_text(json.dumps(every, indent=1) + "\n")
    print(of, found, flush=True)


def main() -> None:
    """Simulate, record at once what each cell gave, and write the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=TABLES)
    parser.add_argument("--seeds", type=int, action="append", choices=sorted({*SEEDS, *FEW_SEEDS}))
    parser.add_argument("--methods", type=int, action="append", choices=(*FEW_METHODS, METHODS))
    parser.add_argument("--slower", type=int, default=SLOWER, help="look at the ranks of one leaderboard in so many")
    asked = parser.parse_args()
    chosen = [
        each
        for each in cells()
        if (not asked.seeds or each[2] in asked.seeds) and (not asked.methods or each[1] in asked.methods)
    ]
    for name, methods, seeds in chosen:
        found = errors(SPREADS[name](methods), seeds, asked.tables, slower=asked.slower)
        _record("errors", cell(name, methods, seeds), asdict(found))
    for name, methods, seeds in chosen:
        if methods == METHODS and name in list(SPREADS)[:2]:
            tables = asked.tables // 4
            shares = [round(power(SPREADS[name](METHODS), seeds, each, tables), 4) for each in DIFFERENCES]
            _record("power", f"{name}, {seeds}", {"tables": tables, "found": shares})
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
