"""How well a score ranks images of a class above others, with every image counted a number of times.

The values are scikit-learn's with ``sample_weight``, for many sets of weights at once: a bootstrap needs thousands.
"""

from __future__ import annotations

import numpy as np


def ranking(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision of ``scores`` (n,) for ``positive`` (n,) images.

    (r,) each, for ``weights`` (r, n). The area is the probability that a positive image scores above a negative one;
    equal scores count half (Hanley and McNeil, Radiology 1982). The average precision is Σ (Rₖ − Rₖ₋₁) Pₖ over the
    thresholds k, with recall R and precision P. NaN where no positive image has weight, and for the area where no
    negative one has.
    """
    hits, misses = _by_threshold(positive, scores, weights)
    return _area(hits, misses), _average_precision(hits, misses)


def _area(hits: np.ndarray, misses: np.ndarray) -> np.ndarray:
    below = misses[:, ::-1].cumsum(axis=1)[:, ::-1] - misses / 2
    with np.errstate(invalid="ignore"):
        area: np.ndarray = (hits * below).sum(axis=1) / (hits.sum(axis=1) * misses.sum(axis=1))
    return area


def _average_precision(hits: np.ndarray, misses: np.ndarray) -> np.ndarray:
    found = hits.cumsum(axis=1)
    claimed = found + misses.cumsum(axis=1)
    precision = np.divide(found, claimed, out=np.zeros_like(found), where=claimed > 0)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = (hits * precision).sum(axis=1) / hits.sum(axis=1)
    return mean


def _by_threshold(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positive and of negative images at every different score, the highest first: (r, t) each."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    ranked, hit = weights[:, order], positive[order]
    return np.add.reduceat(ranked * hit, starts, axis=1), np.add.reduceat(ranked * ~hit, starts, axis=1)
