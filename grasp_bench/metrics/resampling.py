"""Intervals of scores of two sets by a delete-d jackknife: whole units, such as patients, are left out, never repeated.

A bootstrap repeats images, which every score that counts neighbours or different images takes for a lack of variety.
Subsets without replacement have no such fault (Shao and Wu, A General Theory for Jackknife Variance Estimation, Annals
of Statistics 1989; Politis, Romano and Wolf, Subsampling, 1999).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from grasp_bench.contracts.metric import Metric
from grasp_bench.seeds import rng

DELETED = 0.2
"""Share of the units of each class that a resample leaves out: at least one."""
FEWEST = 5
"""Units of a class, in either set, from which there is an interval."""
PER_SUBSET = 2
"""Draws from every subset: what they have in common is due to the subset, and the rest to the draw."""


@dataclass(frozen=True)
class Jackknifed:
    """A 95 % interval of the mean over draws, for other real and generated units of the same kind."""

    low: float | None
    """None where there are too few units or images; ``reason`` says so."""
    high: float | None
    standard_error: float | None
    """Standard error over the units of both sets and the choice of draws."""
    freedom: float | None
    """Effective degrees of freedom of the standard error (Satterthwaite)."""
    real_units: int
    fake_units: int
    resamples: int
    reason: str | None = None


@dataclass(frozen=True)
class Variance:
    """A variance and its degrees of freedom."""

    value: float
    freedom: float


@dataclass(frozen=True, eq=False)
class Jackknife:
    """Variances of the means over draws that are due to which units are there."""

    variances: Mapping[str, tuple[Variance, ...]]
    """Name of a metric → its variances, one of each set. Empty where there is a reason."""
    units: Jackknifed
    """An interval without ends: the numbers of units and resamples, and the reason why there are no variances."""

    def interval(self, metric: Metric, value: float, draws: np.ndarray) -> Jackknifed:
        """The interval of ``metric`` about its ``value``, the mean over ``draws`` (draws,), within its bounds.

        The variance is the sum of those of both sets and of the mean over draws; Student's t has the effective degrees
        of freedom of that sum (Satterthwaite, Biometrics Bulletin 1946). A metric with two bounds has :func:`ends`, and
        one that is better the less it is, without a most, those of a distance.
        """
        if self.units.reason:
            return self.units
        parts = list(self.variances[metric.name])
        if len(draws) > 1:
            parts.append(Variance(float(draws.var(ddof=1)) / len(draws), len(draws) - 1))
        total = sum(part.value for part in parts)
        if total <= 0:
            return replace(self.units, reason="no resample changed the score")
        freedom = total**2 / sum(part.value**2 / part.freedom for part in parts)
        error = math.sqrt(total)
        is_distance = metric.direction == "lower" and math.isinf(metric.bounds[1])
        low, high = (ends_of_distance if is_distance else ends)(value, total, student(freedom), metric.bounds)
        return replace(self.units, low=low, high=high, standard_error=error, freedom=freedom)


def student(freedom: float) -> float:
    """The 97.5th percentile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, max(freedom, 1.0)))


