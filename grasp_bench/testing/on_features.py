"""The checks of a metric of features beyond those of every metric; the docstring of each is its contract."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from grasp_bench.metrics.protocol import Protocol
from grasp_bench.metrics.scoring import LabelledFeatures, group_scores
from grasp_bench.testing.checks import require
from grasp_bench.testing.on_numbers import IMAGES, K, Subject


def minimum(subject: Subject) -> None:
    """It gives a finite number for as few images as it says that it needs."""
    images = subject.metric.minimum(K)
    value = float(subject.number(subject.features(images)))
    require(np.isfinite(value), f"{value} for {images} images")


def direction(subject: Subject) -> None:
    """By its direction, held-out real images and the real images themselves score better than images with the flaw that
    it declares as worse_with.
    """
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
