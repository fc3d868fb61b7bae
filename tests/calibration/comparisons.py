"""How often comparisons of methods err, and how often they find what is there, under known truth.

``PYTHONPATH=tests python -m calibration.comparisons`` writes the tables into docs/statistics.md; about ten minutes on
one core. ``--tables N`` simulates fewer leaderboards each, for a trial; the tables then say how many.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import levene, studentized_range

from grasp_bench.stats import Blocks, all_pairs, blocks, rank_intervals
from grasp_bench.stats.comparisons import chance_of_any
from grasp_bench.stats.maximum import largest_range

PAGE = Path(__file__).parents[2] / "docs/statistics.md"
BLOCK = re.compile(r"(<!-- calibration comparisons -->\n).*?(<!-- end -->)", re.DOTALL)
METHODS, ALPHA = 18, 0.05
SEEDS = (5, 10, 20)
TABLES = 2000
SLOWER = 4
"""Ranks are simulated for one in so many leaderboards."""
SPREADS = {
    "all 1": np.ones(METHODS),
    "0.5 to 1.5, evenly": np.linspace(0.5, 1.5, METHODS),
    "0.5 and 1.5, half each": np.repeat([0.5, 1.5], METHODS // 2),
    "two 1.5, others 0.5": np.r_[np.full(METHODS - 2, 0.5), 1.5, 1.5],
    "one 1.5, others 0.5": np.r_[np.full(METHODS - 1, 0.5), 1.5],
}
"""Name → standard deviation of each method over seeds, beyond what a seed adds to all of them."""
MORE_SEEDS = 3
"""The first so many of these are simulated at ten and twenty seeds, too."""
STEP = 0.5
"""Difference between neighbours where every method has another mean."""
DIFFERENCES = (1.0, 2.0, 3.0)
"""True differences of which the power is measured, in standard deviations."""


@dataclass(frozen=True)
class Errors:
    """Shares of simulated leaderboards with at least one wrong statement of a kind."""

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


def errors(deviations: np.ndarray, seeds: int, tables: int, seed: int = 0) -> Errors:
    """Simulate as many leaderboards as ``tables``."""
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
        if number % SLOWER == 0:
            other = blocks(values + steps[:, None])
            ranks = rank_intervals(other.difference, all_pairs(other), lower=True, alpha=ALPHA)
            outside = (true < ranks[:, 0]) | (true > ranks[:, 1])
            slow.append(outside.any())
    return Errors(*np.mean(quick, axis=0).tolist(), float(np.mean(slow)))


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


def pages(tables: int) -> str:
    """Return both tables in markdown."""
    quick, slow = (100 * np.sqrt(ALPHA * (1 - ALPHA) / each) for each in (tables, tables / SLOWER))
    lines = [
        f"Share of simulated leaderboards of {METHODS} methods with at least one false statement, in percent; 5 is "
        f"promised. Ranks: of {tables // SLOWER:,} (Monte-Carlo error at 5 %: {slow:.1f}); all others: of {tables:,} "
        f"({quick:.1f}).",
        "",
        "| standard deviations | seeds | pairs | baseline | best | ranks | F test | Tukey alone | Tukey after a test |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for number, (name, deviations) in enumerate(SPREADS.items()):
        for seeds in SEEDS if number < MORE_SEEDS else SEEDS[:1]:
            found = errors(deviations, seeds, tables)
            shown = (found.pairs, found.baseline, found.best, found.ranks, found.omnibus)
            print(name, seeds, found, flush=True)
            lines.append(_row(name, seeds, [*shown, found.tukey, found.tukey_after_test]))
    lines += [
        "",
        f"Share of truly different pairs that are found, in percent, over {tables // 4:,} leaderboards of which half "
        "of the methods are better by so many standard deviations (of the mean over methods):",
        "",
        f"| standard deviations | seeds | {' | '.join(f'{each:g}' for each in DIFFERENCES)} |",
        f"| --- | ---: | {' | '.join('---:' for _ in DIFFERENCES)} |",
    ]
    for name in list(SPREADS)[:2]:
        for seeds in SEEDS:
            lines.append(_row(name, seeds, [power(SPREADS[name], seeds, each, tables // 4) for each in DIFFERENCES]))
            print(lines[-1], flush=True)
    return "\n".join(lines)


def _row(name: str, seeds: int, shares: Sequence[float]) -> str:
    return f"| {name} | {seeds} | {' | '.join(f'{100 * each:.1f}' for each in shares)} |"


def main() -> None:
    """Write the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=TABLES)
    made = pages(parser.parse_args().tables)
    PAGE.write_text(BLOCK.sub(lambda match: f"{match[1]}\n{made}\n\n{match[2]}", PAGE.read_text()))


if __name__ == "__main__":
    main()
