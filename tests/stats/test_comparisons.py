import numpy as np
import pytest
from scipy.stats import studentized_range, t, ttest_rel

from grasp_bench.stats import (
    all_pairs,
    blocks,
    could_be_best,
    false_discovery_rate,
    holm,
    rank_intervals,
    single_p,
    with_baseline,
)
from grasp_bench.stats.comparisons import chance_of_any

from .examples import GRAFTS


def spread(methods: int = 6, seeds: int = 10) -> np.ndarray:
    """Methods that differ, with standard deviations from 0.5 to 1.5."""
    noise = np.random.default_rng(5).normal(size=(methods, seeds))
    return noise * np.linspace(0.5, 1.5, methods)[:, None] + 0.8 * np.arange(methods)[:, None]


def test_like_variances_are_compared_by_tukeys_range():
    """Montgomery's grafts: q(0.05; 4, 15) = 4.08, so that pairs further than 4.08 √(7.33 / 6) = 4.51 apart differ."""
    found = all_pairs(blocks(GRAFTS, equal_variances=True))
    means = GRAFTS.mean(axis=1)
    apart = np.abs(means[:, None] - means)
    assert ((found < 0.05) == (apart > 4.51))[~np.eye(4, dtype=bool)].all()
    q = apart[0, 3] / np.sqrt(7.32575 / 6)
    assert found[0, 3] == pytest.approx(studentized_range.sf(q, 4, 15), rel=1e-3)
    assert found[0, 3] == found[3, 0]
    assert np.isnan(np.diagonal(found)).all()


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_single_comparison_is_the_paired_t_test(seeds):
    values = spread(2, seeds)
    model, expected = blocks(values), ttest_rel(values[1], values[0])
    found, interval = with_baseline(model, 0), expected.confidence_interval()
    assert found.p == pytest.approx([expected.pvalue], rel=1e-3)
    assert (found.low[0], found.high[0]) == pytest.approx((interval.low, interval.high), rel=1e-3)
    assert found.p == pytest.approx([single_p(model)[0, 1]], rel=1e-3)
    assert chance_of_any(model, 0, 1) == pytest.approx(ttest_rel(values[1], values[0], alternative="greater").pvalue)


def test_so_is_that_with_the_only_row_that_is_connected():
    values = np.full((4, 10), np.nan)
    values[:2, :5], values[2:, 5:] = spread(2, 5), spread(2, 5) + 7
    found = with_baseline(blocks(values), 0)
    assert found.p[0] == pytest.approx(single_p(blocks(values))[0, 1], rel=1e-3)
    assert np.isnan(found.p[1:]).all()


def test_unlike_variances_are_compared_by_holms_procedure():
    model = blocks(spread())
    assert not model.homogeneous
    at = np.triu_indices(6, 1)
    expected = holm((2 * t.sf(np.abs(model.t[at]), model.error_df[at])).tolist())
    assert all_pairs(model)[at] == pytest.approx(expected)


def test_comparisons_with_a_baseline_are_dunnetts():
    """Two-sided d(0.05; 3, 15) = 2.61: differences of 2.61 √(2 · 7.33 / 6) = 4.08 are significant."""
    found = with_baseline(blocks(GRAFTS, equal_variances=True), 1)
    assert found.others.tolist() == [0, 2, 3]
    assert found.difference == pytest.approx(GRAFTS.mean(axis=1)[[0, 2, 3]] - GRAFTS[1].mean())
    assert (found.high - found.low) / 2 == pytest.approx(4.08, abs=0.01)
    assert (found.p < 0.05).tolist() == [False, False, True]
    assert ((found.low > 0) | (found.high < 0)).tolist() == [False, False, True]


def test_a_baseline_whose_variance_is_above_the_pooled_one_keeps_its_own():
    model = blocks(GRAFTS, equal_variances=True)
    assert model.own[0] > 1
    half = (found := with_baseline(model, 0)).high - found.difference
    error = np.sqrt((model.own[0] + 1) * model.variances[0] / 6)
    assert half == pytest.approx(half[0])
    assert half[0] > error * t.isf(0.025, 1 / (1 / (1 + 1 / model.own[0]) ** 2 / model.own_df[0]))


def test_interval_and_p_agree_where_variances_differ():
    found = with_baseline(blocks(spread()), 2)
    assert (found.p < 0.05).any()
    assert chance_of_any(blocks(spread()), 2, 0) == pytest.approx(found.p.min())
    assert ((found.p < 0.05) == ((found.low > 0) | (found.high < 0))).all()


def test_what_could_be_best_is_hsus():
    """One-sided d(0.05; 3, 15) = 2.24: what is within 2.24 √(2 · 7.33 / 6) = 3.50 of the best mean could be best.

    Means are 92.8, 91.7, 88.9 and 85.8.
    """
    model = blocks(GRAFTS, equal_variances=True)
    assert could_be_best(model, lower=False).tolist() == [True, True, False, False]
    assert could_be_best(model, lower=True).tolist() == [False, False, True, True]
    assert could_be_best(blocks(np.zeros((3, 4))), lower=True).all()


def test_rank_intervals_count_what_is_better_and_worse():
    difference = np.array([[0.0, -1, -2], [1, 0, -1], [2, 1, 0]])
    p = np.array([[np.nan, 0.2, 0.01], [0.2, np.nan, 0.04], [0.01, 0.04, np.nan]])
    assert rank_intervals(difference, p, lower=True).tolist() == [[1, 2], [1, 2], [3, 3]]
    assert rank_intervals(difference, p, lower=False).tolist() == [[2, 3], [2, 3], [1, 1]]
    assert rank_intervals(difference, np.full((3, 3), np.nan), lower=True).tolist() == [[1, 3]] * 3


def test_unconnected_methods_are_not_told_apart():
    values = np.full((4, 8), np.nan)
    stream = np.random.default_rng(0)
    values[:2, :4], values[2:, 4:] = stream.normal(size=(2, 4)), 100 + stream.normal(size=(2, 4))
    model = blocks(values)
    found = with_baseline(model, 0)
    assert np.isnan(found.p[1:]).all()
    assert np.isnan(found.low[1:]).all()
    assert np.isnan(all_pairs(model)[0, 2])
    assert could_be_best(model, lower=True).any()


def test_false_discovery_rates_are_benjaminis_and_hochbergs():
    """The example of their paper (JRSS B 57, 1995, section 4.1): at 5 % the four smallest of 15 are rejected."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590]
    found = false_discovery_rate(np.array([*p, 1.0, np.nan]))
    assert (found < 0.05).sum() == 4
    assert found[3] == pytest.approx(0.0095 * 15 / 4)
    assert np.isnan(found[-1])
    assert np.isnan(false_discovery_rate(np.array([np.nan]))).all()


def test_a_single_p_is_that_of_one_comparison():
    model = blocks(GRAFTS, equal_variances=True)
    assert single_p(model)[0, 3] == pytest.approx(2 * t.sf(abs(model.t[0, 3]), 15))
