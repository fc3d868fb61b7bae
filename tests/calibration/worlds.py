"""Distributions whose scores are known, by simulation of many sets where there is no formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from grasp_bench.metrics.labelled import LabelledFeatures
from grasp_bench.metrics.protocol import Measured, Protocol
from grasp_bench.metrics.registry import chosen
from grasp_bench.metrics.scoring import group_scores

WIDTH = 8
MIXED = np.random.default_rng(5).normal(size=(WIDTH, WIDTH)) * 0.4 + np.eye(WIDTH)
"""Takes independent normal numbers to correlated features."""
METRICS = ("fd", "kid", "prdc", "vendi")
NEAR, FAR = 0.3, 0.9
"""By how much generated images differ from real ones in the mean: little, or as much as those of a poor tail."""


class Truth(NamedTuple):
    """What a score is over sets of images of one kind."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: ArrayLike) -> Truth:
        """Mean and standard deviation of the scores of simulated sets."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)))

    @property
    def length(self) -> float:
        """Length of an interval of normal scores whose deviation is known: no interval that holds 95 % is shorter."""
        return 2 * 1.959964 * self.deviation


@dataclass(frozen=True)
class Pair:
    """Real and generated images, correlated normals that differ in mean and scale, alone or in clusters."""

    n: int
    """Images of each class that are compared; there are as many generated ones, and twice as many real ones."""
    per_cluster: int = 1
    """Images of a cluster, such as a patient; half of the variance is between clusters."""
    metrics: tuple[str, ...] = METRICS
    classes: int = 1
    """Classes of as many images; generated ones of each lie further off than those of the one before."""
    shift: float = NEAR
    """How far off generated images lie."""

    def scores(self, seed: int, draws: int, resamples: int) -> list[Measured]:
        """The scores of one pair of sets: of several classes, their mean and that of the worst one."""
        stream = np.random.default_rng([self.n, self.per_cluster, seed])
        real, fake = self._set(stream, 2 * self.n, 1.0, 0.0), self._set(stream, self.n, 0.85, self.shift)
        protocol = Protocol(chosen(self.metrics), draws=draws, resamples=resamples)
        names = [str(number) for number in range(self.classes)]
        found = group_scores(real, fake, names, {"all": np.arange(self.classes)}, protocol)
        return found if self.classes == 1 else [each for each in found if each.scope in ("class mean", "worst class")]

    def named(self, score: Measured) -> str:
        """What a score is called: by its metric and, of several classes, by what is taken over them."""
        return score.metric.name if self.classes == 1 else f"{score.metric.name}, {score.scope}"

    def truth(self, sets: int, draws: int) -> dict[str, Truth]:
        """Name of a score → its expectation and deviation over ``sets`` others."""
        found = [self.scores(10**6 + number, draws, 0) for number in range(sets)]
        return {self.named(each[0]): Truth.of([one.value for one in each]) for each in zip(*found, strict=True)}

    def _set(self, stream: np.random.Generator, size: int, scale: float, shift: float) -> LabelledFeatures:
        labels = np.repeat(np.arange(self.classes), size)
        clusters = np.arange(len(labels)) // self.per_cluster
        features = stream.normal(size=(len(labels), WIDTH))
        if self.per_cluster > 1:
            between = stream.normal(size=(clusters[-1] + 1, WIDTH))[clusters]
            features = (features + between) / np.sqrt(2)
        units = clusters if self.per_cluster > 1 else None
        further = shift * (1 + labels / self.classes)[:, None]
        return LabelledFeatures(features @ MIXED * scale + further + 1, labels, None, units)
