"""What is measured of a set of generated images and how, and what one metric gives for one group or class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grasp_bench.contracts.metric import FeatureMetric
from grasp_bench.metrics.resampling import Jackknifed

Scope = Literal["group", "class mean", "worst class", "class"]


@dataclass(frozen=True)
class Protocol:
    """What is measured, and how."""

    metrics: tuple[FeatureMetric, ...]
    n: int | None = None
    """Images of each kind for every group; by default as many as all can give."""
    draws: int = 20
    """Draws of equal counts that a score is the mean of."""
    k: int = 5
    """Neighbours behind precision, recall, density and coverage."""
    resamples: int = 0
    """Resamples that leave out units, behind an interval; 0 for none."""
    seed: int = 0

    @property
    def least(self) -> int:
        """The smallest number of images of each kind that every metric is defined for."""
        return max([2, *(metric.minimum(self.k) for metric in self.metrics)])


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
    spread: float | None = None
    """Standard deviation of the value over the draws, which share most of their images: no interval of anything. None
    for a single draw."""
    draws: int = 0
    standard_error: float | None = None
    """Standard error of a group's value, the mean over draws, for other images of the kind; None where unknown."""
    exact: tuple[float, float] | None = None
    """Mean of each end of the metric's own 95 % interval, where it has one."""
    bootstrap: Jackknifed | None = None
    """95 % interval over units, where resamples were asked for."""
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
