"""The checks of a metric on random features or predictions; the docstring of each is its contract."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from grasp_bench import plugins
from grasp_bench.contracts.metric import ClassifierMetric, FeatureMetric, Predictions, Sets
from grasp_bench.metrics.labelled import LabelledFeatures
from grasp_bench.metrics.protocol import Protocol
from grasp_bench.metrics.scoring import group_scores
from grasp_bench.testing.checks import NotApplicable, require

IMAGES, WIDTH, CLASSES = 64, 6, 4
ROUNDING = 1e-6  # of a value, as a share of its size
K = 5


class Subject:
    """A metric, and what it is tried on."""

    def __init__(self, metric: Any) -> None:
        self.metric = metric
        self.kind = FeatureMetric if isinstance(metric, FeatureMetric) else ClassifierMetric

    def given(self) -> Any:
        """Fresh inputs, equal every time."""
        return self.features() if self.kind is FeatureMetric else self.predictions()

    def features(self, images: int = IMAGES) -> Sets:
        """Features of ``images`` real, generated and held-out images."""
        state = np.random.default_rng(0)
        real, generated, held_out, train = (state.normal(1, 1, (n, WIDTH)) for n in (*[images] * 3, 2 * IMAGES))
        return Sets(real, generated, held_out, train, K)

    def predictions(self) -> Predictions:
        """Predictions that mostly are right."""
        labels = np.arange(IMAGES) % CLASSES
        raw = np.random.default_rng(0).gamma(1, size=(IMAGES, CLASSES)) + np.eye(CLASSES)[labels]
        return Predictions(labels, raw / raw.sum(axis=1, keepdims=True))

    def number(self, given: Any) -> np.ndarray:
        """Its value as an array. Raises :class:`NotApplicable` where it has none."""
        value = self.metric.value(given)
        if value is None:
            raise NotApplicable("it has no value for these images")
        return np.asarray(value, dtype=np.float64)

    def prefer(self, good: float, bad: float, words: str) -> None:
        """Raise AssertionError unless ``good`` is better than ``bad`` by the metric's direction."""
        kept = good < bad if self.metric.direction == "lower" else good > bad
        require(kept, f"{words.format(f'{good:.4g}', f'{bad:.4g}')}; {self.metric.direction} is better")


def attributes(subject: Subject) -> None:
    """Its bounds are a pair in their order, and definition and misleads are whole sentences."""
    bounds = subject.metric.bounds
    require(len(bounds) == 2 and bounds[0] < bounds[1], f"bounds = {bounds!r}")
    for name in ("definition", "misleads"):
        text = getattr(subject.metric, name).strip()
        require(text[:1].isupper() and text.endswith("."), f"{name} = {text!r}")


def finite(subject: Subject) -> None:
    """It gives a finite number within its bounds."""
    value, (low, high) = subject.number(subject.given()), subject.metric.bounds
    expected = () if subject.kind is FeatureMetric else (CLASSES,)
    require(value.shape == expected, f"an array of shape {value.shape}, expected {expected}")
    require(np.isfinite(value).all(), f"{value}")
    require(((value >= low) & (value <= high)).all(), f"{value}, with bounds {low} and {high}")


def deterministic(subject: Subject) -> None:
    """Equal inputs give equal numbers, bit for bit, whatever was drawn or measured before."""
    first, shared = subject.number(subject.given()), subject.given()
    np.random.random()  # a stream that a metric must not draw from
    for other in plugins.available("metrics").values():
        if issubclass(other, subject.kind) and other is not type(subject.metric):
            other().value(shared)
    again = subject.number(shared)
    require(np.array_equal(first, again), f"{first}, and then {again}")


def data_untouched(subject: Subject) -> None:
    """It changes nothing of what it is given."""
    given, before = subject.given(), subject.given()
    subject.number(given)
    arrays = {name: value for name, value in vars(before).items() if isinstance(value, np.ndarray)}
    changed = [name for name, value in arrays.items() if not np.array_equal(value, getattr(given, name))]
    require(not changed, f"it changed {', '.join(changed)}")


def order(subject: Subject) -> None:
    """It does not depend on the order of images, up to rounding (1e-6 of its size)."""
    if getattr(subject.metric, "draws_rows", False):
        raise NotApplicable("it draws rows by their position")
    arrays = {name: each[::-1].copy() for name, each in vars(subject.given()).items() if isinstance(each, np.ndarray)}
    first, again = subject.number(subject.given()), subject.number(replace(subject.given(), **arrays))
    require(np.allclose(first, again, rtol=ROUNDING, atol=ROUNDING), f"{first}, and in another order {again}")


def direction(subject: Subject) -> None:
    """By its direction, held-out real images and the real images themselves score better than images with the flaw that
    it declares as worse_with; or good predictions better than predictions of random classes.
    """
    if subject.kind is FeatureMetric:
        _prefer_real(subject)
        return
    given = subject.predictions()
    random = np.random.default_rng(1).dirichlet([0.1] * CLASSES, IMAGES)
    if subject.metric.counts_classes:
        random = np.roll(np.eye(CLASSES)[given.labels], 1, 1)
    good, bad = (float(subject.number(each).sum()) for each in (given, replace(given, probabilities=random, found={})))
    subject.prefer(good, bad, "{}, and {} for random classes")


def _prefer_real(subject: Subject) -> None:
    given, state, flaw = subject.features(), np.random.default_rng(1), subject.metric.worse_with
    assert given.train is not None
    flawed = {
        "noise": given.held_out + state.normal(0, 4, given.held_out.shape),
        "collapse": given.held_out[:1] + state.normal(0, 1e-3, given.held_out.shape),
        "copies": given.train[:IMAGES] + 1e-9,
    }
    images = {"held-out real images": given.held_out.copy(), "the real images themselves": given.real.copy()}
    bad = float(subject.number(replace(given, generated=flawed[flaw], found={})))
    for words, generated in images.items():
        good = float(subject.number(replace(given, generated=generated, found={})))
        subject.prefer(good, bad, f"{{}} for {words}, {{}} with {flaw}")


def minimum(subject: Subject) -> None:
    """It gives a finite number for as few images as it says that it needs."""
    images = subject.metric.minimum(K)
    value = float(subject.number(subject.features(images)))
    require(np.isfinite(value), f"{value} for {images} images")


def scored(subject: Subject) -> None:
    """It goes through a comparison of groups of classes with a bootstrap, as in a run."""
    labels, given = np.arange(2 * IMAGES) % 2, subject.features()
    assert given.train is not None
    real = LabelledFeatures(np.concatenate([given.real, given.held_out]), labels)
    fake, train = LabelledFeatures(given.generated, labels[:IMAGES]), LabelledFeatures(given.train, labels)
    members = {"first": np.array([0]), "all": np.arange(2)}
    protocol = Protocol((subject.metric,), draws=2, resamples=2)
    for score in group_scores(real, fake, ["a", "b"], members, protocol, train):
        if score.n >= subject.metric.minimum(K):
            require(score.value is not None, f"no value for {score.scope} {score.name} of n = {score.n}")


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
