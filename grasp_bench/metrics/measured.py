"""What one metric gives for one group or class, over draws of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from grasp_bench.contracts.metric import FeatureMetric
from grasp_bench.metrics.resampling import Resampled

Scope = Literal["group", "class mean", "worst class", "class"]


@dataclass(frozen=True)
class Measured:
    """One metric of a group, of a class, or of a group's classes together, over draws of images."""

    metric: FeatureMetric
    scope: Scope
    name: str
    """Name of the group, or of the class."""
    n: int
    """Images of each kind; where there is no value, as many as there are."""
    value: float | None = None
    """Mean over the draws; None where n is too small."""
    reference: float | None = None
    """Real reference: the value of held-out real images in place of generated ones."""
    low: float | None = None
    """2.5th percentile of the value over the draws."""
    high: float | None = None
    """97.5th percentile of the value over the draws."""
    draws: int = 0
    standard_error: float | None = None
    """Standard error of a group's value for the images of one draw, where the metric knows it."""
    exact: tuple[float, float] | None = None
    """Mean of each end of the metric's own 95 % interval, where it has one."""
    bootstrap: Resampled | None = None
    classes: int | None = None
    """Number of classes of a group."""
    classes_scored: int | None = None
    """Number of classes that a class mean and a worst class are of."""
    worst: str | None = None
    """Name of the worst class."""

    @property
    def excess(self) -> float | None:
        """Value − real reference."""
        return None if self.value is None or self.reference is None else self.value - self.reference


def over_draws(metric: FeatureMetric, scope: Scope, name: str, n: int, pairs: np.ndarray) -> Measured:
    """The score of ``pairs`` (draws, 2): values and real references."""
    value, reference = pairs.mean(axis=0).tolist()
    low, high = np.percentile(pairs[:, 0], [2.5, 97.5]).tolist()
    return Measured(metric, scope, name, n, value, reference, low, high, len(pairs))