def ends(value: float, variance: float, t: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Ends of the interval that reaches ``t`` standard errors to both sides, within ``bounds``.

    Between two bounds the value is taken for a share of as many independent images as have this variance, so that the
    interval is longer on the side that is further from its bound (Korn and Graubard, Survey Methodology 1998).
    """
    low, high = bounds
    spread = (value - low) * (high - value)
    if math.isfinite(high - low) and spread > 0:
        found = wilson((value - low) / (high - low), spread / variance, t)
        return low + (high - low) * found[0], low + (high - low) * found[1]
    half = t * math.sqrt(variance)
    return max(low, value - half), min(high, value + half)


def ends_of_distance(value: float, variance: float, t: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Ends of the interval of a squared distance: the truths that ``value`` is within ``t`` standard errors of.

    The variance of an estimated squared distance, as FD and MMD² are, rises with the distance itself, from one that is
    there between equal distributions. So a value that is small by chance has a small variance, too, and an interval of
    equal arms ends below the truth too often. Here the variance at a truth θ is ``variance`` (θ + s)/(value + s), with
    s the standard error; the ends solve (value − θ)² = t² times that, as Wilson's do for a share. A value below zero
    has equal arms.
    """
    s = math.sqrt(variance)
    if value <= 0:
        return ends(value, variance, t, bounds)
    from_zero, rise = value + s, t**2 * variance / (value + s)
    middle, half = from_zero + rise / 2 - s, math.sqrt(rise * from_zero + rise**2 / 4)
    return max(bounds[0], middle - half), middle + half


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Ends of the score interval of a ``share`` of ``n`` (Wilson, JASA 1927), where ``z`` standard errors are meant."""
    middle, width = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (middle - width) / (1 + z**2 / n), (middle + width) / (1 + z**2 / n)
    return min(max(low, 0.0), share), max(min(high, 1.0), share)


class Side:
    """One of the two sets: all of its images of the classes that are compared."""

    def __init__(self, labels: np.ndarray, units: np.ndarray) -> None:
        """Take classes (N,) and units (N,) of the images."""
        self.labels = labels
        self.units: np.ndarray
        names, self.units = np.unique(units, return_inverse=True)
        self.count = len(names)
        """Number of units."""
        each = [np.unique(self.units[labels == label]) for label in np.unique(labels)]
        self.strata = each if sum(map(len, each)) == self.count else [np.arange(self.count)]
        """The units of each class, if no unit has images of two classes; else all units together."""

    def kept(self) -> int:
        """Images that every class has in any resample, whichever of its units are left out."""
        least = []
        for number, label in enumerate(np.unique(self.labels)):
            sizes = np.sort(np.unique(self.units[self.labels == label], return_counts=True)[1])
            out = _left_out(len(self.strata[number if len(self.strata) > 1 else 0]))
            least.append(int(sizes[: max(0, len(sizes) - out)].sum()))
        return min(least)

    def subsets(self, resamples: int, stream: np.random.Generator) -> Iterator[np.ndarray]:
        """Rows that remain in each resample."""
        for _ in range(resamples):
            there = np.ones(self.count, dtype=bool)
            for units in self.strata:
                there[stream.choice(units, _left_out(len(units)), replace=False)] = False
            yield np.flatnonzero(there[self.units])

    def factor(self) -> float:
        """Variance of a mean over that of its resamples: kept units over left-out ones."""
        return float(np.mean([(len(units) - (out := _left_out(len(units)))) / out for units in self.strata]))

    def freedom(self) -> float:
        """Units that count alike, less one for each stratum: few large units count for less than their number.

        Images of a unit are taken to move together, so that its share of the variance is the square of its size.
        """
        weights, total = np.square(np.bincount(self.units).astype(float)), 0.0
        for units in self.strata:
            total += float(weights[units].sum() ** 2 / np.square(weights[units]).sum()) - 1
        return max(total, 1.0)


def _left_out(units: int) -> int:
    return max(1, round(DELETED * units))


def jackknife(
    real: Side,
    fake: Side,
    n: int,
    measure: Callable[[np.ndarray, np.ndarray], Mapping[str, float]],
    draw: Callable[[np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray],
    least: int,
    resamples: int,
    *,
    key: tuple[str | int, ...],
) -> Jackknife:
    """Variances of scores of ``n`` images of each kind, due to which units of either set are there.

    In half of the resamples a share of the real units is left out, in the other half of the generated ones. Of what
    remains, two draws of n images, or as many as remain, are measured, each beside a draw of the other set that is the
    same in all resamples. The covariance of the two over resamples is the variance that the subset causes; a draw's own
    choice is not in it. ``draw(rows, labels, n, stream)`` chooses n of some rows, spread evenly over their classes, and
    ``measure`` scores rows of both sets; n is never below ``least``, where there would be no interval.
    """
    found = Jackknifed(None, None, None, None, real.count, fake.count, resamples)
    smallest = min(len(units) for side in (real, fake) for units in side.strata)
    if smallest < FEWEST:
        return Jackknife({}, replace(found, reason=f"n too small ({smallest} units, at least {FEWEST} are needed)"))
    if resamples < 4:
        return Jackknife({}, replace(found, reason=f"{resamples} resamples, at least 4 are needed"))
    classes = len(np.unique(real.labels))
    variances: dict[str, tuple[Variance, ...]] = {}
    for name, side, other in (("real", real, fake), ("fake", fake, real)):
        size = min(n, side.kept() * classes)
        if size < least:
            reason = f"n too small ({size} images of each kind remain, at least {least} are needed)"
            return Jackknife({}, replace(found, reason=reason))
        streams = [rng(f"jackknife-{name}", *key, number) for number in range(PER_SUBSET)]
        everything = np.arange(len(other.labels))
        fixed = [draw(everything, other.labels, size, stream) for stream in streams]
        rounds: list[list[Mapping[str, float]]] = []
        for rows in side.subsets(resamples // 2, rng(f"jackknife-{name}-units", *key)):
            pair = []
            for stream, beside in zip(streams, fixed, strict=True):
                own = draw(rows, side.labels[rows], size, stream)
                pair.append(measure(own, beside) if name == "real" else measure(beside, own))
            rounds.append(pair)
        for metric in rounds[0][0]:
            values = np.array([[each[metric] for each in pair] for pair in rounds])
            variances[metric] = (*variances.get(metric, ()), _variance(values, side))
    return Jackknife(variances, found)


def _variance(values: np.ndarray, side: Side) -> Variance:
    """The variance that ``values`` (resamples, 2) show, with the degrees of freedom of units and of resampling."""
    matrix = np.cov(values, rowvar=False)
    shared, alone = max(0.0, float(matrix[0, 1])), math.sqrt(float(matrix[0, 0] * matrix[1, 1]))
    if shared == 0 or alone == 0:
        return Variance(0.0, side.freedom())
    correlation = min(shared / alone, 1.0)
    # the variance of a sample covariance is (1 + ρ²)/ρ² of its square over the number of pairs less one
    resampling = 2 * (len(values) - 1) * correlation**2 / (1 + correlation**2)
    return Variance(shared * side.factor(), 1 / (1 / side.freedom() + 1 / resampling))


def mean_jackknife(each: Sequence[Jackknife], metric: Metric, shared: bool = False) -> Jackknife:
    """That of the mean of ``metric`` over several sets: units add up.

    There are no variances where sets ``shared`` a unit, since the sum of variances leaves out what they have in common.
    """
    units = [one.units for one in each]
    sizes = sum(one.real_units for one in units), sum(one.fake_units for one in units)
    reason = next((one.reason for one in units if one.reason), None)
    reason = "a unit has images of several classes" if shared else reason
    parts = [] if reason else [one.variances[metric.name] for one in each if metric.name in one.variances]
    found = Jackknifed(None, None, None, None, *sizes, units[0].resamples, reason)
    scale = max(1, len(parts)) ** 2
    return Jackknife(
        {metric.name: tuple(replace(one, value=one.value / scale) for part in parts for one in part)}, found
    )
