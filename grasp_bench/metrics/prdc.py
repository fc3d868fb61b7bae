"""Precision, recall, density and coverage from k-nearest-neighbour balls, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_bench.metrics._arrays import as_pair
from grasp_bench.metrics.neighbours import squared_distances


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
