"""What is measured of a set of generated images, and how."""

from __future__ import annotations

from dataclasses import dataclass

from grasp_bench.contracts.metric import FeatureMetric


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
    """Resamples of a bootstrap over units; 0 for none."""
    seed: int = 0

    @property
    def least(self) -> int:
        """The smallest number of images of each kind that every metric is defined for."""
        return max([2, *(metric.minimum(self.k) for metric in self.metrics)])
