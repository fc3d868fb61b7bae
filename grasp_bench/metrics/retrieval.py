"""Image Retrieval Score: how much of the training set generated images reach."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from grasp_bench.contracts.metric import FeatureMetric, Sets
from grasp_bench.metrics._arrays import as_pair
from grasp_bench.metrics._distances import nearest

_TAIL = 0.025  # probability beyond each end of an interval
_NEGLIGIBLE = 1e-60  # probabilities below it are taken for zero


class ImageRetrievalScore(FeatureMetric):
    """Image retrieval score: training images that endless generation would reach

    If n images fall on s training images at random, s (1 − (1 − 1/s)ⁿ) different ones are expected; the score is ŝ/N,
    with ŝ the s for which these are as many as were found. Without training images it is of the real images of a draw.
    Its own interval in JSON holds if endless generation reaches each of these training images equally often: it is no
    interval of diversity.
    """

    name = "irs"
    version = "1"
    label = "IRS"
    worse_with = "collapse"
    direction = "higher"
    bounds = (0.0, 1.0)
    family = "irs"
    position = 90
    uses_train = True
    resampled = False
    definition = (
        "Image retrieval score: the share of training images that endless generation would reach as nearest neighbours."
    )
    misleads = (
        "It falls short where images are unevenly spread or few, for real images as well: prefer the adjusted score. "
        "Where no training image was reached twice it is 1, and in classes of few training images it is near 1 for "
        "every method."
    )
    source = "Dombrowski et al., CVPR 2025"

    def value(self, given: Sets) -> float:
        return given.once(_retrieved).irs_inf

    def interval(self, given: Sets) -> tuple[float, float]:
        found = given.once(_retrieved)
        return found.low, found.high


class AdjustedRetrievalScore(FeatureMetric):
    """Image retrieval score over that of as many held-out real images"""

    name = "irs_adjusted"
    version = "1"
    label = "IRS, adjusted"
    worse_with = "collapse"
    direction = "higher"
    bounds = (0.0, math.inf)
    family = "irs"
    position = 100
    uses_train = True
    resampled = False
    definition = (
        "The image retrieval score over that of held-out real images at the same count: 1 is as varied as real images, "
        "and values above occur."
    )
    misleads = (
        "It is a ratio of two noisy numbers, and with a handful of training images it takes a handful of values; "
        "copies reach training images too."
    )
    source = "Dombrowski et al., CVPR 2025; at equal counts by rarefaction, Hurlbert, Ecology 1971"

    def value(self, given: Sets) -> float | None:
        return given.once(_retrieved).adjusted


@dataclass(frozen=True)
class RetrievalScore:
    """Shares of N training images that generated ones reach; each is in (0, 1] but ``adjusted``, which is > 0."""

    irs_inf: float
    """The share that endless generation would reach, if it reached each image equally often: ŝ/N."""
    low: float
    """Low end of the 95 % interval of ``irs_inf``, if endless generation reaches each of its images equally often."""
    high: float
    """High end of the 95 % interval of ``irs_inf``."""
    adjusted: float | None
    """Ratio of ``irs_inf`` to that of held-out real images, both for the smaller of their numbers; None without them.
    """


def _retrieved(sets: Sets) -> RetrievalScore:
    return irs(sets.real if sets.train is None else sets.train, sets.generated, sets.held_out)


def irs(train: np.ndarray, fake: np.ndarray, test: np.ndarray | None = None) -> RetrievalScore:
    """Retrieve ``train`` (N, d) by the nearest neighbours of ``fake`` (n, d) and of held-out real ``test`` (t, d).

    If n images fall on s training images at random, s(1 − (1 − 1/s)ⁿ) different ones are expected; ŝ is the s for
    which these are the k that were found, at most N. Its integer part is the most likely s. It is N where k = n: no
    image was reached twice, which bounds s from below alone. Images that fall unevenly make ŝ too low, the more so
    the smaller n is; real images do as well, hence ``adjusted``, at equal counts: of the larger set, k is the
    expectation over all its subsets of the smaller one's size (rarefaction; Hurlbert, Ecology 1971).

    The interval holds every s ≤ N under which neither k or fewer nor k or more different images have a probability
    below 2.5 %, in the exact distribution of their number. It covers s in 95 % of cases or more if all s are reached
    equally often; otherwise in far fewer, down to none: it is no interval of diversity.
    (Dombrowski et al., Image Generation Diversity Issues and How to Tame Them, CVPR 2025.)

    Of training images equally near, the one whose values come first is retrieved, whatever the order of rows, so that
    of two equal ones only one ever is.

    Raises ValueError for no rows, widths that differ, NaN and infinity.
    """
    train, fake = as_pair(train, fake, minimum=1, names=("train", "fake"))
    limit, n = len(train), len(fake)
    hits = _hits(train, fake)
    k = len(hits)
    low, high = _interval(k, n, limit)
    adjusted = None
    if test is not None:
        _, test = as_pair(train, test, minimum=1, names=("train", "test"))
        size = min(n, len(test))
        reached, reference = (_support(_rarefied(each, size), size, limit) for each in (hits, _hits(train, test)))
        adjusted = reached / reference
    return RetrievalScore(_support(k, n, limit) / limit, low / limit, high / limit, adjusted)


def _hits(train: np.ndarray, images: np.ndarray) -> np.ndarray:
    """How often each retrieved training image is a nearest neighbour: (k,), summing to the number of images."""
    return np.unique(nearest(images, train)[0], return_counts=True)[1]


def _rarefied(hits: np.ndarray, size: int) -> float:
    """Expected number of different training images that a random ``size`` of the images retrieve."""
    n = int(hits.sum())
    expected = 0.0
    for count, images in zip(*np.unique(hits, return_counts=True), strict=True):
        missed = math.exp(_log_binomial(n - int(count), size) - _log_binomial(n, size))
        expected += float(images) * (1 - missed)
    return expected


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) if k <= n else -math.inf


def _expected(s: float, n: int) -> float:
    """Different values expected in ``n`` draws from ``s`` equally likely ones: s(1 − (1 − 1/s)ⁿ)."""
    return -s * math.expm1(n * math.log1p(-1 / s)) if s > 1 else 1.0


def _support(k: float, n: int, limit: int) -> float:
    """The s in [k, ``limit``] for which ``k`` of ``n`` draws are expected to differ, by bisection."""
    low, high = max(1.0, float(k)), float(limit)
    if _expected(high, n) <= k:
        return high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _expected(middle, n) < k else (low, middle)
    return low


def _interval(k: int, n: int, limit: int) -> tuple[float, float]:
    """Ends, in [k, ``limit``], of the s that ``k`` different values in ``n`` draws do not reject at 2.5 % per side."""
    # P(K = j | s) = S(n, j) s!/(s − j)! s⁻ⁿ: one distribution gives the Stirling numbers, and they every other.
    # The tails that are asked for lie about k, where the most likely s has its mass: n² stands in for infinity.
    most_likely = max(k, int(_support(k, n, max(limit, n * n))))
    first, probabilities = _distinct(most_likely, n)
    counts = np.arange(first, first + len(probabilities))
    log_stirling = np.log(probabilities) - _log_falling(most_likely, counts, n)

    def tail(s: int, chosen: np.ndarray) -> float:
        return float(np.exp(log_stirling[chosen] + _log_falling(s, counts[chosen], n)).sum())

    estimate = min(most_likely, limit)
    low = k + bisect_left(range(k, estimate), True, key=lambda s: tail(s, counts >= k) >= _TAIL)
    high = estimate + bisect_left(range(estimate + 1, limit + 1), True, key=lambda s: tail(s, counts <= k) < _TAIL)
    return low, max(high, _support(k, n, limit))


def _distinct(s: int, n: int) -> tuple[int, np.ndarray]:
    """Probabilities of the numbers of different values in ``n`` draws from ``s``, and the first of these numbers."""
    most = min(n, s)
    seen = np.arange(most + 1) / s  # probability, after j different values, that the next is one of them
    unseen = 1 - seen
    probabilities = np.zeros(most + 2)
    probabilities[1] = 1
    first, last = 1, 1
    for number in range(n - 1):
        held = slice(first, last + 1)
        moved = probabilities[held] * unseen[held]
        probabilities[held] *= seen[held]
        probabilities[first + 1 : last + 2] += moved
        last = min(last + 1, most)
        if number % 16 == 0:  # leave out both ends, so that the work stays far below n²
            kept = first + np.flatnonzero(probabilities[first : last + 1] > _NEGLIGIBLE)
            probabilities[first : kept[0]] = probabilities[kept[-1] + 1 : last + 1] = 0
            first, last = int(kept[0]), int(kept[-1])
    kept = first + np.flatnonzero(probabilities[first : last + 1])
    return int(kept[0]), probabilities[kept[0] : kept[-1] + 1]


def _log_falling(s: int, counts: np.ndarray, n: int) -> np.ndarray:
    """log (s!/(s − j)! s⁻ⁿ) for each j of ``counts`` (c,); −∞ where j > s."""
    with np.errstate(divide="ignore"):
        steps = np.log1p(-np.minimum(np.arange(counts.max()) / s, 1))
    return np.asarray(np.cumsum(steps)[counts - 1] - (n - counts) * math.log(s))
