"""The built-in metrics of a classifier; values of the images themselves are scikit-learn's."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from grasp_bench.contracts.metric import ClassifierMetric, Predictions

_HELD = 2**17  # numbers that are summed at once, which fit into a processor's cache


class _BuiltIn(ClassifierMetric):
    """What the built-in metrics declare alike."""

    version = "1"
    direction = "higher"
    bounds = (0.0, 1.0)
    of_sets = True


class BalancedAccuracy(_BuiltIn):
    """Balanced accuracy: mean of the classes' recalls"""

    name = "accuracy"
    label = "Balanced accuracy"
    of_sets = False  # by recall alone, who claims every label of every image would win
    position = 210
    definition = "Balanced accuracy on real test images, the mean of the classes' recalls, of a downstream classifier."
    misleads = (
        "It is the network's and the recipe's as well as the images'. A classifier that predicts rare classes too "
        "often gains in the tail what it loses in the head; below about 30 test images per group its "
        "interval says little."
    )
    source = "scikit-learn; as a score of generated images (CAS) Ravuri & Vinyals, NeurIPS 2019"

    def value(self, given: Predictions) -> np.ndarray:
        return given.once(_recall_and_f1)[0]

    def weighted(self, given: Predictions) -> np.ndarray:
        actual, _, correct = given.once(_counts)
        with np.errstate(invalid="ignore"):
            recall: np.ndarray = correct / actual
        return recall


class MacroF1(_BuiltIn):
    """Macro F1: mean of the classes' F1, 2 PR / (P + R)

    Each is over the test images of all classes: unlike accuracy it falls where a class is predicted too often.
    """

    name = "f1"
    label = "Macro F1"
    position = 220
    definition = "Mean over classes of F1 on real test images, of a downstream classifier."
    misleads = "It depends on how often each class is in the test set, through precision."
    source = "scikit-learn"

    def value(self, given: Predictions) -> np.ndarray:
        return given.once(_recall_and_f1)[1]

    def weighted(self, given: Predictions) -> np.ndarray:
        actual, claimed, correct = given.once(_counts)
        with np.errstate(invalid="ignore"):
            return np.where(actual > 0, 2 * correct / (actual + claimed), np.nan)


class ClassesWithNonzeroF1(_BuiltIn):
    """Classes with an F1 above zero: those that a classifier finds at all"""

    name = "nonzero_f1"
    label = "Classes with nonzero F1"
    bounds = (0.0, math.inf)
    position = 230
    counts_classes = True
    definition = "Classes with an F1 above zero on real test images: those that a downstream classifier finds at all."
    misleads = "One right guess is enough."
    source = "ours"

    def value(self, given: Predictions) -> np.ndarray:
        return given.once(_recall_and_f1)[1] > 0

    def weighted(self, given: Predictions) -> np.ndarray:
        actual, _, correct = given.once(_counts)
        return np.where(actual > 0, correct > 0, np.nan)


class AreaUnderROC(_BuiltIn):
    """AUROC: mean over classes of the area under the ROC curve, of the class against all others

    The probability that an image of the class gets more of its class's probability than an image of another does; ties
    count half.
    """

    name = "auroc"
    label = "AUROC"
    position = 240
    definition = "Mean over classes of the area under the ROC curve on real test images, of a downstream classifier."
    misleads = (
        "For rare classes it is close to 1 long before the class is found, since nearly all other images are easy "
        "negatives: read it with average precision."
    )
    source = "Hanley & McNeil, Radiology 1982; scikit-learn"

    def value(self, given: Predictions) -> np.ndarray:
        from sklearn.metrics import roc_auc_score

        return _of_each(given, roc_auc_score)

    def weighted(self, given: Predictions) -> np.ndarray:
        return given.once(_ranked)[0]


class AveragePrecision(_BuiltIn):
    """Average precision: mean over classes of Σₖ (Rₖ − Rₖ₋₁) Pₖ over thresholds, of the class against all others"""

    name = "average_precision"
    label = "Average precision"
    position = 250
    definition = "Mean over classes of the average precision on real test images, of a downstream classifier."
    misleads = (
        "Its value for guessing is the class's share of the test set: compare methods within a group, not groups."
    )
    source = "scikit-learn"

    def value(self, given: Predictions) -> np.ndarray:
        from sklearn.metrics import average_precision_score

        return _of_each(given, average_precision_score)

    def weighted(self, given: Predictions) -> np.ndarray:
        return given.once(_ranked)[1]


