"""Many methods on many tasks, compared by their ranks.

Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

ROUNDING = 1e-12  # relative; closer values are equal but for the order of floating-point sums


@dataclass(frozen=True)
class Friedman:
    """Friedman's test: do some methods rank better than others over the tasks? Its units are tasks."""

    statistic: float
    """χ², corrected for ties; its degrees of freedom are one fewer than the methods."""
    p: float
    f_statistic: float
    """Iman and Davenport's F, which is less conservative; infinite where every task ranks the methods alike."""
    f_p: float
    mean_ranks: dict[str, float]
    """Method → mean rank, in the order of the scores; 1 is best, and ties share the mean of their ranks."""
    n: int
    """Number of tasks."""


def friedman(scores: Mapping[str, Sequence[float]], direction: Literal["lower", "higher"]) -> Friedman:
    """Rank the methods within each task and test that their mean ranks are equal.

    ``scores`` holds one score a task for every method, all in the same order of tasks. χ² is (k − 1) Σ_j (S_j −
    n(k + 1)/2)² / (Σ r² − nk(k + 1)²/4) over rank sums S_j and ranks r (Conover, Practical Nonparametric Statistics,
    3rd ed. 1999, section 5.8), and F = (n − 1) χ² / (n(k − 1) − χ²) has k − 1 and (k − 1)(n − 1) degrees of freedom
    (Iman and Davenport 1980; Demšar, section 3.2.2, without the correction for ties). Where every task ranks alike, F
    is infinite and its p the chance of that, (1/k!)^(n − 1) without ties (Conover). Where every task ties all methods,
    both statistics are 0. χ² and F are approximations: Demšar trusts them for n > 10 and k > 5.

    Raises ValueError for fewer than two methods or tasks, methods with different numbers of tasks, NaN and infinity,
    and an unknown direction.
    """
    from scipy.special import chdtrc  # scipy.stats takes three times as long to import

    lengths = {len(values) for values in scores.values()}
    if len(scores) < 2 or len(lengths) != 1 or min(lengths) < 2:
        found = {method: len(values) for method, values in scores.items()}
        raise ValueError(f"expected at least 2 methods with the same 2 or more tasks, got scores of {found}")
    table = sign(direction) * np.array(list(scores.values()), dtype=np.float64).T
    if not np.isfinite(table).all():
        raise ValueError(f"expected finite scores, got {dict(scores)!r}")
    n, k = table.shape
    ranks = np.stack([average_ranks(row, ROUNDING * float(np.abs(row).max())) for row in table])
    spread = (ranks**2).sum() - n * k * (k + 1) ** 2 / 4
    agreement = 0.0  # Kendall's W: 0 where mean ranks are equal, 1 where every task ranks alike
    if spread > 0:
        agreement = float(((ranks.sum(axis=0) - n * (k + 1) / 2) ** 2).sum() / (n * spread))
    f_statistic, f_p = _iman_davenport(agreement, ranks)
    return Friedman(
        statistic=n * (k - 1) * agreement,
        p=float(chdtrc(k - 1, n * (k - 1) * agreement)),
        f_statistic=f_statistic,
        f_p=f_p,
        mean_ranks=dict(zip(scores, ranks.mean(axis=0).tolist(), strict=True)),
        n=n,
    )


def critical_difference(methods: int, tasks: int, alpha: float = 0.05) -> float:
    """Return Nemenyi's critical difference: mean ranks at least so far apart differ at ``alpha``, over all pairs.

    q √(k(k + 1)/(6n)) for k methods and n tasks, where q is the studentized range at infinite degrees of freedom over
    √2 (Demšar, section 3.2.2). Raises ValueError for fewer than two methods or tasks and for alpha outside (0, 1).
    """
    if methods < 2 or tasks < 2:
        raise ValueError(f"expected at least 2 methods and 2 tasks, got {methods} and {tasks}")
    check_alpha(alpha)
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(1 - alpha, methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * tasks))


def cliques(mean_ranks: Mapping[str, float], cd: float) -> list[tuple[str, ...]]:
    """Return the largest groups of two and more methods whose mean ranks lie less than ``cd`` apart, best first.

    Groups may overlap: a method that differs from neither of two that differ from each other is in both. A method
    without a group differs from all others. Raises ValueError for a rank that is not finite and a ``cd`` that is not
    positive.
    """
    if not all(math.isfinite(rank) for rank in mean_ranks.values()) or not cd > 0:
        raise ValueError(f"expected finite mean ranks and a positive cd, got {dict(mean_ranks)!r} and {cd}")
    names = sorted(mean_ranks, key=lambda name: (mean_ranks[name], name))
    groups: list[tuple[str, ...]] = []
    reached = 1  # a group that ends no further than the one before is part of it
    for start, first in enumerate(names):
        end = start + sum(mean_ranks[name] - mean_ranks[first] < cd for name in names[start:])
        if end > max(reached, start + 1):
            groups.append(tuple(names[start:end]))
            reached = end
    return groups


def average_ranks(values: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the ranks of ``values`` (n,), 1 for the smallest; neighbours within ``tolerance`` share their mean."""
    order = np.argsort(values, kind="stable")
    tied = np.cumsum(np.diff(values[order], prepend=-np.inf) > tolerance) - 1
    sizes = np.bincount(tied)
    ranks = np.empty(len(values))
    ranks[order] = (np.cumsum(sizes) - (sizes - 1) / 2)[tied]
    return ranks


def _iman_davenport(agreement: float, ranks: np.ndarray) -> tuple[float, float]:
    """Return F and its p from Kendall's W and the ``ranks`` (n, k)."""
    n, k = ranks.shape
    if 1 - agreement <= ROUNDING:
        ties = [math.factorial(count) for count in np.unique(ranks[0], return_counts=True)[1].tolist()]
        return math.inf, float((math.prod(ties) / math.factorial(k)) ** (n - 1))
    from scipy.special import fdtrc

    statistic = (n - 1) * agreement / (1 - agreement)
    return statistic, float(fdtrc(k - 1, (k - 1) * (n - 1), statistic))


def sign(direction: str) -> int:
    """Return 1 where lower scores are better, −1 where higher ones are. Raises ValueError for an unknown direction."""
    if direction not in ("lower", "higher"):
        raise ValueError(f"direction: expected lower or higher, got {direction!r}")
    return 1 if direction == "lower" else -1


def check_alpha(alpha: float) -> None:
    """Raise ValueError for a level outside (0, 1)."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: expected a number between 0 and 1, got {alpha}")
