"""A model of methods and seeds: each seed shifts all methods alike, and each method has a spread of its own.

A seed is a block, as in a randomised complete block design; values may be missing. Variances follow Smyth, Linear
models and empirical Bayes methods for assessing differential expression, Statistical Applications in Genetics and
Molecular Biology 3(1), 2004.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from grasp_bench.stats.ranks import ROUNDING

FEWEST_SEEDS = 3
"""Smallest number of seeds of a method that is compared with others."""
MOST_UNSURE = 0.35
"""Largest standard error of the scatter of log variances with which they may count as equal: with a larger one, as of
few methods or few seeds, unequal variances often look alike, and pooling them finds too much."""
MOST_SHARED = 2.0
"""Most degrees of freedom of the prior of variances whose scatter is known less surely, over those of one of them. With
any number, simulated tables of three to five methods at five seeds had a false difference in up to 8 of 100; with this,
true ones were found as often."""
OUTLYING = 0.1
"""A variance is far above the prior where so large a one has less than this chance."""


class NoSharedSeedsError(ValueError):
    """Values from which the model cannot tell methods and seeds apart, since too few methods share their seeds."""


@dataclass(frozen=True)
class Blocks:
    """The model value = method + seed + error, where the errors of method m have the variance σ²_m."""

    variances: np.ndarray
    """Shrunken variance of each method's errors: (methods,)."""
    prior_df: float
    """Degrees of freedom of the prior of the variances: infinite where they look alike, 0 where nothing is shared."""
    df: int
    """Residual degrees of freedom."""
    f_statistic: float
    """F of the test that all methods have the same mean."""
    f_df: tuple[float, float]
    """Its degrees of freedom, with Box's correction for unequal variances."""
    p: float
    """p of that test."""
    difference: np.ndarray
    """Method i minus method j by least squares: (methods, methods), as the arrays below."""
    error: np.ndarray
    """Standard error of the difference; NaN where no chain of shared seeds connects the two."""
    error_df: np.ndarray
    """Degrees of freedom of that error, by Satterthwaite's approximation."""
    common: np.ndarray
    """Share of the variance of (i, j) that is due to i: (i, j) and (i, l) correlate by √(common_ij common_il)."""

    own: np.ndarray
    """How many times a method's own variance is its shrunken one; 1 where nothing varies: (methods,)."""
    own_df: np.ndarray
    """Degrees of freedom of each method's own variance: (methods,)."""
    shrunken_df: np.ndarray
    """Degrees of freedom of each method's shrunken variance: (methods,)."""

    @property
    def homogeneous(self) -> bool:
        """Whether the methods' variances scatter no more than equal ones would, so that all share the pooled one."""
        return bool(np.isinf(self.prior_df))

    @property
    def t(self) -> np.ndarray:
        """The difference over its error; 0 where both are 0, and NaN where there is no error."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = self.difference / self.error
        return np.where((self.error == 0) & (self.difference == 0), 0.0, t)


def blocks(values: ArrayLike, *, equal_variances: bool = False) -> Blocks:
    """Fit the model to ``values`` (methods, seeds), in which NaN is a missing value.

    With ``equal_variances`` the methods are taken to have one variance, as in textbooks, and nothing is asked of it.

    Variances per method are unbiased quadratic estimates from the residuals of least squares: E[RSS_m] = Σ_j c_mj σ²_j,
    where c_mj sums the squared entries of the residual projection between the values of m and of j (Rao's MINQUE with
    equal prior weights, 1970; for complete data Shukla's stability variance, 1972). Empirical Bayes shrinks them
    towards a common value as in limma, but with half the estimated degrees of freedom of the prior: that estimate rests
    on as few variances as there are methods, and where it is too large, methods of large variance are found to differ
    too often. For the same reason, a method whose variance is far above the prior keeps its own (as in Phipson et al.,
    Robust hyperparameter estimation protects against hypervariable genes, Annals of Applied Statistics, 2016). Two
    methods give Student's paired t test.

    Raises ValueError for fewer than two methods, a method with fewer than three values, and infinity, and
    :class:`NoSharedSeedsError` for values that leave no residual degrees of freedom.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or np.isinf(table).any():
        raise ValueError(f"expected finite values of at least 2 methods, got shape {table.shape}")
    there = ~np.isnan(table)
    if there.sum(axis=1).min() < FEWEST_SEEDS:
        raise ValueError(f"expected at least {FEWEST_SEEDS} values of every method, got {there.sum(axis=1).tolist()}")
    design = _design(there.tobytes(), there.shape)
    if design.df < 1:
        raise NoSharedSeedsError("no residual degrees of freedom: too few methods share their seeds")
    y = table[there] - table[there].mean()
    effects, residuals = design.means @ y, y - design.fitted @ y
    difference = effects[:, None] - effects[None]
    for each in (difference, residuals):
        each[np.abs(each) <= ROUNDING * np.abs(table[there]).max()] = 0.0
    rss = np.bincount(design.method, residuals**2)
    pooled = float(rss.sum()) / design.df
    own_df = 1 / np.diagonal(design.inverse)
    raw = np.maximum(design.inverse @ rss, pooled / len(table))
    prior_df, prior = (np.inf, pooled) if equal_variances else _prior(raw, own_df, pooled)
    variances, total_df = _shrunken(raw, own_df, prior, prior_df)
    total_df = np.minimum(total_df, design.df)
    correlation = design.inverse * np.sqrt(np.outer(own_df, own_df))
    error, error_df, common = _errors(design, variances, correlation / np.sqrt(np.outer(total_df, total_df)))
    f_statistic, f_df, p = _omnibus(design, y, pooled, variances)
    own = np.ones(len(table)) if pooled == 0 else raw / variances
    omnibus, of_pairs = (f_statistic, f_df, p), (difference, error, error_df, common)
    return Blocks(variances, prior_df, design.df, *omnibus, *of_pairs, own, own_df, total_df)


@dataclass(frozen=True)
class _Design:
    """What depends only on which values are there."""

    method: np.ndarray
    """Method of each value: (values,)."""
    means: np.ndarray
    """Least-squares estimates of the methods from the values: (methods, values)."""
    fitted: np.ndarray
    """Projection onto what the model fits: (values, values)."""
    seeds_only: np.ndarray
    """Projection onto what seeds alone fit: (values, values)."""
    df: int
    inverse: np.ndarray
    """Inverse of c: (methods, methods)."""
    weights: np.ndarray
    """Variance of difference (i, j) per unit of the variance of m: (methods, methods, methods), m last."""
    estimable: np.ndarray
    """Whether a chain of shared seeds connects i and j: (methods, methods)."""


@lru_cache(maxsize=64)
def _design(mask: bytes, shape: tuple[int, int]) -> _Design:
    there = np.frombuffer(mask, dtype=np.bool_).reshape(shape)
    method, seed = np.nonzero(there)
    k = shape[0]
    of_method = np.eye(k)[method]
    of_seed = np.eye(shape[1])[seed]
    x = np.concatenate([of_method, of_seed], axis=1)
    inverse = np.linalg.pinv(x, rcond=1e-10)
    fitted = x @ inverse
    means = inverse[:k]
    residual = np.eye(len(method)) - fitted
    c = of_method.T @ (residual**2) @ of_method
    gram = np.einsum("iv,jv,vm->ijm", means, means, of_method, optimize=True)
    own = np.einsum("iim->im", gram)
    reach = there.astype(np.int64) @ there.T.astype(np.int64) > 0
    for _ in range(int(np.ceil(np.log2(k))) + 1):
        reach = reach @ reach
    return _Design(
        method,
        means,
        fitted,
        of_seed @ np.linalg.pinv(of_seed),
        len(method) - round(float(np.trace(fitted))),
        np.linalg.pinv(c, rcond=1e-10, hermitian=True),
        np.maximum(own[:, None] + own[None] - 2 * gram, 0.0),
        reach,
    )


def _errors(design: _Design, variances: np.ndarray, relative: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the error, its degrees of freedom and ``common`` of all pairs, as :class:`Blocks` has them.

    ``relative`` (methods, methods) is half the covariance of the estimated variances over their product.
    """
    parts = design.weights * variances
    variance = parts.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = variance**2 / np.einsum("ijl,ijl->ij", parts @ relative, parts)
        common = np.einsum("iji->ij", parts) / variance
    some = variance > 0
    error = np.where(design.estimable, np.sqrt(variance), np.nan)
    return error, np.where(some, np.clip(df, 1.0, design.df), design.df), np.where(some, common, 0.5)


def _shrunken(raw: np.ndarray, own_df: np.ndarray, prior: float, prior_df: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances (methods,) that :func:`blocks` uses, and their degrees of freedom."""
    from scipy.special import fdtrc

    if prior_df == 0:
        return raw, own_df
    if np.isinf(prior_df):
        return np.full(len(raw), prior), np.full(len(raw), np.inf)
    weight = prior_df / 2
    found = (weight * prior + own_df * raw) / (weight + own_df)
    outlying = (raw > found) & (fdtrc(own_df, prior_df, raw / prior) < OUTLYING)
    return np.where(outlying, raw, found), np.where(outlying, own_df, weight + own_df)


def _prior(variances: np.ndarray, df: np.ndarray, pooled: float) -> tuple[float, float]:
    """Return degrees of freedom and value of the prior, by the moments of log variances (Smyth 2004, section 6.2).

    Log variances of fewer degrees of freedom are noisier and weigh less, as studies do in DerSimonian and Laird,
    Meta-analysis in clinical trials, Controlled Clinical Trials 7(3), 1986: with equal ones the moments are Smyth's.
    Fewer than three methods share nothing: the prior then has no degrees of freedom. Where the standard error of how
    far equal variances would scatter is above :data:`MOST_UNSURE`, the prior has at most :data:`MOST_SHARED` times as
    many degrees of freedom as a variance has in the mean.
    """
    from scipy.special import digamma, polygamma

    if len(variances) < 3 or pooled == 0:
        return 0.0, pooled
    logs = np.log(variances) - digamma(df / 2) + np.log(df / 2)
    noise = polygamma(1, df / 2)
    weight = 1 / noise
    scale, expected = float(weight.sum() - (weight**2).sum() / weight.sum()), len(logs) - 1
    most = np.inf if math.sqrt(2 * expected) / scale <= MOST_UNSURE else MOST_SHARED * float(df.mean())
    scatter = float((weight * (logs - np.average(logs, weights=weight)) ** 2).sum())
    excess = (scatter - expected) / scale
    if excess <= 0:
        return most, pooled
    prior_df = min(most, 2 * _trigamma_inverse(excess))
    mean = float(np.average(logs, weights=1 / (noise + excess)))
    return prior_df, float(np.exp(mean + digamma(prior_df / 2) - np.log(prior_df / 2)))


def _trigamma_inverse(value: float) -> float:
    """Solve ψ'(x) = value by Newton's method on 1/ψ' (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        found = float(polygamma(1, x))
        step = found * (1 - found / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return x


def _omnibus(
    design: _Design, y: np.ndarray, pooled: float, variances: np.ndarray
) -> tuple[float, tuple[float, float], float]:
    """Return F of the methods beyond the seeds, its degrees of freedom and p for these variances (Box 1954)."""
    from scipy.special import fdtrc

    of_methods, residual = design.fitted - design.seeds_only, np.eye(len(y)) - design.fitted
    found = float(y @ of_methods @ y)
    if pooled == 0:
        differ = found > ROUNDING * float(y @ y)
        return (np.inf if differ else 0.0), (float(np.trace(of_methods)), float(design.df)), (0.0 if differ else 1.0)
    sigma = variances[design.method]
    above, below = of_methods * sigma, residual * sigma
    means = float(np.trace(above)), float(np.trace(below))
    df = means[0] ** 2 / float((above * above.T).sum()), means[1] ** 2 / float((below * below.T).sum())
    statistic = found / means[0] * means[1] / (pooled * design.df)
    return statistic, df, float(fdtrc(*df, statistic))
