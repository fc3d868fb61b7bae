"""Two methods on the same seeds: how far they differ, and whether chance explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from grasp_bench.seeds import rng
from grasp_bench.stats.intervals import mean_interval
from grasp_bench.stats.ranks import ROUNDING, average_ranks

Test = Literal["permutation", "wilcoxon", "t"]

EXACT_PAIRS = 20  # 2^19 sums take some milliseconds
SAMPLED_FLIPS = 100_000


@dataclass(frozen=True)
class PairedDifference:
    """The mean of a − b over the units that both have, such as seeds; the interval resamples those pairs."""

    mean: float
    low: float | None
    """Lower end of the 95 % interval (Student's t over pairs); none below three pairs."""
    high: float | None
    n: int
    """Pairs."""
    p: float | None
    """Two-sided; none below two pairs."""
    smallest_p: float | None
    """The least p that so many pairs can give with this test, whatever they hold: 2/2ⁿ for sign flips, 0 for t."""


def paired_difference(a: Sequence[float], b: Sequence[float], test: Test = "permutation") -> PairedDifference:
    """Compare ``a`` and ``b``, of which element i comes from the same seed (or task).

    ``permutation``: were the methods alike, each difference would have either sign with equal chance. p is the share
    of all 2ⁿ signs whose mean is at least as far from zero as the one found (Fisher, The Design of Experiments, 1935,
    section 21); nothing else is assumed. Five pairs cannot give less than 0.0625.
    ``wilcoxon``: the same with the signed ranks of the differences in place of their sizes, so that one extreme pair
    counts no more than its rank (Wilcoxon 1945). Equal sizes share the mean of their ranks, and zeros are ranked but
    count for neither side (Pratt 1959); as the flips are over the ranks found, p is exact with both.
    ``t``: Student's paired t, exact where the differences are normal. Differences that are all alike give 0, or 1
    where they are zero.

    Beyond 20 pairs the flips are 100,000 drawn ones, always the same: p = (1 + as extreme) / (1 + drawn) (Phipson and
    Smyth 2010). Sums as far out as the one found but for rounding count as equal to it.

    Raises ValueError for sequences of different length, no pairs, NaN and infinity, and an unknown test.
    """
    if test not in get_args(Test):
        raise ValueError(f"test: expected one of {', '.join(get_args(Test))}, got {test!r}")
    differences, rounding = _differences(a, b)
    interval = mean_interval(differences.tolist())
    p, smallest = _tested(differences, rounding, test) if interval.n >= 2 else (None, None)
    return PairedDifference(interval.mean, interval.low, interval.high, interval.n, p, smallest)


def least_p(pairs: int, test: Test) -> float:
    """The least p that so many pairs can give with ``test``, whatever they hold."""
    if test == "t":
        return 0.0
    return 2.0 / 2**pairs if pairs <= EXACT_PAIRS else 1.0 / (1 + SAMPLED_FLIPS)


def _tested(differences: np.ndarray, rounding: float, test: Test) -> tuple[float, float]:
    """p, and the least that so many pairs can give."""
    smallest = least_p(n := len(differences), test)
    if test == "t":
        return _student(differences, rounding), smallest
    if test == "wilcoxon":
        return _sign_flips(np.sign(differences) * average_ranks(np.abs(differences), rounding), 0.0), smallest
    return _sign_flips(differences, n * rounding), smallest


def _differences(a: Sequence[float], b: Sequence[float]) -> tuple[np.ndarray, float]:
    """a − b (n,), with those that are only rounding as zero, and how large rounding may be."""
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.ndim != 1 or left.shape != right.shape or not len(left):
        raise ValueError(f"expected one value a pair on either side, got shapes {left.shape} and {right.shape}")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError(f"expected finite values, got {list(a)!r} and {list(b)!r}")
    rounding = ROUNDING * float(max(np.abs(left).max(), np.abs(right).max()))
    differences = left - right
    differences[np.abs(differences) <= rounding] = 0.0
    return differences, rounding


def _sign_flips(values: np.ndarray, tolerance: float) -> float:
    """Two-sided p of the sum of ``values`` (n,) among its sums under flipped signs."""
    found = abs(values.sum()) - tolerance
    if len(values) > EXACT_PAIRS:
        extreme = np.count_nonzero(np.abs(_drawn_sums(values)) >= found)
        return float((1 + extreme) / (1 + SAMPLED_FLIPS))
    sums = values[:1]  # one sign stays: flipping all of them mirrors the sum
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= found))


def _drawn_sums(values: np.ndarray) -> np.ndarray:
    """The sums of ``values`` (n,) under drawn signs, one value after the other to save memory."""
    stream = rng("sign-flips")
    sums = np.zeros(SAMPLED_FLIPS)
    for value in values:
        sums += np.where(stream.integers(2, size=SAMPLED_FLIPS, dtype=np.int8), value, -value)
    return sums


def _student(differences: np.ndarray, rounding: float) -> float:
    from scipy.special import stdtr  # scipy.stats takes three times as long to import

    n, mean, deviation = len(differences), differences.mean(), differences.std(ddof=1)
    if deviation <= rounding:
        return 0.0 if mean else 1.0
    return float(2 * stdtr(n - 1, -abs(mean) / (deviation / np.sqrt(n))))