def _recall_and_f1(given: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Recall and F1 of every class, (classes,) each, of what is predicted."""
    from sklearn.metrics import precision_recall_fscore_support

    _, recall, f1, _ = precision_recall_fscore_support(
        given.labels, given.predicted, labels=np.arange(given.classes), average=None, zero_division=0
    )
    return recall, f1


def _of_each(given: Predictions, score: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
    """``score`` of every class that has images against all others, by its probability: (classes,)."""
    values = np.full(given.classes, np.nan)
    for index in range(given.classes):
        if (positive := _marked(given.labels, index)).any():
            values[index] = score(positive, given.probabilities[:, index])
    return values


def _marked(labels: np.ndarray, index: int) -> np.ndarray:
    """Which images have a label, bool (n,), of class indices (n,) or of sets, bool (n, classes)."""
    found: np.ndarray = labels[:, index] if labels.ndim == 2 else labels == index
    return found


def _counts(given: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight of the images that are of a class, that are predicted to be, and both: (r, classes) each."""
    assert given.weights is not None
    weights, labels, predicted = given.weights, given.labels, given.predicted

    def total(classes: np.ndarray) -> np.ndarray:
        return np.stack([weights[:, _marked(classes, index)].sum(axis=1) for index in range(given.classes)], axis=1)

    correct = predicted & labels if labels.ndim == 2 else np.where(predicted == labels, predicted, -1)
    return total(labels), total(predicted), total(correct)


def _ranked(given: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision of every class in every resample: (r, classes) each."""
    assert given.weights is not None
    weights = np.ascontiguousarray(given.weights.T)
    found = [
        ranking(_marked(given.labels, index), given.probabilities[:, index], weights) for index in range(given.classes)
    ]
    areas, precisions = (np.stack(each, axis=1) for each in zip(*found, strict=True))
    return areas, precisions


def ranking(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision of ``scores`` (n,) for ``positive`` (n,) images: (r,) each.

    The values are scikit-learn's with ``sample_weight``, for many ``weights`` (n, r) at once: a bootstrap needs
    thousands. The area is the probability that a positive image scores above a negative one;
    equal scores count half (Hanley and McNeil, Radiology 1982). The average precision is Σ (Rₖ − Rₖ₋₁) Pₖ over the
    thresholds k, with recall R and precision P. NaN where no positive image has weight, and for the area where no
    negative one has.

    Only thresholds at the score of a positive image add anything, so that weights are summed between those alone.
    """
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))  # of every different score, the highest first
    hit = positive[order]
    with np.errstate(invalid="ignore"):
        if not hit.any():
            nothing = np.full(weights.shape[1], np.nan)
            return nothing, nothing
        at = np.unique(np.searchsorted(starts, np.flatnonzero(hit), side="right") - 1)  # thresholds of positive images
        ends = np.append(starts, len(scores))[at + 1]
        found = np.add.reduceat(weights[order[hit]], np.searchsorted(np.flatnonzero(hit), starts[at]), axis=0)
        bounds = np.union1d([0], np.concatenate([starts[at], ends[ends < len(scores)]]))
        sums = np.add.reduceat(weights[order], bounds, axis=0)  # of all images, between the bounds
        here, whole = sums[np.searchsorted(bounds, starts[at])], sums.sum(axis=0)
        claimed = sums.cumsum(axis=0)[np.searchsorted(bounds, starts[at])]
        hits, above = found.sum(axis=0), found.cumsum(axis=0)  # (r,), (thresholds, r)
        misses = here - found
        below = whole - claimed - (hits - above) + misses / 2
        area = (found * below).sum(axis=0) / (hits * (whole - hits))
        precision = np.divide(above, claimed, out=np.zeros_like(above), where=claimed > 0)
        return area, _sums(found * precision, at, len(starts)) / hits


def _sums(values: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
    """Sums (r,) of ``values`` (k, r) that are at the positions ``at`` (k,) of ``size``, and zero at all others.

    Rounding is that of a sum over all positions, which scores of earlier records have.
    """
    rows = max(1, _HELD // size)
    held, found = np.zeros((rows, size)), np.empty(values.shape[1])
    for start in range(0, values.shape[1], rows):
        part = values[:, start : start + rows]
        held[: part.shape[1], at] = part.T
        found[start : start + rows] = held[: part.shape[1]].sum(axis=1)
    return found
