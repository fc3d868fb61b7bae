"""Bootstrap intervals that resample whole units, such as patients, rather than images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from grasp_bench.seeds import rng


@dataclass(frozen=True)
class Bootstrap:
    """A 95 % percentile interval, and how many units it resamples."""

    low: float
    high: float
    mean: float
    """Mean over the resamples; how far it lies from the statistic of the images themselves is resampling's bias."""
    unit_count: int


def bootstrap(
    units: np.ndarray, statistic: Callable[[np.ndarray], float], resamples: int = 1000, *, key: tuple[str | int, ...]
) -> Bootstrap:
    """Interval of ``statistic`` over images of which those with equal ``units`` (n,) come or go together.

    ``units`` holds an id for every image: its patient, say, or ``np.arange(n)`` where images are independent. Each
    resample draws as many units as there are, with replacement, and ``statistic`` gets the indices of all their
    images, repeated as often as their unit (Davison and Hinkley, Bootstrap Methods and their Application, 1997,
    section 3.8). The stream is ``key``'s.

    Repeated images are no new ones. A score that depends on the number of different images, such as a Fréchet
    distance or IRS, is therefore resampled about another value than its own, and the interval may not hold it:
    compare ``mean`` with the score.

    Raises ValueError for another shape, fewer than two units, no resamples, and a statistic of NaN or infinity.
    """
    units = np.asarray(units)
    if units.ndim != 1:
        raise ValueError(f"units: expected one id per image, of shape (n,), got {units.shape}")
    count = len(np.unique(units))
    if count < 2:
        raise ValueError(f"units: {count} different, at least 2 are needed for an interval")
    if resamples < 1:
        raise ValueError(f"resamples = {resamples}, expected at least 1")
    values = np.array([statistic(rows) for rows in resampled_rows(units, resamples, rng("bootstrap-units", *key))])
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"the statistic is NaN or infinite in {bad} of {resamples} resamples")
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return Bootstrap(low, high, float(values.mean()), count)


def resampled_rows(units: np.ndarray, resamples: int, stream: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows of the images in each resample: as many of the ``units`` (n,) as there are, with replacement."""
    names, members = np.unique(units, return_inverse=True)
    order, sizes = np.argsort(members, kind="stable"), np.bincount(members)
    starts = np.cumsum(sizes) - sizes  # of each unit's images in ``order``
    for _ in range(resamples):
        drawn = stream.integers(len(names), size=len(names))
        lengths = sizes[drawn]
        offsets = np.repeat(starts[drawn] - (np.cumsum(lengths) - lengths), lengths)
        yield order[offsets + np.arange(len(offsets))]
