import numpy as np
import pytest
from scipy.stats import studentized_range, t

from grasp_bench.stats.maximum import Against, largest_range

from .examples import BLOOD


def dunnett(common, df) -> Against:
    """One estimate of variance for all."""
    return Against(np.array(common), np.ones(len(common)), df, np.ones(len(common)))


@pytest.mark.parametrize(
    ("methods", "df", "one_sided", "two_sided"),
    [(3, 8, 2.42, 2.88), (3, 16, 2.23, 2.59), (2, 5, 2.44, 3.03), (9, 20, 2.60, 2.95), (3, 20, 2.19, 2.54)],
)
def test_critical_values_are_those_of_dunnetts_tables(methods, df, one_sided, two_sided):
    """Dunnett 1955, table 1a, and 1964, table II: at 5 %, for as many treatments as a control is compared with."""
    equal = dunnett([0.5] * methods, df)
    assert equal.critical(0.05, two_sided=False) == pytest.approx(one_sided, abs=0.005)
    assert equal.critical(0.05, two_sided=True) == pytest.approx(two_sided, abs=0.0051)


def test_p_values_are_those_of_dunnetts_example():
    """As ``scipy.stats.dunnett`` prints them for these data: 0.62004941 and 0.0059035, which it draws at random."""
    control, *drugs = BLOOD
    variance = sum(((each - each.mean()) ** 2).sum() for each in BLOOD) / (sum(map(len, BLOOD)) - 3)
    found = [(each.mean() - control.mean()) / np.sqrt(variance * (1 / len(each) + 1 / 6)) for each in drugs]
    common = [(1 / 6) / (1 / 6 + 1 / len(each)) for each in drugs]
    adjusted = dunnett(common, 12).adjusted(2 * t.sf(np.abs(found), 12), two_sided=True)
    assert adjusted == pytest.approx([0.6200, 0.0059], abs=2e-4)


@pytest.mark.parametrize("df", [2, 3, 8.5, 68])
def test_one_comparison_is_students(df):
    for at in (0.5, 2.0, 4.0):
        assert dunnett([0.3], df).any_exceeds(at, two_sided=True) == pytest.approx(2 * t.sf(at, df), rel=1e-6)
        assert dunnett([0.3], df).any_exceeds(at, two_sided=False) == pytest.approx(t.sf(at, df), rel=1e-6)


@pytest.mark.parametrize("shared", [[1.0, 1.0, 1.0], [0.1, 0.5, 0.9], [0.0, 0.3, 1.0]])
def test_unequal_shares_agree_with_draws(shared):
    stream, common, dfs = np.random.default_rng(0), np.array([0.1, 0.5, 0.9]), np.array([4.0, 12.0, 68.0])
    drawn = np.sqrt(common) * stream.normal(size=(400_000, 1)) + np.sqrt(1 - common) * stream.normal(size=(400_000, 3))
    one, rest = stream.chisquare(7, (400_000, 1)) / 7, stream.chisquare(dfs, (400_000, 3)) / dfs
    drawn /= np.sqrt(np.array(shared) * one + (1 - np.array(shared)) * rest)
    against = Against(common, np.array(shared), 7, dfs)
    for bounds in ([1.5, 1.5, 1.5], [2.0, 2.5, 3.0]):
        expected = (drawn > bounds).any(axis=1).mean()
        assert against.any_exceeds(bounds, two_sided=False) == pytest.approx(expected, abs=0.002)
        expected = (np.abs(drawn) > bounds).any(axis=1).mean()
        assert against.any_exceeds(bounds, two_sided=True) == pytest.approx(expected, abs=0.002)


def test_critical_bounds_are_exceeded_with_the_chance_that_is_asked_for_and_single_ps_adjusted_alike():
    against = Against(np.array([0.2, 0.5, 0.9]), np.array([0.2, 0.5, 0.9]), 4, np.array([4.0, 10.0, 30.0]))
    bounds = against.critical(0.05, two_sided=True)
    assert against.any_exceeds(bounds, two_sided=True) == pytest.approx(0.05, abs=1e-5)
    assert against.adjusted(2 * t.sf(bounds, against.freedom), two_sided=True) == pytest.approx(0.05, abs=1e-5)


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("methods", [1, 2, 30])
@pytest.mark.parametrize("df", [1.0, 2.0, 200.0])
def test_few_seeds_have_critical_bounds(methods, df, shared, two_sided):
    against = Against(np.full(methods, 0.5), np.full(methods, shared), df, np.full(methods, df))
    bounds = against.critical(0.05, two_sided=two_sided)
    assert against.any_exceeds(bounds, two_sided=two_sided) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(("methods", "df"), [(2, 4), (18, 68), (40, 10)])
def test_the_range_is_scipys(methods, df):
    q = [1.0, 4.0, 6.5]
    assert largest_range(q, methods, df) == pytest.approx(studentized_range.sf(q, methods, df), rel=2e-4, abs=1e-8)


def test_what_has_no_distribution_is_refused():
    with pytest.raises(ValueError, match="shares of variance"):
        dunnett([1.0], 5)
    with pytest.raises(ValueError, match="df of at least 1"):
        dunnett([0.5], 0.5)
    with pytest.raises(ValueError, match="at least 2 methods"):
        largest_range([1.0], 1, 5)
