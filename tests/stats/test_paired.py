import itertools
import math

import numpy as np
import pytest

from grasp_bench.stats import least_p, mean_interval, paired_difference

# Darwin's maize, crossed minus self-fertilised in eighths of an inch (Fisher, The Design of Experiments, section 17)
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
# Area under the curve of C4.5 and C4.5+m on 14 data sets (Demšar 2006, table 2)
C45 = [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.94, 0.619, 0.972, 0.957]
C45_M = [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962, 0.666, 0.981, 0.978]


def test_permutation_gives_fishers_count():
    # section 21: 1,726 of the 32,768 signs give a sum as far from zero
    found = paired_difference(MAIZE, [0] * 15)
    assert found.p == 1726 / 32768
    assert (found.n, least_p(15, "permutation")) == (15, 2 / 32768)


def test_t_gives_fishers_value():
    # t = 2.148 on 14 degrees of freedom: just significant at 0.05
    found = paired_difference(MAIZE, [0] * 15, "t")
    assert found.p == pytest.approx(0.0497, abs=1e-4)
    assert found.low == pytest.approx(0.03, abs=0.01)  # so its interval just leaves out zero


def test_wilcoxon_on_demsars_example():
    # section 3.1.3: the sums of ranks are 93 and 12, either with 1.5, half of what the two zeros have
    from scipy.stats import rankdata

    thousandths = np.rint(1000 * (np.array(C45_M) - np.array(C45))).astype(int)
    ranks = rankdata(np.abs(thousandths))
    better, worse = ranks[thousandths > 0], ranks[thousandths < 0]
    halved = ranks[thousandths == 0].sum() / 2
    assert (better.sum() + halved, worse.sum() + halved) == (93, 12)
    # the smaller sum is at most 12 under 32 of the 4,096 signs of the 12 ranks that have one
    moved = np.concatenate([better, worse])
    smaller = [
        halved + min(sum(itertools.compress(moved, signs)), sum(itertools.compress(moved, np.logical_not(signs))))
        for signs in itertools.product([False, True], repeat=len(moved))
    ]
    assert (np.count_nonzero(np.array(smaller) <= 12), len(smaller)) == (32, 4096)
    found = paired_difference(C45_M, C45, "wilcoxon")
    assert (found.p, found.n) == (32 / 4096, 14)
    assert found.mean == pytest.approx(np.mean(C45_M) - np.mean(C45))


@pytest.mark.parametrize("n", [2, 5, 9])
def test_permutation_is_scipys(n: int):
    from scipy import stats

    state = np.random.RandomState(n)
    a, b = state.rand(n), state.rand(n)
    expected = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert paired_difference(a.tolist(), b.tolist()).p == pytest.approx(expected.pvalue, abs=1e-12)


@pytest.mark.parametrize("n", [2, 5, 12, 20])
def test_wilcoxon_without_ties_is_scipys_exact_one(n: int):
    from scipy import stats

    a, b = np.random.RandomState(n).rand(2, n)
    expected = stats.wilcoxon(a - b, method="exact").pvalue
    assert paired_difference(a.tolist(), b.tolist(), "wilcoxon").p == pytest.approx(expected, abs=1e-12)


def test_wilcoxon_with_ties_and_zeros_counts_every_sign():
    # |d| = 0, 1, 1, 2, 3: ranks 1, 2.5, 2.5, 4, 5; the zero counts for neither side
    a, b = [3, 4, 5, 1, 9], [3, 3, 4, 3, 6]
    signed = [0, 2.5, 2.5, -4, 5]
    sums = [
        abs(sum(s * r for s, r in zip(signs, signed, strict=True))) for signs in itertools.product([-1, 1], repeat=5)
    ]
    assert paired_difference(a, b, "wilcoxon").p == np.mean([total >= abs(sum(signed)) for total in sums])


def test_t_is_scipys():
    from scipy import stats

    a, b = np.random.RandomState(0).rand(2, 6)
    found = paired_difference(a.tolist(), b.tolist(), "t")
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_five_seeds_that_all_agree_cannot_give_less_than_a_sixteenth():
    a, b = [1.0, 2.0, 3.0, 4.0, 5.0], [0.9, 1.8, 2.7, 3.6, 4.5]
    for test in ("permutation", "wilcoxon"):
        found = paired_difference(a, b, test)
        assert found.p == least_p(5, test) == 0.0625
    assert paired_difference(a, b, "t").p < 0.05


