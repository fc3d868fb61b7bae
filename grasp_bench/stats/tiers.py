"""Tiers: methods that the seeds at hand cannot tell apart share one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from grasp_bench.stats.paired import PairedDifference, Test, holm, paired_difference
from grasp_bench.stats.ranks import check_alpha, sign

FEWEST_SEEDS = 3
"""Smallest number of shared seeds that can separate two methods; the rules of the benchmark ask for three."""


@dataclass(frozen=True)
class Tiers:
    """Methods by tier, best mean first."""

    tier: dict[str, int]
    """Method → tier, from 1."""
    comparisons: dict[tuple[str, str], PairedDifference]
    """(method of better mean, method of worse mean) → the first minus the second, for every pair that shares a seed."""
    adjusted: dict[tuple[str, str], float | None]
    """Pair of methods → p after Holm's correction; None below three shared seeds."""
    can_separate: bool
    """Whether so many seeds and pairs could give any corrected p below alpha; if not, sharing a tier says nothing."""


def tiers(
    scores: Mapping[str, Mapping[int, float]],
    direction: Literal["lower", "higher"],
    test: Test = "permutation",
    alpha: float = 0.05,
) -> Tiers:
    """Group methods by what their ``scores``, method → seed → value, can separate.

    Every two methods are compared on the seeds that both have, and all p-values are corrected together (Holm). The
    best mean opens tier 1; all methods that are not significantly worse than it share that tier; the best of the
    others opens the next, and so on. So a method with few or noisy seeds may share the tier of one that has beaten a
    better mean than its own: it is not shown to be worse. Only the best of a tier is compared with each member;
    members may differ among themselves.

    Raises ValueError for no methods, a method without seeds, NaN and infinity, an unknown direction or test, and alpha
    outside (0, 1).
    """
    if not scores:
        raise ValueError("expected the scores of at least one method, got none")
    for method, values in scores.items():
        if not values or not all(math.isfinite(value) for value in values.values()):
            raise ValueError(f"{method}: expected at least one seed with a finite value, got {dict(values)!r}")
    check_alpha(alpha)
    means = {method: sign(direction) * math.fsum(each.values()) / len(each) for method, each in scores.items()}
    order = sorted(means, key=lambda method: (means[method], method))
    comparisons = {
        (first, second): paired_difference(
            [scores[first][seed] for seed in shared], [scores[second][seed] for seed in shared], test
        )
        for first, second in combinations(order, 2)
        if (shared := sorted(scores[first].keys() & scores[second].keys()))
    }
    tested = {pair: found for pair, found in comparisons.items() if found.n >= FEWEST_SEEDS}
    p_values = [comparisons[pair].p if pair in tested else None for pair in comparisons]
    adjusted = dict(zip(comparisons, holm(p_values), strict=True))
    worse = {
        pair
        for pair, p in adjusted.items()
        if p is not None and p < alpha and (comparisons[pair].mean < 0) == (direction == "lower")
    }  # on the shared seeds, too: methods with other seeds besides may be ordered otherwise there
    smallest = [found.smallest_p for found in tested.values() if found.smallest_p is not None]
    tier: dict[str, int] = {}
    for best in order:
        if best not in tier:
            level = max(tier.values(), default=0) + 1
            tier |= {method: level for method in order if method not in tier and (best, method) not in worse}
    return Tiers(
        tier={method: tier[method] for method in order},
        comparisons=comparisons,
        adjusted=adjusted,
        can_separate=bool(smallest) and min(smallest) * len(smallest) < alpha,
    )
