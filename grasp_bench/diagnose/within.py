"""How much more aligned the classes of one cluster are than classes that are put together at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_bench.diagnose.alignment import LEAST_DRAWS, ROUNDING, percentiles


@dataclass(frozen=True)
class Lift:
    """A partition compared with random ones with clusters of the same sizes; NaN where it cannot be measured."""

    within: float
    """Mean cosine of two classes of one cluster; see :func:`within`."""
    random: float
    """Mean of that cosine over random partitions."""
    low: float
    """2.5th percentile of ``within - random`` over bootstrap draws of batches."""
    high: float
    """97.5th percentile of ``within - random``."""
    p: float
    """One-sided p that random partitions are as aligned: (1 + #{random ≥ within}) / (1 + P)."""
    pairs: int
    """Number of pairs of classes that share a cluster."""


def within(products: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Return the mean cosine over pairs of classes, weighted by gradient lengths, for each of N sets of pairs: (N,).

    ``products`` (cells, C, C) are unbiased; ``same`` (N, C, C) says which pairs each set holds. The mean is
    Σ ⟨c, d⟩ / Σ |c| |d| over pairs and cells: a ratio of sums, since cosines of single classes are noisy. Classes
    whose own product is not positive in a cell are left out of that cell. NaN for sets without a pair.
    """
    own = np.diagonal(products, axis1=1, axis2=2)
    lengths = np.sqrt(own.clip(0))
    scale = lengths[:, :, None] * lengths[:, None, :]
    off_diagonal = ~np.eye(products.shape[-1], dtype=bool)
    top = np.where(scale > 0, products, 0).sum(0) * off_diagonal
    sets = same.reshape(len(same), -1).astype(np.float64)
    bottom = sets @ (scale.sum(0) * off_diagonal).ravel()
    found: np.ndarray = sets @ top.ravel() / np.where(bottom > 0, bottom, np.nan)
    return found


def lift(
    products: np.ndarray, resampled: np.ndarray, clusters: np.ndarray, permutations: int, rng: np.random.Generator
) -> Lift:
    """Return how far the partition ``clusters`` (C,) raises the alignment within clusters.

    ``products`` (cells, C, C) are the unbiased products of all batches, ``resampled`` (draws, cells, C, C) those of
    bootstrap draws of batches. Random partitions are permutations of ``clusters``, the same in every draw.
    """
    given = _same(clusters)
    drawn = np.stack([_same(rng.permutation(clusters)) for _ in range(permutations)])
    pairs = int(np.triu(given, 1).sum())
    own, chance = float(within(products, given[None])[0]), within(products, drawn)
    sets = np.concatenate([given[None], drawn])
    values = np.stack([within(each, sets) for each in resampled])  # (draws, 1 + P)
    low, high = percentiles(values[:, 0] - _means(values[:, 1:]))
    random = float(_means(chance[None])[0])
    as_aligned = ~(chance < own - ROUNDING)  # partitions that cannot be measured count as aligned
    p = (1 + as_aligned.sum()) / (1 + permutations) if np.isfinite(own + random) else np.nan
    return Lift(own, random, float(low), float(high), float(p), pairs)


def _means(values: np.ndarray) -> np.ndarray:
    """Return means (n,) over the measurable random partitions (n, P); NaN where fewer than 95 % are measurable."""
    measured = np.isfinite(values)
    means = np.where(measured, values, 0).sum(1) / measured.sum(1).clip(1)
    found: np.ndarray = np.where(measured.mean(1) >= LEAST_DRAWS, means, np.nan)
    return found


def _same(clusters: np.ndarray) -> np.ndarray:
    """Return which pairs of classes (C, C) share a cluster."""
    found: np.ndarray = clusters[:, None] == clusters[None, :]
    return found
