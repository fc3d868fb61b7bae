"""Bootstrap that resamples whole units, such as patients, rather than images, of two sets at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from grasp_bench.contracts.metric import Metric
from grasp_bench.seeds import rng


@dataclass(frozen=True)
class Resampled:
    """A 95 % percentile interval over real and generated units, moved by what repeated images do to the score."""

    low: float | None
    """None where a resample is too small for the score; ``reason`` says so."""
    high: float | None
    shift: float | None
    """What was added to both ends: the score less its mean over the resamples."""
    real_units: int
    fake_units: int
    resamples: int
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Resamples:
    """Values of resampled images."""

    values: Mapping[str, np.ndarray]
    """Name of a metric → its value in every resample (resamples,). Empty where there is a reason."""
    units: Resampled
    """An interval without ends: the numbers of units and resamples, and the reason why there are no values."""

    def interval(self, metric: Metric, value: float) -> Resampled:
        """The interval of ``metric`` about its ``value``.

        A score that depends on the number of different images, such as a Fréchet distance, lies elsewhere for repeated
        ones: its percentiles are moved so that the mean over the resamples falls on the value, and are clipped to the
        metric's bounds.
        """
        if self.units.reason:
            return self.units
        values = self.values[metric.name]
        shift = value - float(values.mean())
        low, high = (float(np.clip(end + shift, *metric.bounds)) for end in np.percentile(values, [2.5, 97.5]))
        return replace(self.units, low=low, high=high, shift=shift)


def resample(
    units: tuple[np.ndarray, np.ndarray],
    measure: Callable[[np.ndarray, np.ndarray], Mapping[str, float]],
    resamples: int,
    *,
    key: tuple[str | int, ...],
) -> Resamples:
    """Values of resamples of real (n,) and generated (m,) images with these ``units``.

    Either set is resampled by its own units, with replacement (Davison and Hinkley, Bootstrap Methods and their
    Application, 1997, section 3.8); ``measure`` gets the rows of both, and gives nothing where they are too few.
    """
    real, fake = units
    sizes = len(np.unique(real)), len(np.unique(fake))
    found = Resampled(None, None, None, *sizes, resamples)
    if min(sizes) < 2:
        return Resamples({}, replace(found, reason=f"{min(sizes)} unit, at least 2 are needed"))
    rounds = [
        measure(*rows)
        for rows in zip(
            resampled_rows(real, resamples, rng("bootstrap-units", *key)),
            resampled_rows(fake, resamples, rng("bootstrap-fake-units", *key)),
            strict=True,
        )
    ]
    if empty := sum(not each for each in rounds):
        return Resamples({}, replace(found, reason=f"{empty} of {resamples} resamples hold too few images"))
    return Resamples({name: np.array([each[name] for each in rounds]) for name in rounds[0]}, found)


def mean_resamples(each: Sequence[Resamples], metric: Metric) -> Resamples:
    """The mean of ``metric`` over several sets, each resampled by itself: their units add up."""
    units = [one.units for one in each]
    sizes = sum(one.real_units for one in units), sum(one.fake_units for one in units)
    reason = next((one.reason for one in units if one.reason), None)
    values = [] if reason else [one.values[metric.name] for one in each if metric.name in one.values]
    found = Resampled(None, None, None, *sizes, units[0].resamples, reason)
    return Resamples({metric.name: np.mean(values, axis=0)} if values else {}, found)


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
