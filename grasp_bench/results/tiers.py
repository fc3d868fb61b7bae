"""Tiers of a leaderboard: methods that the seeds cannot tell from the best of their tier share it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grasp_bench.results.table import Leaderboard, MetricTable
    from grasp_bench.stats import Test

ALPHA = 0.05
EXACT = ("permutation", "wilcoxon")
"""Tests whose least p follows from the number of pairs: one of the 2ⁿ signs of n differences, from both sides."""
TEST_NAMES = {
    "permutation": "exact permutation test",
    "wilcoxon": "Wilcoxon signed-rank test",
    "t": "paired t test",
}


def with_tiers(board: Leaderboard, test: Test) -> Leaderboard:
    """The leaderboard with the tier of every cell for which the seeds can tell methods apart, and a word on it.

    Methods are compared in pairs over the seeds that both have, corrected after Holm over all pairs of a metric and
    group. Where no p could be low enough after that, nothing is compared, which is dear where methods are many.
    """
    tables, compared = [], []
    for table in board.metrics:
        tiered = table
        for group in table.groups:
            values = _values(table, group)
            compared.append(_compared(values.values()))
            if _can_separate(*compared[-1], test):
                tiered = _tiered(tiered, group, values, test)
        tables.append(tiered)
    if any(new is not old for new, old in zip(tables, board.metrics, strict=True)):
        words = (
            "Raised figures are tiers: the methods of one do not differ significantly from its best "
            f"({TEST_NAMES[test]} paired over seeds, Holm-corrected over all pairs of methods, at {ALPHA:g})."
        )
    else:
        words = _why_not(compared, test) if len(board.rows) > 1 and compared else ""
    return replace(board, metrics=tuple(tables), tiers=words)


def least_p(pairs: int, test: Test) -> float:
    """The least p that so many pairs can give; beyond twenty, where signs are drawn, a lower bound of it."""
    return 2 / 2**pairs if test in EXACT else 0.0


def _tiered(table: MetricTable, group: str, values: Mapping[str, Mapping[int, float]], test: Test) -> MetricTable:
    """The table with tiers in one column, or itself where the test cannot tell any two methods apart."""
    from grasp_bench.stats import tiers

    found = tiers(values, table.direction, test, ALPHA)
    if not found.can_separate:
        return table
    scores = {
        label: cells | {group: replace(cells[group], tier=found.tier[label])} if label in found.tier else cells
        for label, cells in table.scores.items()
    }
    return replace(table, scores=scores)


def _values(table: MetricTable, group: str) -> dict[str, dict[int, float]]:
    """Method → seed → value, of those that have a mean."""
    return {
        label: cells[group].values for label, cells in table.scores.items() if group in cells and cells[group].values
    }


def _can_separate(comparisons: int, seeds: int, test: Test) -> bool:
    return comparisons > 0 and comparisons * least_p(seeds, test) < ALPHA


def _compared(values: Collection[Mapping[int, float]]) -> tuple[int, int]:
    """How many pairs of methods share enough seeds, and the most that any pair shares."""
    from grasp_bench.stats.tiers import FEWEST_SEEDS

    sets = Counter(map(tuple, values))
    shared = [(len(seeds), count * (count - 1) // 2) for seeds, count in sets.items()]
    shared += [(len({*a} & {*b}), sets[a] * sets[b]) for a, b in combinations(sets, 2)]
    enough = [(seeds, pairs) for seeds, pairs in shared if seeds >= FEWEST_SEEDS and pairs]
    return sum(pairs for _, pairs in enough), max((seeds for seeds, _ in enough), default=0)


def _why_not(compared: Collection[tuple[int, int]], test: Test) -> str:
    """What the column that comes nearest to telling methods apart lacks."""
    tested = [each for each in compared if each[0]]
    if not tested:
        return "No tiers: no two methods share three seeds."
    comparisons, seeds = min(tested, key=lambda each: each[0] * least_p(each[1], test))
    least = least_p(seeds, test)
    corrected = f", {min(1.0, comparisons * least):.3g} after Holm's correction over {comparisons} pairs of methods"
    needed = math.floor(1 + math.log2(comparisons / ALPHA)) + 1
    return (
        f"No tiers: the least p that the {TEST_NAMES[test]} can give for {seeds} paired seeds is {least:.3g}"
        f"{corrected if comparisons > 1 else ''}; {needed} seeds could separate at {ALPHA:g}."
    )
