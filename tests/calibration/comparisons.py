"""How often comparisons of methods err, and how often they find what is there, under known truth.

``PYTHONPATH=tests python -m calibration.comparisons [--seeds 20] [--methods 5] [--tables N]`` records the simulated
leaderboards of these numbers, or of all, and writes the tables of all that were recorded into docs/statistics.md; about
an hour on one core for all.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

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
FEW_METHODS = (2, 3, 5, 8, 12)
FEW_SEEDS = (3, 5, 10)
"""Small leaderboards, of which the first two spreads are simulated."""
UNFINISHED = 3
"""Seeds that every other method has, where the first two spreads are simulated once more at five and ten seeds."""
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
    tukey: float | None
    """The same by Tukey's test alone; None where seeds are missing."""
    tukey_after_test: float | None
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


def errors(
    deviations: np.ndarray, seeds: int, tables: int, seed: int = 0, slower: int = SLOWER, unfinished: bool = False
) -> Errors:
    """Simulate as many leaderboards as ``tables``, and look at the ranks of one in ``slower``.

    Where they are ``unfinished``, every other method has its first :data:`UNFINISHED` seeds alone.
    """
    stream = np.random.default_rng([seed, seeds])
    steps = STEP * np.random.default_rng(seed).permutation(len(deviations))
    last, true = len(deviations) - 1, 1 + np.argsort(np.argsort(steps))
    critical = float(studentized_range.ppf(1 - ALPHA, len(deviations), (len(deviations) - 1) * (seeds - 1)))
    quick, slow = [], []
    for number in range(tables):
        values = drawn(stream, deviations, seeds)
        if unfinished:
            values[::2, UNFINISHED:] = np.nan
        model = blocks(values)
        pairs, tukey = _differs(model), _range(values) > critical
        residuals = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0)
        alike = not unfinished and levene(*residuals, center="median").pvalue >= ALPHA
        against, better = (chance_of_any(model, last, sign) < ALPHA for sign in (0, -1))
        quick.append((pairs, tukey, tukey if alike else pairs, model.p < ALPHA, against, better))
        if number % slower == 0:
            other = blocks(values + steps[:, None])
            ranks = rank_intervals(other.difference, all_pairs(other), lower=True, alpha=ALPHA)
            outside = (true < ranks[:, 0]) | (true > ranks[:, 1])
            slow.append(outside.any())
    shares: list[float | None] = np.mean(quick, axis=0).tolist()
    if unfinished:
        shares[1:3] = None, None
    return Errors(tables, len(slow), *shares, float(np.mean(slow)))


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


class Cell(NamedTuple):
    """A kind of leaderboards that are simulated: a row of the first table."""

    spread: str
    methods: int
    seeds: int
    unfinished: bool = False

    @property
    def times(self) -> int:
        """How many times as many leaderboards are simulated of it: in 2,000 of some, too many erred by chance."""
        return 4 if self.unfinished and self.seeds == SEEDS[1] else 1

    @property
    def shown(self) -> str:
        """Its seeds, as the table shows them."""
        return f"{UNFINISHED} or {self.seeds}" if self.unfinished else str(self.seeds)

    @property
    def name(self) -> str:
        """What the record calls it."""
        return f"{self.spread}, {self.methods} methods, {self.shown}"


def cells() -> Iterator[Cell]:
    """Every row of the first table."""
    for number, spread in enumerate(SPREADS):
        yield from (Cell(spread, METHODS, seeds) for seeds in (SEEDS if number < MORE_SEEDS else SEEDS[:1]))
    for spread in list(SPREADS)[:2]:
        yield from (Cell(spread, METHODS, seeds, unfinished=True) for seeds in SEEDS[:2])
    for methods in FEW_METHODS:
        yield from (Cell(spread, methods, seeds) for spread in list(SPREADS)[:2] for seeds in FEW_SEEDS)


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
    for cell in cells():
        each = Errors(**found["errors"][cell.name])
        shares = (each.pairs, each.baseline, each.best, each.omnibus, each.tukey, each.tukey_after_test)
        shown = [
            *("" if share is None else f"{100 * share:.1f}" for share in shares),
            f"{each.tables:,}",
            f"{100 * each.ranks:.1f}",
            each.ranked,
        ]
        lines.append(_row(cell.spread, cell.methods, cell.shown, *shown))
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
    parser.add_argument("--unfinished", action="store_true", help="only leaderboards in which seeds are missing")
    parser.add_argument("--slower", type=int, default=SLOWER, help="look at the ranks of one leaderboard in so many")
    asked = parser.parse_args()
    chosen = [
        cell
        for cell in cells()
        if (not asked.seeds or cell.seeds in asked.seeds)
        and (not asked.methods or cell.methods in asked.methods)
        and (not asked.unfinished or cell.unfinished)
    ]
    for cell in chosen:
        found = errors(
            SPREADS[cell.spread](cell.methods),
            cell.seeds,
            asked.tables * cell.times,
            slower=asked.slower * cell.times,
            unfinished=cell.unfinished,
        )
        _record("errors", cell.name, asdict(found))
    for cell in chosen:
        if cell.methods == METHODS and cell.spread in list(SPREADS)[:2] and not cell.unfinished:
            deviations, tables = SPREADS[cell.spread](METHODS), asked.tables // 20
            shares = [round(power(deviations, cell.seeds, each, tables), 4) for each in DIFFERENCES]
            _record("power", f"{cell.spread}, {cell.seeds}", {"tables": tables, "found": shares})
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
