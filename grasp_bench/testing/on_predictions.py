"""The checks of a metric of a classifier beyond those of every metric; the docstring of each is its contract."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from grasp_bench.contracts.metric import ClassifierMetric
from grasp_bench.testing.checks import require
from grasp_bench.testing.on_numbers import CLASSES, IMAGES, ROUNDING, Subject


def direction(subject: Subject) -> None:
    """By its direction, good predictions score better than predictions of random classes."""
    given = subject.predictions()
    random = np.random.default_rng(1).dirichlet([0.1] * CLASSES, IMAGES)
    if subject.metric.counts_classes:
        random = np.roll(np.eye(CLASSES)[given.labels], 1, 1)
    good, bad = (float(subject.number(each).sum()) for each in (given, replace(given, probabilities=random, found={})))
    subject.prefer(good, bad, "{}, and {} for random classes")


def resamples(subject: Subject) -> None:
    """An image counts as often as a resample holds it, and a class that it does not hold gives NaN."""
    given = subject.predictions()
    weights = np.random.default_rng(2).integers(0, 3, (2, IMAGES)).astype(np.float64)
    weights[1, given.labels == 0] = 0
    given = replace(given, weights=weights, found={})
    found, expected = subject.metric.weighted(given), ClassifierMetric.weighted(subject.metric, given)
    require(found.shape == (2, CLASSES), f"an array of shape {found.shape}, expected (2, {CLASSES})")
    require(np.isnan(found[1, 0]), f"{found[1, 0]} for a class without images")
    kept = np.allclose(found, expected, rtol=ROUNDING, equal_nan=True)
    require(kept, f"{found}, and of repeated images {expected}")
