"""How far the mean over seeds can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class SeedInterval:
    """A mean over seeds with its 95 % interval; without one for fewer than three seeds."""

    mean: float
    low: float | None
    high: float | None
    n: int
    """Seeds."""


def mean_interval(values: Sequence[float]) -> SeedInterval:
    """Mean and Student's t interval at 95 % of one value a seed: x̄ ± t(0.975, n − 1) s/√n.

    One seed gives a provisional value and two give no useful spread (t is 12.7): neither gets an interval.
    Raises ValueError for no values, NaN and infinity.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"expected at least one finite value a seed, got {values!r}")
    mean, n = float(array.mean()), len(array)
    if n < 3:
        return SeedInterval(mean, None, None, n)
    half = float(half_width(array.std(ddof=1), n))
    return SeedInterval(mean, mean - half, mean + half, n)


def half_width(deviation: ArrayLike, n: ArrayLike) -> np.ndarray:
    """Half of Student's t interval at 95 %, t(0.975, n − 1) s/√n, of standard deviations s (…,) over n values (…,).

    NaN below three values, which give no useful interval.
    """
    from scipy.special import stdtrit  # scipy.stats takes three times as long to import

    n = np.asarray(n)
    found: np.ndarray = np.where(n < 3, np.nan, stdtrit(np.maximum(n - 1, 1), 0.975) * deviation / np.sqrt(n))
    return found
