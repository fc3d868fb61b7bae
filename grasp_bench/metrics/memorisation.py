"""Memorisation: generated images that are, or nearly are, training images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from grasp_bench.metrics._arrays import as_pair
from grasp_bench.metrics.neighbours import nearest, nearest_other


@dataclass(frozen=True, eq=False)
class Matches:
    """Generated images with their nearest training images, the nearest pair first."""

    fake: np.ndarray
    """Indices of generated images (c,)."""
    train: np.ndarray
    """Indices of their nearest training images (c,)."""
    distance: np.ndarray
    """Euclidean distances between the two (c,); 0 for equal rows."""

    def __len__(self) -> int:
        return len(self.fake)


@dataclass(frozen=True, eq=False)
class Authenticity:
    """How many generated images are more than a copy of a training image."""

    share: float
    """Share of generated images that are authentic."""
    copies: Matches
    """The others."""
    n: int
    """Generated images."""


def authenticity(train: np.ndarray, fake: np.ndarray) -> Authenticity:
    """Which of ``fake`` (n, d) are no nearer to a row of ``train`` (N, d) than training images are to each other.

    A generated image is a copy where its nearest training image has no other training image nearer to itself; it is
    authentic otherwise (Alaa et al., How Faithful is your Synthetic Data?, ICML 2022). So it is a copy where both
    are equally near: one that equals a training image always is. Distances
    are held for a block of rows at a time; time grows with N n d.

    Raises ValueError for fewer than two training rows, no generated ones, widths that differ, NaN and infinity.
    """
    train, fake = as_pair(train, fake, minimum=1, names=("train", "fake"))
    if len(train) < 2:
        raise ValueError(f"train: n = {len(train)}, at least 2 rows are needed")
    indices, distances = nearest(fake, train)
    used, positions = np.unique(indices, return_inverse=True)
    _, own = nearest_other(train, used)
    copies = distances <= own[positions]
    return Authenticity(float(1 - copies.mean()), _matches(copies, indices, distances), len(fake))


def near_duplicates(train: np.ndarray, fake: np.ndarray, threshold: float) -> Matches:
    """Rows of ``fake`` (n, d) whose nearest row of ``train`` (N, d) is at most ``threshold`` away; at 0, equal ones.

    Raises ValueError for a threshold that is negative or not finite, no rows, widths that differ, NaN and infinity.
    """
    if not 0 <= threshold < math.inf:
        raise ValueError(f"threshold = {threshold}, expected a finite distance of at least 0")
    train, fake = as_pair(train, fake, minimum=1, names=("train", "fake"))
    indices, distances = nearest(fake, train)
    return _matches(distances <= threshold, indices, distances)


def _matches(chosen: np.ndarray, indices: np.ndarray, distances: np.ndarray) -> Matches:
    """The ``chosen`` (n,) generated images with their nearest training images' ``indices`` and ``distances`` (n,)."""
    fake = np.flatnonzero(chosen)
    fake = fake[np.argsort(distances[fake], kind="stable")]
    return Matches(fake, indices[fake], distances[fake])
