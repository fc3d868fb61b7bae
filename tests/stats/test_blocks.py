import numpy as np
import pytest
from scipy.stats import ttest_rel

from grasp_bench.stats import blocks
from grasp_bench.stats.blocks import _prior
from grasp_bench.stats.comparisons import single_p, with_baseline

from .examples import GRAFTS, PENICILLIN


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(
    ("values", "variance", "f_statistic", "df", "p"),
    [(GRAFTS, 7.33, 8.11, 15, 0.0019), (PENICILLIN, 18.8, 1.24, 12, 0.34)],
    ids=["Montgomery", "Box, Hunter and Hunter"],
)
def test_analysis_of_variance_is_that_of_textbooks(values, variance, f_statistic, df, p):
    found = blocks(values, equal_variances=True)  # what the textbooks take for granted
    assert found.variances == pytest.approx(variance, abs=0.05)
    assert (found.f_statistic, found.df) == (pytest.approx(f_statistic, abs=0.005), df)
    assert found.f_df == pytest.approx((3, df))
    assert found.p == pytest.approx(p, abs=0.005 if p > 0.1 else 0.00005)
    means = values.mean(axis=1)
    assert found.difference == pytest.approx(means[:, None] - means)


def test_two_methods_give_the_paired_t_test():
    values = normal(2, 7) * [[1.0], [3.0]] + np.arange(7)
    found, expected = blocks(values), ttest_rel(*values)
    assert found.t[0, 1] == pytest.approx(expected.statistic)
    assert found.error_df[0, 1] == pytest.approx(6)
    assert found.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("methods", "seeds", "alike"),
    [(3, 5, False), (8, 5, False), (12, 5, True), (18, 3, False), (4, 10, False), (5, 10, True)],
)
def test_variances_are_taken_to_be_alike_only_where_it_is_known_how_far_they_scatter(methods, seeds, alike):
    """A few variances that look alike may not be, and pooling them would find too much."""
    found = [blocks(normal(methods, seeds, seed=seed)) for seed in range(20)]
    most = np.inf if alike else 2 * found[0].own_df.mean()
    assert max(each.prior_df for each in found) == pytest.approx(most)


def test_noisier_variances_weigh_less():
    """Methods of two degrees of freedom say little of how far variances scatter, however far theirs do."""
    few, many = np.array([0.2, 5.0]), np.array([0.5, 0.7, 1.0, 1.4, 2.0])
    variances, df = np.r_[few, many], np.r_[2.0, 2.0, np.full(5, 20.0)]
    assert _prior(variances, df, 1.0)[0] == pytest.approx(_prior(many, np.full(5, 20.0), 1.0)[0], rel=0.3)
    assert _prior(variances, np.full(7, 20.0), 1.0)[0] < _prior(variances, df, 1.0)[0] / 2


def test_what_a_seed_adds_to_all_methods_changes_nothing():
    values = normal(5, 6)
    shifted = blocks(values + 100 * np.arange(6))
    for name in ("difference", "error", "error_df", "p", "variances"):
        assert getattr(shifted, name) == pytest.approx(getattr(blocks(values), name), rel=1e-6)


def test_a_missing_seed_leaves_differences_of_methods_as_if_they_were_there():
    """Without noise, least squares recovers what the mean over different seeds would not."""
    values = np.arange(4.0)[:, None] + 10 * np.arange(5.0)
    values[0, 4] = values[2, :2] = np.nan
    found = blocks(values)
    assert found.difference[:, 0] == pytest.approx(np.arange(4))
    assert found.df == 17 - 8
    assert np.nanmean(values[2]) - np.nanmean(values[0]) != pytest.approx(2)


def test_methods_that_no_chain_of_seeds_connects_have_no_error():
    values = np.full((4, 8), np.nan)
    values[:2, :4], values[2:, 4:] = normal(2, 4), normal(2, 4, seed=1)
    found = blocks(values)
    assert np.isnan(found.error[0, 2])
    assert np.isfinite(found.error[0, 1])
    assert np.isfinite(found.error[2, 3])


def test_variances_are_estimated_per_method():
    true = np.linspace(0.5, 1.5, 10) ** 2
    found = [blocks(normal(10, 40, seed=seed) * np.sqrt(true)[:, None]).variances for seed in range(40)]
    assert np.mean(found, axis=0) == pytest.approx(true, rel=0.2)
    assert not blocks(normal(10, 40) * np.sqrt(true)[:, None]).homogeneous


def test_the_prior_of_variances_is_recovered():
    stream = np.random.default_rng(0)
    true = 2.0 * 6 / stream.chisquare(6, 200_000)  # scaled inverse χ² with 6 degrees of freedom about 2
    drawn = true * stream.chisquare(4, true.shape) / 4
    prior_df, prior = _prior(drawn, np.full(drawn.shape, 4.0), drawn.mean())
    assert (prior_df, prior) == (pytest.approx(6, rel=0.05), pytest.approx(2, rel=0.02))


def test_variances_without_spread_are_pooled():
    found = next(each for seed in range(20) if (each := blocks(normal(12, 6, seed=seed))).homogeneous)
    assert np.ptp(found.variances) == 0
    assert found.error_df == pytest.approx(55)
    assert not blocks(normal(12, 6) * np.r_[np.ones(6), np.full(6, 4.0)][:, None]).homogeneous
    assert blocks(normal(12, 6) * np.r_[np.ones(6), np.full(6, 4.0)][:, None], equal_variances=True).homogeneous


def test_a_method_of_outlying_variance_keeps_its_own():
    values = normal(12, 8, seed=3) * np.r_[np.ones(11), 8.0][:, None]
    found = blocks(values)
    own = values[-1] - values[:-1].mean(axis=0)
    assert found.variances[-1] == pytest.approx(own.var(ddof=1), rel=0.1)
    assert found.variances[:-1].max() < 10


def test_equal_values_do_not_differ_and_constant_shifts_do():
    values = np.repeat(np.arange(5.0)[None], 3, axis=0)
    assert blocks(values).p == 1
    assert (blocks(values).t == 0).all()
    values[1] += 0.5
    found = blocks(values)
    assert found.p == 0
    assert found.t[1, 0] == np.inf


def test_equal_values_do_not_differ_where_one_has_further_seeds():
    many = np.log([141.04616183429553, 300.71652403250874, 248.8559206530902, 166.37912816085114, 259.0940259606117])
    values = np.stack([np.r_[many, 5.1, 5.6, 5.3], np.r_[many, np.full(3, np.nan)]])
    found = blocks(values)
    assert (found.difference == 0).all()
    assert (found.t == 0).all()
    assert single_p(found).min() == with_baseline(found, 0).p[0] == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 2.0, 3.0]], "at least 2 methods"),
        ([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]], "at least 3 values of every method"),
        ([[1.0, 2.0, np.inf], [1.0, 2.0, 3.0]], "expected finite values"),
        ([[1.0, 2.0, 3.0] + [np.nan] * 3, [np.nan] * 3 + [1.0, 2.0, 3.0]], "no residual degrees of freedom"),
    ],
)
def test_what_cannot_be_compared_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        blocks(values)
