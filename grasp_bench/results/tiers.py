"""Tiers of a leaderboard: methods that the seeds cannot tell from the best of their tier share it."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from grasp_bench.results.board import COLUMN

if TYPE_CHECKING:
    import pandas as pd

    from grasp_bench.results.board import Leaderboard
    from grasp_bench.stats import Test

ALPHA = 0.05
TEST_NAMES = {
    "permutation": "exact permutation test",
    "wilcoxon": "Wilcoxon signed-rank test",
    "t": "paired t test",
}


def with_tiers(board: Leaderboard, test: Test) -> Leaderboard:
    """Return the leaderboard with the tier of every cell for which the seeds can tell methods apart, and a note on it.

    Methods are compared in pairs over the seeds that both have, with Holm's correction over all pairs of a metric and
    group. Where no p could be low enough after that, nothing is compared, which is slow where methods are many.
    """
    from grasp_bench.stats import tiers

    found, compared = [], []
    for key, (direction, values) in by_seed(board).items():
        compared.append(_compared(values.notna().to_numpy()))
        if not _can_separate(*compared[-1], test):
            continue
        scores = {str(label): row.dropna().to_dict() for label, row in values.iterrows()}
        column = tiers(scores, direction, test, ALPHA)  # type: ignore[arg-type] # seeds are integers
        if column.can_separate:
            found.append((key, column.tier))
    if not found:
        return replace(board, tiers=_why_not(compared, test) if len(board.costs) > 1 and compared else "")
    places = board.cells.set_index([*COLUMN, "label"])["tier"].copy()
    for key, tier in found:
        for label, number in tier.items():
            places.loc[(*key, label)] = number
    words = (
        "Raised figures are tiers: the methods of one do not differ significantly from its best "
        f"({TEST_NAMES[test]} paired over seeds, Holm-corrected over all pairs of methods, at {ALPHA:g})."
    )
    return replace(board, cells=board.cells.assign(tier=places.to_numpy()), tiers=words)


def by_seed(board: Leaderboard) -> dict[tuple[str, ...], tuple[str, pd.DataFrame]]:
    """Return metric, version, source, test set and group → direction and values (methods × seeds).

    Methods without a mean are left out.
    """
    if not len(board.scores):
        return {}
    known = board.cells.loc[board.cells["mean"].notna(), [*COLUMN, "label"]]
    scores = board.scores.merge(known, on=[*COLUMN, "label"])
    values = scores.pivot(index=[*COLUMN, "direction", "label"], columns="seed", values="value")
    found: Any = values.groupby(level=[*COLUMN, "direction"], sort=False, observed=True)
    return {key[:-1]: (key[-1], each.droplevel([*COLUMN, "direction"])) for key, each in found}


def _can_separate(comparisons: int, seeds: int, test: Test) -> bool:
    from grasp_bench.stats import least_p

    return comparisons > 0 and comparisons * least_p(seeds, test) < ALPHA


def _compared(there: np.ndarray) -> tuple[int, int]:
    """How many pairs of methods share enough seeds, and the most that any pair shares, by (methods, seeds) booleans."""
    from grasp_bench.stats.tiers import FEWEST_SEEDS

    kinds, counts = np.unique(there, axis=0, return_counts=True)
    shared = kinds.astype(np.int64) @ kinds.T.astype(np.int64)
    pairs = np.triu(np.outer(counts, counts), 1) + np.diag(counts * (counts - 1) // 2)
    enough = (shared >= FEWEST_SEEDS) & (pairs > 0)
    return int(pairs[enough].sum()), int(shared[enough].max(initial=0))


def _why_not(compared: Collection[tuple[int, int]], test: Test) -> str:
    """What the column that comes nearest to telling methods apart lacks."""
    from grasp_bench.stats import least_p

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
