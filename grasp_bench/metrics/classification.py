"""Scores of a downstream classifier, for each group of classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_bench.metrics._arrays import as_labels
from grasp_bench.metrics.groups import group_members
from grasp_bench.seeds import rng


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of one group's classes."""

    balanced_accuracy: float
    """Mean of the classes' recalls."""
    macro_f1: float
    """Mean of the classes' F1, each over the test images of all classes."""
    nonzero_f1: int
    """Classes with an F1 above zero: those the classifier finds at all."""
    n: int
    """Test images of the group's classes."""


def classification_scores(
    labels: np.ndarray, predictions: np.ndarray, class_groups: np.ndarray
) -> dict[str, ClassificationScores]:
    """Scores of every group and of "all", from ``labels`` and ``predictions`` (n,), both class indices.

    ``class_groups`` (classes,) names the group of every class. Recall and F1 are scikit-learn's.

    Raises ValueError for indices that are not of a class, and for a class without test images.
    """
    from sklearn.metrics import precision_recall_fscore_support

    labels, predictions, counts = _checked(labels, predictions, class_groups)
    _, recall, f1, _ = precision_recall_fscore_support(
        labels, predictions, labels=np.arange(len(counts)), average=None, zero_division=0
    )
    return {
        group: ClassificationScores(
            balanced_accuracy=float(recall[classes].mean()),
            macro_f1=float(f1[classes].mean()),
            nonzero_f1=int((f1[classes] > 0).sum()),
            n=int(counts[classes].sum()),
        )
        for group, classes in group_members(class_groups).items()
    }


def classification_intervals(
    labels: np.ndarray,
    predictions: np.ndarray,
    class_groups: np.ndarray,
    *,
    key: tuple[str | int, ...],
    resamples: int = 1000,
) -> dict[str, dict[str, tuple[float, float]]]:
    """Group → score → low and high end of its 95 % percentile bootstrap over test images.

    Test images are resampled within their class, so that no class is ever absent: the predictions of n redrawn ones
    are then multinomial. The stream is ``key``'s. Scores are named as in :class:`ClassificationScores`; arguments and
    errors otherwise as in :func:`classification_scores`.
    """
    labels, predictions, counts = _checked(labels, predictions, class_groups)
    classes = len(counts)
    confusion = np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)
    stream = rng("bootstrap", *key)
    recalls, f1s = np.empty((2, resamples, classes))
    for number in range(resamples):
        redrawn = stream.multinomial(counts, confusion / counts[:, None])  # (classes, classes)
        correct = redrawn.diagonal()
        recalls[number] = correct / counts
        f1s[number] = 2 * correct / (counts + redrawn.sum(axis=0))
    return {
        group: {
            "balanced_accuracy": _percentiles(recalls[:, members].mean(axis=1)),
            "macro_f1": _percentiles(f1s[:, members].mean(axis=1)),
            "nonzero_f1": _percentiles((f1s[:, members] > 0).sum(axis=1)),
        }
        for group, members in group_members(class_groups).items()
    }


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _checked(
    labels: np.ndarray, predictions: np.ndarray, class_groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and the test images of every class: (n,), (n,), (classes,)."""
    n, classes = len(labels), len(class_groups)
    labels, predictions = as_labels("labels", labels, n, classes), as_labels("predictions", predictions, n, classes)
    counts = np.bincount(labels, minlength=classes)
    if not counts.all():
        raise ValueError(f"labels: class {int(np.argmin(counts))} has no test images")
    return labels, predictions, counts