@pytest.mark.parametrize("test", ["permutation", "wilcoxon", "t"])
def test_one_pair_has_no_p_and_two_have_no_interval(test):
    one, two = paired_difference([2.0], [1.0], test), paired_difference([2.0, 3.0], [1.0, 1.5], test)
    assert (one.mean, one.low, one.high, one.n, one.p) == (1.0, None, None, 1, None)
    assert (two.low, two.high, two.n) == (None, None, 2)
    assert two.p is not None
    assert least_p(2, test) == (0.0 if test == "t" else 0.5)


@pytest.mark.parametrize("test", ["permutation", "wilcoxon", "t"])
def test_swapping_the_sides_and_shuffling_the_pairs_changes_only_the_sign(test):
    a, b = np.random.RandomState(3).rand(2, 7)
    order = np.random.RandomState(4).permutation(7)
    found = paired_difference(a.tolist(), b.tolist(), test)
    swapped = paired_difference(b[order].tolist(), a[order].tolist(), test)
    assert swapped.p == pytest.approx(found.p, rel=1e-9)
    assert swapped.mean == pytest.approx(-found.mean)
    assert (swapped.low, swapped.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


@pytest.mark.parametrize("test", ["permutation", "wilcoxon", "t"])
def test_equal_but_for_rounding_is_equal(test):
    a, b = [0.1 + 0.2, 0.5, 0.7], [0.3, 0.5, 0.1 * 7]
    assert paired_difference(a, b, test).p == 1.0
    assert paired_difference(a, b, test).mean == 0.0


def test_sums_that_tie_but_for_rounding_count_as_extreme():
    # differences 0.1, 0.2, -0.3 sum to about 3e-17: every sign is as extreme
    assert paired_difference([0.1, 0.2, 0.0], [0.0, 0.0, 0.3]).p == 1.0
    # 0.3 - 0.2 and 0.2 - 0.1 differ in the last bit, but share rank 1.5: -1.5, 1.5, 3, 4 are reached by 3 signs of 8
    assert paired_difference([0.2, 0.2, 0.5, 0.8], [0.3, 0.1, 0.0, 0.0], "wilcoxon").p == 3 / 8


def test_t_of_differences_that_are_all_alike():
    assert paired_difference([1.1, 2.1, 3.1], [1.0, 2.0, 3.0], "t").p == 0.0
    assert paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "t").p == 1.0


def test_many_pairs_are_sampled_repeatably_and_close_to_exact():
    from scipy import stats

    state = np.random.RandomState(5)
    a, b = state.randn(30) + 0.5, state.randn(30)
    found = paired_difference(a.tolist(), b.tolist(), "wilcoxon")
    assert found.p == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue, abs=0.003)
    assert paired_difference(a.tolist(), b.tolist(), "wilcoxon") == found
    certain = paired_difference([1.0] * 21, [0.0] * 21)
    assert certain.p == least_p(21, "permutation") == 1 / 100_001


@pytest.mark.parametrize("test", ["permutation", "wilcoxon", "t"])
def test_p_is_uniform_where_nothing_differs(test):
    state = np.random.RandomState(6)
    p = np.array([paired_difference(state.randn(6).tolist(), state.randn(6).tolist(), test).p for _ in range(2000)])
    for level in (2 / 64, 6 / 64, 0.25, 0.5):  # sums of continuous values give every multiple of 2/64 once
        reached = np.mean(p <= level + 1e-12)
        share = level if test != "wilcoxon" else _share_of_rank_sums(6, level)
        assert reached == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 2000))


def _share_of_rank_sums(n: int, level: float) -> float:
    """Chance of p ≤ ``level``: fewer rank sums than signs, so it may lie below the level."""
    sums = [
        abs(sum(s * r for s, r in zip(signs, range(1, n + 1), strict=True)))
        for signs in itertools.product([-1, 1], repeat=n)
    ]
    p = [np.mean([other >= own for other in sums]) for own in sums]
    return float(np.mean(np.array(p) <= level + 1e-12))


def test_the_interval_is_that_of_the_differences():
    a, b = [3.0, 5.0, 4.0, 8.0], [1.0, 2.0, 4.0, 4.0]
    found, interval = paired_difference(a, b), mean_interval([2.0, 3.0, 0.0, 4.0])
    assert (found.mean, found.low, found.high) == (interval.mean, interval.low, interval.high)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([], [], "one value per pair"),
        ([1.0, 2.0], [1.0], "one value per pair"),
        ([1.0, math.nan], [1.0, 2.0], "finite values"),
        ([1.0, 2.0], [1.0, math.inf], "finite values"),
    ],
)
def test_bad_input(a, b, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(a, b)


def test_unknown_test():
    with pytest.raises(ValueError, match="one of permutation, wilcoxon, t, got 'sign'"):
        paired_difference([1.0, 2.0], [2.0, 4.0], "sign")
