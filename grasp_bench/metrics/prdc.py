"""Precision, recall, density and coverage from k-nearest-neighbour balls, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from grasp_bench.contracts.metric import FeatureMetric, Sets
from grasp_bench.metrics._arrays import as_pair, squared_distances


@dataclass(frozen=True)
class PRDC:
    """Fidelity (precision, density) and diversity (recall, coverage); all in [0, 1] but density, which is ≥ 0."""

    precision: float
    """Share of fake rows inside some real row's ball."""
    recall: float
    """Share of real rows inside some fake row's ball."""
    density: float
    """Real balls that a fake row lies in, on average, over k."""
    coverage: float
    """Share of real rows whose ball holds some fake row."""


class _OfBalls(FeatureMetric):
    """One of the four scores that are computed together."""

    version = "1"
    direction = "higher"
    bounds = (0.0, 1.0)
    family = "prdc"

    def value(self, given: Sets) -> float:
        return float(getattr(given.once(_balls), self.name))

    def minimum(self, k: int) -> int:
        return k + 2


class Precision(_OfBalls):
    """Precision: generated images within the real ones

    Share of generated images inside some real image's ball, which reaches to its k-th nearest other real one (k = 5).
    """

    name = "precision"
    label = "Precision"
    position = 40
    definition = "Share of generated images that lie within the real images, by balls to the fifth neighbour: fidelity."
    misleads = (
        "A single outlier among the real images makes a ball that accepts nearly everything; copies of training images "
        "score well."
    )
    source = "Kynkäänniemi et al., NeurIPS 2019"


class Recall(_OfBalls):
    """Recall: real images within the generated ones

    Share of real images inside some generated image's ball.
    """

    name = "recall"
    label = "Recall"
    worse_with = "collapse"
    position = 50
    definition = "Share of real images that lie within the generated ones, by balls to the fifth neighbour: diversity."
    misleads = "Images that are scattered far apart make large balls, and so a high recall without looking real."
    source = "Kynkäänniemi et al., NeurIPS 2019"


class Density(_OfBalls):
    """Density: real balls around a generated image

    (1 / k m) Σⱼ #{i : yⱼ in the ball of xᵢ}: precision that no single outlier decides.
    """

    name = "density"
    label = "Density"
    bounds = (0.0, math.inf)
    position = 60
    definition = (
        "How many real images' balls a generated image lies in, on average, over five: fidelity. It may exceed 1."
    )
    misleads = "Many images at one dense spot raise it, without variety: read it with coverage."
    source = "Naeem et al., ICML 2020"


class Coverage(_OfBalls):
    """Coverage: real images with a generated one in their ball

    Recall that outliers among the generated images cannot inflate.
    """

    name = "coverage"
    label = "Coverage"
    worse_with = "collapse"
    position = 70
    definition = "Share of real images that have a generated image in their ball: how much of the real variety is met."
    misleads = (
        "It depends on the number of generated images and reaches 1 with enough of them; one image may cover many real "
        "ones."
    )
    source = "Naeem et al., ICML 2020"


def _balls(sets: Sets) -> PRDC:
    return prdc(sets.real, sets.generated, sets.k)


def prdc(real: np.ndarray, fake: np.ndarray, k: int = 5) -> PRDC:
    """Compare ``real`` (n, d) and ``fake`` (m, d).

    A row's ball reaches to, and excludes, its k-th nearest other row of its own set. Precision and recall are
    those of Kynkäänniemi et al. (NeurIPS 2019), density and coverage those of Naeem et al. (ICML 2020).
    Distances are held for a block of rows at a time; time grows with (n + m)² d.

    Raises ValueError for k < 1, fewer than k + 2 rows, widths that differ, NaN and infinity.
    """
    if k < 1:
        raise ValueError(f"k = {k}, expected at least 1")
    real, fake = as_pair(real, fake, minimum=k + 2)
    centre = real.mean(axis=0)  # distances lose fewer digits about the centre
    real, fake = real - centre, fake - centre
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    balls = np.zeros(len(fake), dtype=np.int64)  # real balls that hold each fake row
    recalled = covered = 0
    for rows, distances in squared_distances(real, fake):
        inside = distances < real_radii[rows, None]
        balls += inside.sum(axis=0)
        covered += int(inside.any(axis=1).sum())
        recalled += int((distances < fake_radii).any(axis=1).sum())
    return PRDC(
        precision=float((balls > 0).mean()),
        recall=recalled / len(real),
        density=float(balls.mean()) / k,
        coverage=covered / len(real),
    )


def _radii(features: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of every row to its k-th nearest other row: (n,)."""
    radii = np.empty(len(features))
    for rows, distances in squared_distances(features, features):
        distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf
        distances.partition(k - 1, axis=1)
        radii[rows] = distances[:, k - 1]
    return radii
