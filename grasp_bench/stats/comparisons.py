"""Many methods compared at once: which differ, which could be the best, and between which ranks each lies.

Every interval and p here is simultaneous: the chance that any of those of one call is wrong is at most alpha.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_bench.stats.blocks import Blocks
from grasp_bench.stats.maximum import Against, largest_range
from grasp_bench.stats.paired import holm


@dataclass(frozen=True)
class WithBaseline:
    """Each other method minus the baseline, in the methods' order: arrays (methods − 1,)."""

    others: np.ndarray
    """Index of the method."""
    difference: np.ndarray
    low: np.ndarray
    """Lower end of the simultaneous interval; NaN where nothing connects the two."""
    high: np.ndarray
    p: np.ndarray
    """Two-sided p, adjusted for all of them."""


def single_p(model: Blocks) -> np.ndarray:
    """Return the two-sided p of each difference (methods, methods), not adjusted for there being several."""
    from scipy.special import stdtr

    return np.asarray(2 * stdtr(model.error_df, -np.abs(model.t)))


def all_pairs(model: Blocks) -> np.ndarray:
    """Return the p of each difference (methods, methods), adjusted for all pairs; NaN where it cannot be tested.

    Where the methods' variances are alike, by Tukey's studentized range (Tukey–Kramer for missing values); elsewhere by
    Holm's procedure over moderated t tests. Tukey's test takes equal variances for granted: at five seeds and standard
    deviations from 0.5 to 1.5 it finds a false difference in 10 to 22 of 100 tables of 18 methods, and in 10 to 18
    after Brown and Forsythe's test, which then hardly sees anything. So variances count as alike only where empirical
    Bayes finds no spread in them at all, and there are enough methods to see one.
    """
    k = len(model.difference)
    rows, columns = np.triu_indices(k, 1)
    if model.homogeneous:
        p = largest_range(np.sqrt(2) * np.abs(model.t[rows, columns]), k, model.df)
        p = np.where(np.isnan(model.t[rows, columns]), np.nan, p)
    else:
        single = single_p(model)[rows, columns]
        p = np.array([np.nan if each is None else each for each in holm([None if x != x else x for x in single])])
    found = np.full((k, k), np.nan)
    found[rows, columns] = found[columns, rows] = p
    return found


def with_baseline(model: Blocks, baseline: int, alpha: float = 0.05) -> WithBaseline:
    """Compare every method with the one at index ``baseline``: Dunnett's procedure, two-sided.

    Each difference has its own degrees of freedom, and all are found with the same chance where there is nothing.
    """
    from scipy.special import stdtr

    others = np.delete(np.arange(len(model.difference)), baseline)
    difference = model.difference[others, baseline]
    width, p = np.full((2, len(others)), np.nan)
    there, error, against = _against(model, baseline)
    if against is not None:
        at = np.searchsorted(others, there)
        t = _ratio(difference[at], error)
        width[at] = error * against.critical(alpha, two_sided=True)
        p[at] = against.adjusted(2 * stdtr(against.freedom, -np.abs(t)), two_sided=True)
    return WithBaseline(others, difference, difference - width, difference + width, p)


def could_be_best(model: Blocks, *, lower: bool, alpha: float = 0.05) -> np.ndarray:
    """Return which methods could be the best (methods,): Hsu's multiple comparisons with the best.

    A method could be unless it is significantly worse than another, by Dunnett's one-sided procedure with that method
    as the control (Hsu, Simultaneous confidence intervals for all distances from the "best", Annals of Statistics 9,
    1981). The best is among those returned with a chance of at least 1 − alpha, however many methods there are.
    ``lower`` says whether the least mean is the best.
    """
    sign = -1 if lower else 1
    return np.array([chance_of_any(model, method, sign) >= alpha for method in range(len(model.difference))])


def chance_of_any(model: Blocks, control: int, sign: int) -> float:
    """Return the p of there being no method that is above the control, below it (``sign`` −1), or either (0).

    It is the smallest one of :func:`with_baseline` for 0; 1 where there is nothing to compare.
    """
    from scipy.special import stdtr

    others, error, against = _against(model, control)
    if against is None:
        return 1.0
    t = _ratio(model.difference[others, control], error)
    far = sign * t if sign else np.abs(t)
    if far.max() <= 0:
        return 1.0
    single = float(stdtr(against.freedom, -far).min()) * (1 if sign else 2)
    return against.any_exceeds(against.bounds(single, two_sided=not sign), two_sided=not sign)


def rank_intervals(difference: np.ndarray, p: np.ndarray, *, lower: bool, alpha: float = 0.05) -> np.ndarray:
    """Return the best and the worst rank that each method may have: (methods, 2), where 1 is the best.

    A method ranks behind all that are significantly better than it, and before all that are significantly worse. With
    ``p`` (methods, methods) adjusted for all pairs, the chance that every method's rank is within its interval is at
    least 1 − alpha (Al Mohamad, Goeman and van Zwet, Simultaneous confidence intervals for ranks with application to
    ranking institutions, Biometrics 78, 2022). ``difference`` (methods, methods) is of row minus column.
    """
    signed = difference if lower else -difference
    significant = p < alpha  # False for NaN
    better = (significant & (signed > 0)).sum(axis=1)
    worse = (significant & (signed < 0)).sum(axis=1)
    return np.stack([1 + better, len(difference) - worse], axis=1)


def false_discovery_rate(p_values: np.ndarray) -> np.ndarray:
    """Return p-values (n,) adjusted by Benjamini and Hochberg's procedure (1995); NaN stays NaN and is not counted."""
    from scipy.stats import false_discovery_control

    found = np.full(len(p_values), np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        found[tested] = false_discovery_control(p_values[tested])
    return found


def _against(model: Blocks, control: int) -> tuple[np.ndarray, np.ndarray, Against | None]:
    """Return the methods that are connected with the control, the errors of their differences, and what they share.

    Shrinkage is right on average over methods, but the control is in every comparison: its variance is its own, with
    the degrees of freedom of that, beside the shrunken one of each other. Where all variances look alike and the
    control's is below the pooled one, that counts for both: Dunnett's procedure as it is in textbooks. A single
    comparison has nothing to share: its error is that of the difference, and two methods give the paired t test.
    """
    others = np.flatnonzero(~np.isnan(model.error[control]) & (np.arange(len(model.error)) != control))
    if not len(others):
        return others, others.astype(np.float64), None
    error, common = model.error[others, control], model.common[control, others]
    if len(others) == 1:
        return others, error, Against(np.zeros(1), np.ones(1), float(model.error_df[others[0], control]), np.ones(1))
    if model.homogeneous and model.own[control] <= 1:
        return others, error, Against(common, np.ones(len(others)), model.df, np.ones(len(others)))
    inflated = 1 - common + common * model.own[control]
    common = np.clip(common * model.own[control] / inflated, 0.0, 0.999)
    against = Against(common, common, max(1.0, model.own_df[control]), np.maximum(1.0, model.shrunken_df[others]))
    return others, error * np.sqrt(inflated), against


def _ratio(difference: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return t; 0 where neither differs from zero, and NaN where there is no error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((error == 0) & (difference == 0), 0.0, difference / error)
