"""Worked examples of moderated t tests and of rank intervals: every number by the formulas of their papers, by hand."""

from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import studentized_range, t

from grasp_bench.stats import all_pairs, blocks, rank_intervals, single_p
from grasp_bench.stats.blocks import _prior, _shrunken

from .examples import GRAFTS, PENICILLIN

# Six methods and five seeds; residuals of the last method are many times those of the others.
UNEQUAL = np.array(
    [
        [10.0, 11.0, 10.5, 9.5, 10.2],
        [10.4, 11.6, 10.6, 10.1, 10.9],
        [11.2, 12.1, 11.5, 10.9, 11.3],
        [12.0, 12.8, 12.6, 11.1, 12.4],
        [13.1, 14.3, 13.2, 12.7, 13.0],
        [9.0, 15.5, 12.0, 8.5, 14.0],
    ]
)


def shukla(values: np.ndarray) -> np.ndarray:
    """Stability variances of complete data (Shukla, Heredity 29, 1972), from the squared residuals of each method."""
    k, n = values.shape
    residuals = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    own = (residuals**2).sum(axis=1)
    return (k * (k - 1) * own - own.sum()) / ((n - 1) * (k - 1) * (k - 2))


def smyth(variances: np.ndarray, df: float) -> tuple[float, float]:
    """Degrees of freedom and value of the prior, by the formulas of section 6.2 of Smyth 2004."""
    e = np.log(variances) - digamma(df / 2) + np.log(df / 2)
    excess = ((e - e.mean()) ** 2).sum() / (len(e) - 1) - polygamma(1, df / 2)
    prior_df = 2 * brentq(lambda x: polygamma(1, x) - excess, 1e-3, 1e6, xtol=1e-12)
    return prior_df, float(np.exp(e.mean() + digamma(prior_df / 2) - np.log(prior_df / 2)))


@pytest.fixture
def fitted() -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Shukla's variances, their degrees of freedom, and moderated ones with theirs."""
    k, n = UNEQUAL.shape
    own = shukla(UNEQUAL)
    floor = ((UNEQUAL - UNEQUAL.mean(1, keepdims=True) - UNEQUAL.mean(0) + UNEQUAL.mean()) ** 2).sum()
    own = np.maximum(own, floor / ((k - 1) * (n - 1)) / k)  # a variance may be estimated below zero
    df = (n - 1) * (k - 1) * (k - 2) / (k**2 - k - 1)  # 1 / variance of a stability variance, times 2 σ⁴
    prior_df, prior = smyth(own, df)
    moderated = (prior_df / 2 * prior + df * own) / (prior_df / 2 + df)  # with half of the prior's degrees of freedom
    total = np.full(k, df + prior_df / 2)
    moderated[-1], total[-1] = own[-1], df  # far above the prior: it keeps its own
    return own, df, moderated, total


def test_variances_of_methods_are_shuklas(fitted):
    own, df, _, _ = fitted
    found = blocks(UNEQUAL)
    assert found.own * found.variances == pytest.approx(own)
    assert found.own_df == pytest.approx(df)
    assert df == pytest.approx(80 / 29)


def test_moderated_variances_are_smyths(fitted):
    own, df, moderated, total = fitted
    found = blocks(UNEQUAL)
    assert not found.homogeneous
    assert found.prior_df == pytest.approx(smyth(own, df)[0])
    assert found.variances == pytest.approx(moderated)
    assert found.shrunken_df == pytest.approx(total)


def test_the_prior_is_limmas():
    """What ``squeezeVar`` of limma gives for these variances of three degrees of freedom, by the tests of InMoose."""
    variances, df = np.array([0.5, 1.3, 7.8]), np.full(3, 3.0)
    prior_df, prior = _prior(variances, df, variances.mean())
    assert (prior_df, prior) == (pytest.approx(2.830777, abs=5e-7), pytest.approx(1.676927, abs=5e-7))
    shrunken = _shrunken(variances, df, prior, 2 * prior_df)[0]  # which halves the prior's degrees of freedom
    assert shrunken == pytest.approx([1.071385, 1.482994, 7.8], abs=1e-6)  # limma's 4.827317: far above the prior


def test_the_moderated_t_of_a_pair_is_that_by_hand(fitted):
    _, _, moderated, total = fitted
    k, n = UNEQUAL.shape
    found = blocks(UNEQUAL)
    correlation = -1 / (k * (k - 1) - 1)  # of two stability variances, as all of a seed's residuals sum to zero
    for i, j in ((0, 1), (0, 4), (2, 5)):
        parts = moderated[[i, j]] / n
        by_hand = (UNEQUAL[i].mean() - UNEQUAL[j].mean()) / np.sqrt(parts.sum())
        spread = (parts**2 / total[[i, j]]).sum() + 2 * correlation * parts.prod() / np.sqrt(total[[i, j]].prod())
        df = min(parts.sum() ** 2 / spread, (k - 1) * (n - 1))
        assert found.t[i, j] == pytest.approx(by_hand)
        assert found.error_df[i, j] == pytest.approx(df)
        assert single_p(found)[i, j] == pytest.approx(2 * t.sf(abs(by_hand), df))


def possible_ranks(values: np.ndarray, least_difference: float) -> list[list[int]]:
    """Best and worst rank of each method over all orders in which none is before one that is better by so much."""
    means = values.mean(axis=1)
    orders = [
        order
        for order in permutations(range(len(means)))
        if all(means[b] - means[a] <= least_difference for at, a in enumerate(order) for b in order[at + 1 :])
    ]
    places = np.array([np.argsort(order) + 1 for order in orders])
    return np.stack([places.min(axis=0), places.max(axis=0)], axis=1).tolist()


def test_rank_intervals_are_those_of_tukeys_differences():
    """Montgomery's grafts: q(0.05; 4, 15) = 4.08, so that means 4.51 and more apart differ.

    The means 92.8, 91.7, 88.9 and 85.8 are 1.1, 2.8 and 3.2 apart: only the first two are told from the last.
    """
    model = blocks(GRAFTS, equal_variances=True)
    found = rank_intervals(model.difference, all_pairs(model), lower=False)
    assert found.tolist() == [[1, 3], [1, 3], [1, 4], [3, 4]]
    apart = studentized_range.ppf(0.95, 4, 15) * np.sqrt(model.variances[0] / 6)
    assert apart == pytest.approx(4.51, abs=0.01)
    assert found.tolist() == possible_ranks(GRAFTS, apart)
    assert rank_intervals(model.difference, all_pairs(model), lower=True).tolist() == [[2, 4], [2, 4], [1, 4], [1, 2]]


def test_rank_intervals_of_what_does_not_differ_are_all_ranks():
    """Box, Hunter and Hunter's penicillin, of which p = 0.34: no two of four variants differ."""
    model = blocks(PENICILLIN, equal_variances=True)
    found = rank_intervals(model.difference, all_pairs(model), lower=False)
    assert found.tolist() == [[1, 4]] * 4
    assert found.tolist() == possible_ranks(PENICILLIN, studentized_range.ppf(0.95, 4, 12) * np.sqrt(18.8 / 5))
