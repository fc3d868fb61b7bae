"""How often the intervals of a classifier's scores hold the expected score of as many test images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from grasp_bench.contracts.metric import Predictions
from grasp_bench.metrics.classification_intervals import classification_intervals
from grasp_bench.metrics.registry import classifier_metrics

from .worlds import Truth

METRICS = [metric for metric in classifier_metrics() if not metric.counts_classes]


@dataclass(frozen=True)
class Classified:
    """Test sets of one kind, and a classifier whose logits are normal about the class's own."""

    images: tuple[int, ...]
    """Test images of each class."""
    margin: float
    """Logit of the right class above that of others, in standard deviations of each: 5 is near the ceiling."""
    per_patient: int = 1
    """Images of a patient, whose logits have half of their variance in common."""
    across: bool = False
    """Whether a patient's images are of several classes."""

    def drawn(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Labels (n,), probabilities (1, n, classes) and patients (n,) of one test set."""
        stream = np.random.default_rng([*self.images, seed])
        labels = np.repeat(np.arange(len(self.images)), self.images)
        logits = stream.normal(size=(len(labels), len(self.images)))
        patients = None
        if self.per_patient > 1:
            patients = np.arange(len(labels)) // self.per_patient
            if self.across:
                labels = np.random.default_rng(1).permutation(labels)
            logits = (logits + stream.normal(size=(patients[-1] + 1, len(self.images)))[patients]) / np.sqrt(2)
        logits += self.margin * np.eye(len(self.images))[labels]
        raised = np.exp(logits)
        return labels, (raised / raised.sum(axis=1, keepdims=True))[None], patients

    def truth(self, sets: int) -> dict[str, Truth]:
        """Name of a metric → its expectation and deviation over ``sets`` test sets."""
        found = [_values(*self.drawn(10**6 + seed)[:2]) for seed in range(sets)]
        return {name: Truth.of([each[name].mean() for each in found]) for name in found[0]}

    def intervals(self, repeats: int, resamples: int) -> Iterator[dict[str, tuple[float, float] | None]]:
        """The intervals of as many test sets as ``repeats``."""
        groups = np.full(len(self.images), "all classes")
        for seed in range(repeats):
            labels, given, patients = self.drawn(seed)
            yield classification_intervals(
                labels,
                given,
                _values(labels, given),
                groups,
                METRICS,
                key=("calibration", seed),
                units=patients,
                resamples=resamples,
            )["all"]


def _values(labels: np.ndarray, given: np.ndarray) -> dict[str, np.ndarray]:
    """Name of a metric → its values, (1, classes): what scikit-learn takes much longer for."""
    once = Predictions(labels, given[0], np.ones((1, len(labels))))
    return {metric.name: metric.weighted(once) for metric in METRICS}
