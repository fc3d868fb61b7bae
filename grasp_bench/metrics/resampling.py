"""Bootstrap of two sets of images at once, each by its own units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grasp_bench.metrics.bootstrap import redrawn
from grasp_bench.seeds import rng

BOUNDS = {
    "fd": (0.0, np.inf),
    "fd_inf": (-np.inf, np.inf),
    "kid": (-np.inf, np.inf),
    "density": (0.0, np.inf),
    "vendi": (1.0, np.inf),
}
"""What a score can be; others are shares."""


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
class Redraws:
    """Scores of resampled images."""

    values: Mapping[str, np.ndarray]
    """Score → its value in every resample: (resamples,). Empty where there is a ``reason``."""
    real_units: int
    fake_units: int
    resamples: int
    reason: str | None = None

    def interval(self, score: str, value: float) -> Resampled:
        """The interval of ``score`` about its ``value``.

        A score of repeated images lies elsewhere than that of different ones (see
        :func:`~grasp_bench.metrics.bootstrap.bootstrap`): its percentiles are moved so that the mean over the
        resamples falls on the value, and end where the score does.
        """
        if self.reason:
            return Resampled(None, None, None, self.real_units, self.fake_units, self.resamples, self.reason)
        values = self.values[score]
        shift = value - float(values.mean())
        least, most = BOUNDS.get(score, (0.0, 1.0))
        low, high = (float(np.clip(end + shift, least, most)) for end in np.percentile(values, [2.5, 97.5]))
        return Resampled(low, high, shift, self.real_units, self.fake_units, self.resamples)


def redraw(
    units: tuple[np.ndarray, np.ndarray],
    measure: Callable[[np.ndarray, np.ndarray], Mapping[str, float]],
    resamples: int,
    *,
    key: tuple[str | int, ...],
) -> Redraws:
    """Scores of resamples of real (n,) and generated (m,) images with these ``units``.

    Either set is resampled by its own units, with replacement; ``measure`` gets the rows of both, and gives nothing
    where they are too few.
    """
    real, fake = units
    sizes = len(np.unique(real)), len(np.unique(fake))
    if min(sizes) < 2:
        return Redraws({}, *sizes, resamples, f"{min(sizes)} unit, at least 2 are needed")
    rounds = [
        measure(*rows)
        for rows in zip(
            redrawn(real, resamples, rng("bootstrap-units", *key)),
            redrawn(fake, resamples, rng("bootstrap-fake-units", *key)),
            strict=True,
        )
    ]
    if empty := sum(not each for each in rounds):
        return Redraws({}, *sizes, resamples, f"{empty} of {resamples} resamples hold too few images")
    return Redraws({score: np.array([each[score] for each in rounds]) for score in rounds[0]}, *sizes, resamples)


def mean_redraws(each: Sequence[Redraws]) -> Redraws:
    """The mean over several sets, each resampled by itself: their units add up."""
    first = each[0]
    sizes = sum(one.real_units for one in each), sum(one.fake_units for one in each)
    if reason := next((one.reason for one in each if one.reason), None):
        return Redraws({}, *sizes, first.resamples, reason)
    means = {score: np.mean([one.values[score] for one in each], axis=0) for score in first.values}
    return Redraws(means, *sizes, first.resamples)
