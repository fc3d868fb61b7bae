"""Precision, recall, density and coverage from k-nearest-neighbour balls, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from grasp_bench.contracts.metric import FeatureMetric, Sets
from grasp_bench.metrics._arrays import as_pair
from grasp_bench.metrics._distances import neighbour_distances, within


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

    Share of generated images in some real image's ball, which reaches to its k-th nearest other real one (k = 5) and
    holds its edge.
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

    (1 / k m) Σⱼ #{i : yⱼ inside the ball of xᵢ, not on its edge}: precision that no single outlier decides.
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

    Recall that outliers among the generated images cannot inflate. A ball does not hold its edge.
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

    A row's ball reaches to its k-th nearest other row of its own set. For precision and recall it holds its edge (≤),
    as in equation 1 of Kynkäänniemi et al. (NeurIPS 2019); for density and coverage it does not (<), as in the code of
    Naeem et al. (ICML 2020), so that the density of a set in itself is 1. That matters where distances are equal: in
    features that are integers, and in sets with repeated rows, whose radius may be 0. No rounding error tells equal
    distances apart (:mod:`grasp_bench.metrics._distances`). Distances are held for a block of rows at a time; time
    grows with (n + m)² d.

    Raises ValueError for k < 1, fewer than k + 2 rows, widths that differ, NaN and infinity.
    """
    if k < 1:
        raise ValueError(f"k = {k}, expected at least 1")
    real, fake = as_pair(real, fake, minimum=k + 2)
    real_radii, fake_radii = neighbour_distances(real, k), neighbour_distances(fake, k)
    balls = np.zeros(len(fake), dtype=np.int64)  # real balls that hold each fake row
    precise = np.zeros(len(fake), dtype=bool)
    recalled = covered = 0
    for in_real, inside_real, in_fake in within(real, fake, real_radii, fake_radii):
        precise |= in_real.any(axis=0)
        balls += inside_real.sum(axis=0)
        covered += int(inside_real.any(axis=1).sum())
        recalled += int(in_fake.any(axis=1).sum())
    return PRDC(
        precision=float(precise.mean()),
        recall=recalled / len(real),
        density=float(balls.mean()) / k,
        coverage=covered / len(real),
    )
