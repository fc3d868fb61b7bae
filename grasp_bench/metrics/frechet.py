"""Fréchet distance between two sets of features, each taken for a Gaussian."""

from __future__ import annotations

import math

import numpy as np

from grasp_bench.contracts.metric import FeatureMetric, Sets
from grasp_bench.metrics._arrays import as_pair
from grasp_bench.seeds import rng

SINGULAR = 1e-12
"""Share of the largest eigenvalue up to which the smallest is taken for a rounding error.

Above it the root of an eigenvalue is exact to 10⁻¹⁰ of the largest: the error is that of the eigenvalue, the machine's
epsilon of the largest, over twice the root.
"""
SIZES = 15  # of subsets, through whose distances the line of FD∞ goes


class FrechetDistance(FeatureMetric):
    """Fréchet distance: how far apart two Gaussians are

    ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½, covariances divided by n − 1.
    """

    name = "fd"
    version = "1"
    label = "FD"
    names_extractor = True
    inception_label = "FID"
    conventional = True
    direction = "lower"
    bounds = (0.0, math.inf)
    position = 10
    definition = (
        "Fréchet distance between the features of generated and of real test images, each taken for a Gaussian. With "
        "the Inception features of 2015 it is called FID."
    )
    misleads = (
        "It falls as the number of images grows, whatever they show: compare only equal counts, and read it beside its "
        "real reference. A Gaussian misses modes, and copies of the training set score best. It sees no more than the "
        "feature extractor sees, which the title names."
    )
    source = "Heusel et al., NeurIPS 2017; Dowson & Landau, 1982"

    def value(self, given: Sets) -> float:
        return frechet_distance(given.real, given.generated)


class FrechetDistanceInfinity(FeatureMetric):
    """Fréchet distance of endlessly many generated images

    The intercept of a straight line through the distances at 15 sizes over 1/size.
    """

    name = "fd_inf"
    version = "1"
    label = "FD∞"
    names_extractor = True
    inception_label = "FID∞"
    direction = "lower"
    bounds = (-math.inf, math.inf)
    position = 20
    optional = True
    draws_rows = True
    definition = "The Fréchet distance extrapolated to endlessly many generated images."
    misleads = (
        "It may be below zero. The extrapolation is a straight line, which holds from about twice as many images as "
        "features have dimensions; what the number of real images adds stays in it. It sees no more than the feature "
        "extractor sees, which the title names."
    )
    source = "Chong & Forsyth, CVPR 2020"

    def value(self, given: Sets) -> float:
        return frechet_distance_infinity(given.real, given.generated, key=(given.seed,))

    def minimum(self, k: int) -> int:
        return 28


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """||μ₁ − μ₂||² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½ of ``real`` (n, d) and ``fake`` (m, d), in float64.

    Covariances are unbiased (divided by n − 1). The value depends on n: compare only values at equal counts.
    It is called FID with Inception features alone (Heusel et al., NeurIPS 2017; Dowson and Landau, 1982).

    Raises ValueError for fewer than two rows, widths that differ, NaN and infinity.
    """
    real, fake = as_pair(real, fake, minimum=2)
    return _distance(real.mean(axis=0), _scaled(real), fake)


def frechet_distance_infinity(real: np.ndarray, fake: np.ndarray, *, key: tuple[str | int, ...]) -> float:
    """Fréchet distance of ``real`` (n, d) and endlessly many rows like ``fake`` (m, d), by extrapolation.

    15 sizes lie evenly between the least and m; at each, the distance of as many random rows of ``fake`` from all of
    ``real`` is taken. The result is the intercept of a straight line through these distances over 1/size (Chong and
    Forsyth, Effectively Unbiased FID and Inception Score, CVPR 2020). It may be below zero. What the count of ``real``
    adds stays in it. Below about 2d rows the distance is no straight line in 1/size, and the intercept comes out too
    low: the least size is therefore m/10, as in the paper, or 2d where that is more, but no more than m/2.

    Rows are drawn by ``key`` and their position: the order of ``fake`` matters as another key does, that of ``real``
    does not.

    Raises ValueError for so few rows of ``fake`` that sizes would coincide, and as :func:`frechet_distance` does.
    """
    real, fake = as_pair(real, fake, minimum=2)
    n = len(fake)
    least = max(2, n // 10, min(2 * fake.shape[1], n // 2))
    if n < least + SIZES - 1:
        raise ValueError(f"fake: n = {n}, at least {least + SIZES - 1} rows are needed for {SIZES} sizes from {least}")
    sizes = np.linspace(least, n, SIZES).round().astype(int)
    mean, scaled = real.mean(axis=0), _scaled(real)
    root = _root(scaled) if min(len(real), n) >= real.shape[1] else None
    stream = rng("frechet-subsets", *key)
    distances = [_distance(mean, scaled, fake[stream.permutation(n)[:size]], root) for size in sizes]
    slopes = 1 / sizes - (1 / sizes).mean()
    slope = slopes @ distances / np.square(slopes).sum()
    return float(np.mean(distances) - slope * (1 / sizes).mean())


def _distance(mean: np.ndarray, a: np.ndarray, fake: np.ndarray, root: np.ndarray | None = None) -> float:
    """Distance of ``fake`` from the set with ``mean`` (d,) and covariance AᵀA, whose ``root`` (d, d) may be given."""
    means = np.square(mean - fake.mean(axis=0)).sum()
    b = _scaled(fake)
    cross = None
    if min(len(a), len(b)) >= a.shape[1]:
        cross = _cross_by_root(_root(a) if root is None else root, b)
    if cross is None:
        cross = _cross_by_product(_few_rows(a), _few_rows(b))
    return max(0.0, float(means + np.square(a).sum() + np.square(b).sum() - 2 * cross))


def _scaled(features: np.ndarray) -> np.ndarray:
    """A (n, d) with AᵀA the covariance of ``features``."""
    centred: np.ndarray = features - features.mean(axis=0)
    return centred / math.sqrt(len(features) - 1)


def _cross_by_product(a: np.ndarray, b: np.ndarray) -> float:
    """tr (Σ₁Σ₂)^½ as the nuclear norm of ABᵀ (n, m): exact for singular covariances, and cheap for few rows."""
    return float(np.linalg.svd(a @ b.T, compute_uv=False).sum())


def _few_rows(a: np.ndarray) -> np.ndarray:
    """Rows (≤ d, d) with the same AᵀA as ``a`` (n, d)."""
    return a if len(a) <= a.shape[1] else np.asarray(np.linalg.qr(a, mode="r"))


def _root(a: np.ndarray) -> np.ndarray:
    """Σ^½ (d, d) of Σ = AᵀA."""
    values, vectors = np.linalg.eigh(a.T @ a)
    return np.asarray((vectors * np.sqrt(values.clip(min=0))) @ vectors.T)


def _cross_by_root(root: np.ndarray, b: np.ndarray) -> float | None:
    """tr (Σ₁Σ₂)^½ from the eigenvalues of Σ₁^½ Σ₂ Σ₁^½ (d, d), which is symmetric: its cost hardly grows with n.

    None where the eigenvalues of singular or nearly singular covariances are no more than rounding errors, whose roots
    would add up to more than the digits that are asked for.
    """
    squares = np.linalg.eigvalsh(root @ (b.T @ b) @ root)
    return float(np.sqrt(squares).sum()) if squares[0] > SINGULAR * squares[-1] else None
