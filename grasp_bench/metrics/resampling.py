"""Bootstrap of two sets of images at once, each by its own units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from grasp_bench.metrics.bootstrap import redrawn
from grasp_bench.seeds import rng

BOUNDS = {"fd": (0.0, np.inf), "density": (0.0, np.inf), "vendi": (1.0, np.inf), "kid": (-np.inf, np.inf)}
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


def resampled(
    units: tuple[np.ndarray, np.ndarray],
    measure: Callable[[np.ndarray, np.ndarray], Mapping[str, float]],
    values: Mapping[str, float],
    resamples: int,
    *,
    key: tuple[str | int, ...],
) -> dict[str, Resampled]:
    """Score → interval about its value in ``values``, of real (n,) and generated (m,) images with these ``units``.

    Either set is resampled by its own units, with replacement; ``measure`` gets the rows of both, and gives nothing
    where they are too few. A score of repeated images lies elsewhere than that of different ones (see
    :func:`~grasp_bench.metrics.bootstrap.bootstrap`): its percentiles are moved so that the mean over the resamples
    falls on the value, and end where the score does.
    """
    real, fake = units
    sizes = len(np.unique(real)), len(np.unique(fake))
    if min(sizes) < 2:
        reason = f"{min(sizes)} unit, at least 2 are needed"
        return {score: Resampled(None, None, None, *sizes, resamples, reason) for score in values}
    rounds = [
        measure(*rows)
        for rows in zip(
            redrawn(real, resamples, rng("bootstrap-units", *key)),
            redrawn(fake, resamples, rng("bootstrap-fake-units", *key)),
            strict=True,
        )
    ]
    if empty := sum(not each for each in rounds):
        reason = f"{empty} of {resamples} resamples hold too few images"
        return {score: Resampled(None, None, None, *sizes, resamples, reason) for score in values}
    found = {}
    for score, value in values.items():
        values_redrawn = np.array([each[score] for each in rounds])
        shift = value - float(values_redrawn.mean())
        least, most = BOUNDS.get(score, (0.0, 1.0))
        low, high = (float(np.clip(end + shift, least, most)) for end in np.percentile(values_redrawn, [2.5, 97.5]))
        found[score] = Resampled(low, high, shift, *sizes, resamples)
    return found
