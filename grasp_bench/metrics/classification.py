"""Metrics of a downstream classifier for each group of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grasp_bench.contracts.metric import ClassifierMetric, Predictions
from grasp_bench.contracts.task import membership
from grasp_bench.metrics._arrays import as_truth
from grasp_bench.metrics.groups import group_members


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of one group's classes that have test images; the mean over classifiers."""

    values: dict[str, float | None]
    """Name of the metric → its value; None where no class has test images."""
    n: int
    """Test images of the group's classes: those that have any of them."""


def class_scores(
    labels: np.ndarray, probabilities: np.ndarray, classes: int, metrics: Sequence[ClassifierMetric]
) -> dict[str, np.ndarray]:
    """Name of a metric → its value for every class by every classifier, (classifiers, classes).

    They are of ``labels`` (n,), or bool (n, classes) where images may have several, and ``probabilities`` (classifiers,
    n, classes), and NaN for classes without test images. Raises ValueError for other shapes, NaN, and labels that are
    not of a class.
    """
    labels, probabilities, members = checked(labels, probabilities, classes)
    present = members.any(axis=0)
    given = [Predictions(labels, each) for each in probabilities]
    return {
        metric.name: np.stack([np.where(present, metric.value(each), np.nan) for each in given]) for metric in metrics
    }


def classification_scores(
    labels: np.ndarray,
    values: Mapping[str, np.ndarray],
    class_groups: np.ndarray,
    metrics: Sequence[ClassifierMetric],
) -> dict[str, ClassificationScores]:
    """Scores of every group and of "all", from ``labels`` and what :func:`class_scores` returns of them.

    ``class_groups`` (classes,) names the group of every class. A class without test images counts in no mean.
    """
    members = membership(labels, len(class_groups))
    return {
        group: ClassificationScores(
            {metric.name: _mean(pooled(metric, values[metric.name][:, classes])) for metric in metrics},
            n=int(members[:, classes].any(axis=1).sum()),
        )
        for group, classes in group_members(class_groups).items()
    }


def pooled(metric: ClassifierMetric, values: np.ndarray) -> np.ndarray:
    """``values`` (..., classes) of one metric, over the classes that are not NaN: (...)."""
    total, there = np.nansum(values, axis=-1), np.isfinite(values).sum(axis=-1)
    divisor = np.ones_like(there) if metric.counts_classes else there
    pooled: np.ndarray = np.divide(total, divisor, out=np.full(total.shape, np.nan), where=there > 0)
    return pooled


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if np.isfinite(values).all() else None


def checked(labels: np.ndarray, probabilities: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels as given, probabilities (classifiers, n, classes), and which labels each image has, bool (n, classes)."""
    n = len(labels)
    labels, probabilities = as_truth("labels", labels, n, classes), np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 3 or probabilities.shape[1:] != (n, classes) or not len(probabilities):
        raise ValueError(f"probabilities: expected shape (classifiers, {n}, {classes}), got {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities: NaN or infinite values")
    return labels, probabilities, membership(labels, classes)
