"""Scores of a downstream classifier, for each group of classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from grasp_bench.metrics._arrays import as_labels
from grasp_bench.metrics.bootstrap import redrawn
from grasp_bench.metrics.groups import group_members
from grasp_bench.metrics.ranking import ranking
from grasp_bench.seeds import rng

_CHUNK = 2**23  # weights held at once by a bootstrap


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of one group's classes that have test images, or None where none has; the mean over classifiers."""

    balanced_accuracy: float | None
    """Mean of the classes' recalls."""
    macro_f1: float | None
    """Mean of the classes' F1, each over the test images of all classes."""
    nonzero_f1: float | None
    """Classes with an F1 above zero: those the classifier finds at all."""
    auroc: float | None
    """Mean over the classes of the area under the ROC curve, of the class against all others."""
    average_precision: float | None
    """Mean over the classes of the average precision, of the class against all others."""
    n: int
    """Test images of the group's classes."""


SCORES = tuple(field.name for field in fields(ClassificationScores) if field.name != "n")


def classification_scores(
    labels: np.ndarray, probabilities: np.ndarray, class_groups: np.ndarray
) -> dict[str, ClassificationScores]:
    """Scores of every group and of "all", from ``labels`` (n,) and ``probabilities`` (classifiers, n, classes).

    ``class_groups`` (classes,) names the group of every class. What is predicted is the most probable class. All are
    scikit-learn's.

    A class without test images counts in no mean. Raises ValueError for other shapes, NaN, and labels that are not of a
    class.
    """
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

    labels, probabilities, counts = _checked(labels, probabilities, class_groups)
    values = {score: np.full((len(probabilities), len(counts)), np.nan) for score in SCORES}
    there = np.flatnonzero(counts)
    for number, each in enumerate(probabilities):
        _, recall, f1, _ = precision_recall_fscore_support(
            labels, each.argmax(axis=1), labels=np.arange(len(counts)), average=None, zero_division=0
        )
        by_class = {"balanced_accuracy": recall, "macro_f1": f1, "nonzero_f1": f1 > 0}
        for score, found in by_class.items():
            values[score][number, there] = found[there]
        for index in there:
            values["auroc"][number, index] = roc_auc_score(labels == index, each[:, index])
            values["average_precision"][number, index] = average_precision_score(labels == index, each[:, index])
    return {
        group: ClassificationScores(
            **{score: _mean(_pooled(score, values[score][:, classes])) for score in SCORES},
            n=int(counts[classes].sum()),
        )
        for group, classes in group_members(class_groups).items()
    }


def classification_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_groups: np.ndarray,
    *,
    key: tuple[str | int, ...],
    units: np.ndarray | None = None,
    resamples: int = 1000,
) -> dict[str, dict[str, tuple[float, float]]]:
    """Group → score → low and high end of its 95 % percentile bootstrap over test images.

    Test images are resampled within their class, so that no class is ever absent; or, where ``units`` (n,) says which
    come or go together, such as those of one patient, by these. A class of which a resample then holds no image
    counts in no mean of that resample; the ends are NaN where no class has one. The stream is ``key``'s. Scores are
    named as in :class:`ClassificationScores`; arguments and errors otherwise as in :func:`classification_scores`.
    """
    labels, probabilities, counts = _checked(labels, probabilities, class_groups)
    stream = rng("bootstrap", *key)
    weights = (
        _within_classes(labels, counts, resamples, stream) if units is None else _by_units(units, resamples, stream)
    )
    values: dict[str, list[np.ndarray]] = {score: [] for score in SCORES}
    for chunk in weights:
        for score, each in _weighted(labels, probabilities, chunk, len(counts)).items():
            values[score].append(each)
    joined = {
        score: np.concatenate(each, axis=1) for score, each in values.items()
    }  # (classifiers, resamples, classes)
    return {
        group: {score: _percentiles(_pooled(score, joined[score][:, :, members]).mean(axis=0)) for score in SCORES}
        for group, members in group_members(class_groups).items()
    }


def _pooled(score: str, values: np.ndarray) -> np.ndarray:
    """``values`` (..., classes) of one score, over the classes that are there: (...)."""
    total, there = np.nansum(values, axis=-1), np.isfinite(values).sum(axis=-1)
    divisor = np.ones_like(there) if score == "nonzero_f1" else there
    pooled: np.ndarray = np.divide(total, divisor, out=np.full(total.shape, np.nan), where=there > 0)
    return pooled


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if np.isfinite(values).all() else None


def _weighted(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    """Scores of every class with images counted ``weights`` (r, n) times: (classifiers, r, classes), NaN if absent."""
    shape = (len(probabilities), len(weights), classes)
    found = {score: np.empty(shape) for score in SCORES}
    for number, each in enumerate(probabilities):
        predicted = each.argmax(axis=1)
        for index in range(classes):
            actual = weights[:, labels == index].sum(axis=1)
            correct = weights[:, (labels == index) & (predicted == index)].sum(axis=1)
            claimed = weights[:, predicted == index].sum(axis=1)
            at = (number, slice(None), index)
            with np.errstate(invalid="ignore"):
                found["balanced_accuracy"][at] = correct / actual
                found["macro_f1"][at] = np.where(actual > 0, 2 * correct / (actual + claimed), np.nan)
            found["nonzero_f1"][at] = np.where(actual > 0, correct > 0, np.nan)
            found["auroc"][at], found["average_precision"][at] = ranking(labels == index, each[:, index], weights)
    return found


def _within_classes(
    labels: np.ndarray, counts: np.ndarray, resamples: int, stream: np.random.Generator
) -> Iterator[np.ndarray]:
    """How often each image is in a resample that has as many of every class: chunks of (r, n)."""
    order = np.argsort(labels, kind="stable")
    starts, sizes = (np.cumsum(counts) - counts)[labels[order]], counts[labels[order]]
    for size in _chunks(resamples, len(labels)):
        rows = order[starts + (stream.random((size, len(labels))) * sizes).astype(np.int64)]
        yield np.stack([np.bincount(each, minlength=len(labels)) for each in rows]).astype(np.float64)


def _by_units(units: np.ndarray, resamples: int, stream: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each image is in a resample of whole ``units`` (n,): chunks of (r, n)."""
    rounds = redrawn(units, resamples, stream)
    for size in _chunks(resamples, len(units)):
        yield np.stack([np.bincount(next(rounds), minlength=len(units)) for _ in range(size)]).astype(np.float64)


def _chunks(resamples: int, n: int) -> Iterator[int]:
    most = max(1, _CHUNK // n)
    while resamples > 0:
        yield min(most, resamples)
        resamples -= most


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values[np.isfinite(values)], [2.5, 97.5]) if np.isfinite(values).any() else (np.nan,) * 2
    return float(low), float(high)


def _checked(
    labels: np.ndarray, probabilities: np.ndarray, class_groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and the test images of every class: (n,), (classifiers, n, classes), (classes,)."""
    n, classes = len(labels), len(class_groups)
    labels, probabilities = as_labels("labels", labels, n, classes), np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 3 or probabilities.shape[1:] != (n, classes) or not len(probabilities):
        raise ValueError(f"probabilities: expected shape (classifiers, {n}, {classes}), got {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities: NaN or infinite values")
    counts = np.bincount(labels, minlength=classes)
    return labels, probabilities, counts
