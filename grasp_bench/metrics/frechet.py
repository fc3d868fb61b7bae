"""Fréchet distance between two sets of features, each taken for a Gaussian."""

from __future__ import annotations

import math

import numpy as np

from grasp_bench.metrics._arrays import as_pair


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """||μ₁ − μ₂||² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½ of ``real`` (n, d) and ``fake`` (m, d), in float64.

    Covariances are unbiased (divided by n − 1). The value depends on n: compare only values at equal counts.
    It is called FID with Inception features alone (Heusel et al., NeurIPS 2017; Dowson and Landau, 1982).

    Raises ValueError for fewer than two rows, widths that differ, NaN and infinity.
    """
    real, fake = as_pair(real, fake, minimum=2)
    means = np.square(real.mean(axis=0) - fake.mean(axis=0)).sum()
    a, b = _scaled(real), _scaled(fake)
    cross = _cross_by_product(a, b) if min(len(a), len(b)) < a.shape[1] else _cross_by_covariance(a, b)
    return max(0.0, float(means + np.square(a).sum() + np.square(b).sum() - 2 * cross))


def _scaled(features: np.ndarray) -> np.ndarray:
    """A (n, d) with AᵀA the covariance of ``features``."""
    centred: np.ndarray = features - features.mean(axis=0)
    return centred / math.sqrt(len(features) - 1)


def _cross_by_product(a: np.ndarray, b: np.ndarray) -> float:
    """tr (Σ₁Σ₂)^½ as the nuclear norm of ABᵀ (n, m): exact for singular covariances, and cheap for few rows."""
    return float(np.linalg.svd(a @ b.T, compute_uv=False).sum())


def _cross_by_covariance(a: np.ndarray, b: np.ndarray) -> float:
    """tr (Σ₁Σ₂)^½ from the eigenvalues of Σ₁^½ Σ₂ Σ₁^½ (d, d), which is symmetric: its cost hardly grows with n."""
    values, vectors = np.linalg.eigh(a.T @ a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    squares = np.linalg.eigvalsh(root @ (b.T @ b) @ root)
    return float(np.sqrt(squares.clip(min=0)).sum())
