"""How far the mean over seeds can be trusted, how far two methods on the same seeds differ, and whether by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from grasp_bench.seeds import rng
from grasp_bench.stats.ranks import ROUNDING, average_ranks

Test = Literal["permutation", "wilcoxon", "t"]

EXACT_PAIRS = 20  # 2^19 sums take some milliseconds
SAMPLED_FLIPS = 100_000


@dataclass(frozen=True)
class SeedInterval:
    """A mean over seeds with its 95 % interval; without one for fewer than three seeds."""

    mean: float
    low: float | None
    high: float | None
    n: int
    """Number of seeds."""


def mean_interval(values: Sequence[float]) -> SeedInterval:
    """Return the mean and Student's t interval at 95 % of one value per seed: x̄ ± t(0.975, n − 1) s/√n.

    One seed gives no spread and two give no useful one (t is 12.7): neither gets an interval.
    Raises ValueError for no values, NaN and infinity.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"expected at least one finite value per seed, got {values!r}")
    mean, n = float(array.mean()), len(array)
    if n < 3:
        return SeedInterval(mean, None, None, n)
    half = float(half_width(array.std(ddof=1), n))
    return SeedInterval(mean, mean - half, mean + half, n)


def half_width(deviation: ArrayLike, n: ArrayLike) -> np.ndarray:
    """Return half of Student's 95 % interval, t(0.975, n − 1) s/√n, for standard deviations s (…,) of n values (…,).

    NaN below three values, which give no useful interval.
    """
    from scipy.special import stdtrit  # scipy.stats takes three times as long to import

    n = np.asarray(n)
    return np.where(n < 3, np.nan, stdtrit(np.maximum(n - 1, 1), 0.975) * deviation / np.sqrt(n))


@dataclass(frozen=True)
class PairedDifference:
    """The mean of a − b over the units that both have, such as seeds; the interval resamples those pairs."""

    mean: float
    low: float | None
    """Lower end of the 95 % interval (Student's t over pairs); None below three pairs."""
    high: float | None
    n: int
    """Number of pairs."""
    p: float | None
    """Two-sided p-value; None below two pairs."""


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
    n, p = interval.n, None
    if n >= 2 and test == "t":
        p = _student(differences, rounding)
    elif n >= 2 and test == "wilcoxon":
        p = _sign_flips(np.sign(differences) * average_ranks(np.abs(differences), rounding), 0.0)
    elif n >= 2:
        p = _sign_flips(differences, n * rounding)
    return PairedDifference(interval.mean, interval.low, interval.high, n, p)


def least_p(pairs: int, test: Test) -> float:
    """Return the smallest p that so many pairs can give with ``test``: 2/2ⁿ for sign flips, 0 for t."""
    if test == "t":
        return 0.0
    return 2.0 / 2**pairs if pairs <= EXACT_PAIRS else 1.0 / (1 + SAMPLED_FLIPS)


def _differences(a: Sequence[float], b: Sequence[float]) -> tuple[np.ndarray, float]:
    """Return a − b (n,), with zeros for differences within rounding, and how large rounding may be."""
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.ndim != 1 or left.shape != right.shape or not len(left):
        raise ValueError(f"expected one value per pair on either side, got shapes {left.shape} and {right.shape}")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError(f"expected finite values, got {list(a)!r} and {list(b)!r}")
    rounding = ROUNDING * float(max(np.abs(left).max(), np.abs(right).max()))
    differences = left - right
    differences[np.abs(differences) <= rounding] = 0.0
    return differences, rounding


def _sign_flips(values: np.ndarray, tolerance: float) -> float:
    """Return the two-sided p of the sum of ``values`` (n,) among its sums under flipped signs."""
    found = abs(values.sum()) - tolerance
    if len(values) > EXACT_PAIRS:
        stream, drawn = rng("sign-flips"), np.zeros(SAMPLED_FLIPS)
        for value in values:  # one after the other to save memory
            drawn += np.where(stream.integers(2, size=SAMPLED_FLIPS, dtype=np.int8), value, -value)
        return float((1 + np.count_nonzero(np.abs(drawn) >= found)) / (1 + SAMPLED_FLIPS))
    sums = values[:1]  # one sign stays: flipping all of them mirrors the sum
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= found))


def _student(differences: np.ndarray, rounding: float) -> float:
    from scipy.special import stdtr  # scipy.stats takes three times as long to import

    n, mean, deviation = len(differences), differences.mean(), differences.std(ddof=1)
    if deviation <= rounding:
        return 0.0 if mean else 1.0
    return float(2 * stdtr(n - 1, -abs(mean) / (deviation / np.sqrt(n))))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return adjusted p-values in the order of ``p_values``: below α where the step-down procedure rejects at α.

    With m p-values sorted upwards, the i-th becomes the largest of min(1, (m − j + 1) p_j) over j ≤ i (Holm, A simple
    sequentially rejective multiple test procedure, 1979). The chance of any false rejection is at most α, however the
    tests depend on one another. None, a comparison that could not be tested, stays None and is not counted in m.

    Raises ValueError for a p-value outside [0, 1] and for NaN.
    """
    tested = [i for i, p in enumerate(p_values) if p is not None]
    p = np.array([p_values[i] for i in tested], dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():  # NaN fails both
        raise ValueError(f"expected p-values in [0, 1] or None, got {list(p_values)!r}")
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, p[order] * np.arange(len(p), 0, -1))
    adjusted: list[float | None] = [None] * len(p_values)
    for position, value in zip(order, np.maximum.accumulate(steps), strict=True):
        adjusted[tested[position]] = float(value)
    return adjusted
