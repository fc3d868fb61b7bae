"""Metrics of a downstream classifier for each group of classes, and their bootstrap over test images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from grasp_bench.contracts.metric import ClassifierMetric, Predictions
from grasp_bench.metrics._arrays import as_labels
from grasp_bench.metrics.groups import group_members
from grasp_bench.metrics.resampling import resampled_rows
from grasp_bench.seeds import rng

_CHUNK = 2**23  # weights held at once by a bootstrap


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of one group's classes that have test images; the mean over classifiers."""

    values: dict[str, float | None]
    """Name of the metric → its value; None where no class has test images."""
    n: int
    """Test images of the group's classes."""


def class_scores(
    labels: np.ndarray, probabilities: np.ndarray, classes: int, metrics: Sequence[ClassifierMetric]
) -> dict[str, np.ndarray]:
    """Name of a metric → its value for every class by every classifier, (classifiers, classes).

    They are of ``labels`` (n,) and ``probabilities`` (classifiers, n, classes), and NaN for classes without test
    images. Raises ValueError for other shapes, NaN, and labels that are not of a class.
    """
    labels, probabilities, counts = _checked(labels, probabilities, classes)
    given = [Predictions(labels, each) for each in probabilities]
    return {
        metric.name: np.stack([np.where(counts > 0, metric.value(each), np.nan) for each in given])
        for metric in metrics
    }


def classification_scores(
    labels: np.ndarray,
    values: Mapping[str, np.ndarray],
    class_groups: np.ndarray,
    metrics: Sequence[ClassifierMetric],
) -> dict[str, ClassificationScores]:
    """Scores of every group and of "all", from ``labels`` (n,) and what :func:`class_scores` returns of them.

    ``class_groups`` (classes,) names the group of every class. A class without test images counts in no mean.
    """
    counts = np.bincount(labels, minlength=len(class_groups))
    return {
        group: ClassificationScores(
            {metric.name: _mean(_pooled(metric, values[metric.name][:, classes])) for metric in metrics},
            n=int(counts[classes].sum()),
        )
        for group, classes in group_members(class_groups).items()
    }


def classification_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_groups: np.ndarray,
    metrics: Sequence[ClassifierMetric],
    *,
    key: tuple[str | int, ...],
    units: np.ndarray | None = None,
    resamples: int = 1000,
) -> dict[str, dict[str, tuple[float, float]]]:
    """Group → name of a metric → low and high end of its 95 % percentile bootstrap over test images.

    Test images are resampled within their class, so that no class is ever absent; or, where ``units`` (n,) says which
    come or go together, such as those of one patient, by these. A class of which a resample then holds no image
    counts in no mean of that resample; the ends are NaN where no class has one. The stream is ``key``'s. Other
    arguments and errors are those of :func:`class_scores`.
    """
    labels, probabilities, counts = _checked(labels, probabilities, len(class_groups))
    chunks: dict[str, list[np.ndarray]] = {metric.name: [] for metric in metrics}
    for chunk in _weights(labels, counts, units, resamples, rng("bootstrap", *key)):
        given = [Predictions(labels, each, chunk) for each in probabilities]
        for metric in metrics:
            chunks[metric.name].append(np.stack([metric.weighted(each) for each in given]))
    values = {name: np.concatenate(each, axis=1) for name, each in chunks.items()}  # (classifiers, resamples, classes)
    return {
        group: {
            metric.name: _percentiles(_pooled(metric, values[metric.name][:, :, members]).mean(axis=0))
            for metric in metrics
        }
        for group, members in group_members(class_groups).items()
    }


def _pooled(metric: ClassifierMetric, values: np.ndarray) -> np.ndarray:
    """``values`` (..., classes) of one metric, over the classes that are not NaN: (...)."""
    total, there = np.nansum(values, axis=-1), np.isfinite(values).sum(axis=-1)
    divisor = np.ones_like(there) if metric.counts_classes else there
    pooled: np.ndarray = np.divide(total, divisor, out=np.full(total.shape, np.nan), where=there > 0)
    return pooled


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if np.isfinite(values).all() else None


def _weights(
    labels: np.ndarray, counts: np.ndarray, units: np.ndarray | None, resamples: int, stream: np.random.Generator
) -> Iterator[np.ndarray]:
    """How often each image is in a resample that has as many of every class, or whole ``units``: chunks of (r, n)."""
    n = len(labels)
    order = np.argsort(labels, kind="stable")
    starts, sizes = (np.cumsum(counts) - counts)[labels[order]], counts[labels[order]]
    rounds = None if units is None else resampled_rows(units, resamples, stream)
    most = max(1, _CHUNK // n)
    for done in range(0, resamples, most):
        size = min(most, resamples - done)
        rows: Iterable[np.ndarray]
        if rounds is None:
            rows = order[starts + (stream.random((size, n)) * sizes).astype(np.int64)]
        else:
            rows = islice(rounds, size)
        yield np.stack([np.bincount(each, minlength=n) for each in rows]).astype(np.float64)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values[np.isfinite(values)], [2.5, 97.5]) if np.isfinite(values).any() else (np.nan,) * 2
    return float(low), float(high)


def _checked(labels: np.ndarray, probabilities: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and counts of test images per class: (n,), (classifiers, n, classes), (classes,)."""
    n = len(labels)
    labels, probabilities = as_labels("labels", labels, n, classes), np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 3 or probabilities.shape[1:] != (n, classes) or not len(probabilities):
        raise ValueError(f"probabilities: expected shape (classifiers, {n}, {classes}), got {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities: NaN or infinite values")
    counts = np.bincount(labels, minlength=classes)
    return labels, probabilities, counts
