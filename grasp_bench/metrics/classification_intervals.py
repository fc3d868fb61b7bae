"""95 % intervals of a classifier's scores, for other test images or patients of the same kind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from grasp_bench.contracts.metric import ClassifierMetric, Predictions
from grasp_bench.metrics.classification import checked, pooled
from grasp_bench.metrics.groups import group_members
from grasp_bench.metrics.resampling import Side, ends, student, wilson
from grasp_bench.seeds import rng

FEWEST = 4
"""Units of every class of a group from which its scores have intervals."""
PRIOR = 1
"""Units for which the variance of a share like the group's counts beside the variance that a class shows."""
_CHUNK = 2**23  # weights held at once by a bootstrap


def classification_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    values: Mapping[str, np.ndarray],
    class_groups: np.ndarray,
    metrics: Sequence[ClassifierMetric],
    *,
    key: tuple[str | int, ...],
    units: np.ndarray | None = None,
    resamples: int = 1000,
) -> dict[str, dict[str, tuple[float, float] | None]]:
    """Group → name of a metric → low and high end of its 95 % interval; None where there is none.

    ``values`` are what :func:`class_scores` returns of the ``labels`` and ``probabilities``. Where images may have
    several labels, all units are resampled together. The variance is that over
    resamples of test images, or of ``units`` (n,), which come or go together as those of one patient do. Each draws
    one unit fewer than there are, with replacement, within the class unless a unit has images of several classes, which
    makes the variance unbiased (Rao and Wu, Resampling Inference with Complex Survey Data, JASA 1988). The stream is
    ``key``'s. There is no interval where a class of the group has fewer than :data:`FEWEST` units, and none of a metric
    that counts classes: a class that was not found once says nothing of how rarely it is found. The interval is about
    the mean over the given classifiers; other trainings of them are not in it. Errors are those of
    :func:`class_scores`.
    """
    labels, probabilities, of_classes = checked(labels, probabilities, len(class_groups))
    strata = labels if labels.ndim == 1 else np.zeros(len(labels), dtype=np.int64)
    side, present = Side(strata, np.arange(len(labels)) if units is None else units), np.asarray(of_classes.any(axis=0))
    asked = [metric for metric in metrics if not metric.counts_classes]
    chunks: dict[str, list[np.ndarray]] = {metric.name: [] for metric in asked}
    for chunk in _weights(side, resamples, rng("bootstrap", *key)):
        given = [Predictions(labels, each, chunk) for each in probabilities]
        for metric in asked:
            chunks[metric.name].append(np.stack([metric.weighted(each) for each in given]))
    found = {name: np.concatenate(each, axis=1) for name, each in chunks.items()}  # (classifiers, resamples, classes)
    number, alike = _units(side, of_classes)
    intervals: dict[str, dict[str, tuple[float, float] | None]] = {}
    for group, members in group_members(class_groups).items():
        there = members[present[members]]
        enough = len(there) > 0 and number[there].min() >= FEWEST
        intervals[group] = {metric.name: None for metric in metrics} | {
            metric.name: _interval(
                metric, values[metric.name][:, there], found[metric.name][:, :, there], number[there], alike[there]
            )
            for metric in asked
            if enough
        }
    return intervals


def _interval(
    metric: ClassifierMetric, values: np.ndarray, resampled: np.ndarray, number: np.ndarray, alike: np.ndarray
) -> tuple[float, float]:
    """The interval of a group, from ``values`` (classifiers, classes) and those of resamples (classifiers, r, classes).

    ``number`` and ``alike`` (classes,) are the units of each class and how many of equal size they are worth. Few units
    may show no variance where there is some: each class's is drawn towards that of a share like the group's. A bounded
    score is then a share of as many units as have its variance, of which Wilson's interval is taken with Student's t
    (effective sample size, Korn and Graubard, Survey Methodology 1998; degrees of freedom by Satterthwaite).
    """
    value, classes = float(values.mean()), len(number)
    over = pooled(metric, resampled).mean(axis=0)
    over = over[np.isfinite(over)]
    variance = float(over.var(ddof=1))
    each = np.nanvar(resampled.mean(axis=0), axis=0)  # of every class
    counted = each if each.any() else np.ones(classes)
    freedom = float(counted.sum() ** 2 / (counted**2 / np.maximum(alike - 1, 1)).sum())
    t = student(1 / (1 / freedom + 1 / (len(over) - 1)))
    low, high = metric.bounds
    if not math.isfinite(high - low):
        return ends(value, variance, t, metric.bounds)
    binomial = (value - low) * (high - value) / number
    missed = np.maximum(0, binomial - each) * PRIOR / (number + PRIOR)
    variance += float(missed.sum()) / classes**2
    if variance > 0 and low < value < high:
        return ends(value, variance, t, metric.bounds)
    found = wilson((value - low) / (high - low), float(classes**2 / (1 / number).sum()), t)
    return low + (high - low) * found[0], low + (high - low) * found[1]


def _weights(side: Side, resamples: int, stream: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each image is in a resample: chunks of (r, n). A unit that is alone in its stratum is in all."""
    strata = [members for members in side.strata if len(members) > 1]
    alone = np.array([members[0] for members in side.strata if len(members) == 1], dtype=np.int64)
    sizes = np.repeat([len(members) for members in strata], [len(members) - 1 for members in strata])
    starts = np.repeat(np.cumsum([0, *map(len, strata)])[:-1], [len(members) - 1 for members in strata])
    order = np.concatenate(strata) if strata else alone
    most = max(1, _CHUNK // len(side.units))
    for done in range(0, resamples, most):
        size = min(most, resamples - done)
        drawn = order[starts + (stream.random((size, len(sizes))) * sizes).astype(np.int64)]
        times = np.stack([np.bincount(each, minlength=side.count) for each in drawn]).astype(np.float64)
        times[:, alone] = 1
        yield times[:, side.units]


def _units(side: Side, of_classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Units of every class, and how many of equal size they are worth, as their squared sizes say: (classes,) each.

    ``of_classes``, bool (n, classes), says which labels each image has.
    """
    sizes = np.zeros((of_classes.shape[1], side.count))
    images, classes = np.nonzero(of_classes)
    np.add.at(sizes, (classes, side.units[images]), 1)
    weights = sizes**2
    with np.errstate(invalid="ignore"):
        return (sizes > 0).sum(axis=1), weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
