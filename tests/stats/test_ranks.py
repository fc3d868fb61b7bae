import itertools
import math

import numpy as np
import pytest

from grasp_bench.stats import cliques, critical_difference, friedman

# Ranks of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets (Demšar 2006, table 6)
DEMSAR = {
    "C4.5": [4, 1, 4, 4, 4, 1, 3, 2.5, 4, 2.5, 4, 3, 4, 3],
    "C4.5+m": [3, 2, 1, 1, 2, 2.5, 2, 2.5, 3, 2.5, 2.5, 2, 1, 1],
    "C4.5+cf": [2, 3, 2, 3, 3, 4, 4, 4, 2, 2.5, 1, 4, 2, 4],
    "C4.5+m+cf": [1, 4, 3, 2, 1, 2.5, 1, 1, 1, 2.5, 2.5, 1, 3, 2],
}
# Seconds to second base by three ways of rounding first (round out, narrow, wide), 22 players (Hollander and Wolfe,
# Nonparametric Statistical Methods, 1973, table 7.1; the example of R's friedman.test)
BASES = """
5.40 5.50 5.55  5.85 5.70 5.75  5.20 5.60 5.50  5.55 5.50 5.40  5.90 5.85 5.70  5.45 5.55 5.60
5.40 5.40 5.35  5.45 5.50 5.35  5.25 5.15 5.00  5.85 5.80 5.70  5.25 5.20 5.10  5.65 5.55 5.45
5.60 5.35 5.45  5.05 5.00 4.95  5.50 5.50 5.40  5.45 5.55 5.50  5.55 5.55 5.35  5.45 5.50 5.55
5.50 5.45 5.25  5.65 5.60 5.40  5.70 5.65 5.55  6.30 6.30 6.25
"""


def test_demsars_example():
    found = friedman(DEMSAR, "lower")
    expected = {"C4.5": 3.143, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}
    assert found.mean_ranks == pytest.approx(expected, abs=5e-4)
    # χ² = 9.28 and F = 3.69 there leave out the correction for ties: three pairs and one of all four
    without = found.statistic * (1 - (3 * (2**3 - 2) + (4**3 - 4)) / (14 * (4**3 - 4)))
    assert without == pytest.approx(9.28, abs=5e-3)
    assert 13 * without / (14 * 3 - without) == pytest.approx(3.69, abs=5e-3)
    assert (found.n, found.f_p < 0.05) == (14, True)


def test_hollander_and_wolfes_example_with_ties():
    times = np.array(BASES.split(), dtype=float).reshape(22, 3)
    found = friedman(dict(zip(("round out", "narrow", "wide"), times.T.tolist(), strict=True)), "lower")
    assert found.mean_ranks == pytest.approx({"round out": 53 / 22, "narrow": 47 / 22, "wide": 32 / 22})
    assert found.statistic == pytest.approx(11.143, abs=5e-4)
    assert found.p == pytest.approx(0.003805, abs=5e-7)


@pytest.mark.parametrize("decimals", [1, 9])
def test_chi_squared_is_scipys_and_f_that_of_an_analysis_of_variance_on_the_ranks(decimals: int):
    from scipy import stats

    table = np.random.RandomState(0).rand(7, 4).round(decimals)  # one decimal gives ties
    found = friedman({f"m{i}": column.tolist() for i, column in enumerate(table.T)}, "lower")
    expected = stats.friedmanchisquare(*table.T)
    assert (found.statistic, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    ranks = stats.rankdata(table, axis=1)
    between = 7 * ((ranks.mean(axis=0) - 2.5) ** 2).sum()
    rest = ((ranks - ranks.mean(axis=0)) ** 2).sum()  # tasks have the same mean rank
    f = (between / 3) / (rest / 18)
    assert (found.f_statistic, found.f_p) == (pytest.approx(f), pytest.approx(stats.f.sf(f, 3, 18)))


def test_the_best_has_rank_one_in_either_direction():
    scores = {"a": [1.0, 2.0, 1.0], "b": [2.0, 1.0, 3.0], "c": [3.0, 3.0, 3.0]}
    assert friedman(scores, "lower").mean_ranks == pytest.approx({"a": 4 / 3, "b": 5.5 / 3, "c": 8.5 / 3})
    assert friedman(scores, "higher").mean_ranks == pytest.approx({"a": 8 / 3, "b": 6.5 / 3, "c": 3.5 / 3})


def test_equal_but_for_rounding_is_a_tie():
    assert friedman({"a": [0.1 + 0.2, 1.0], "b": [0.3, 1.0]}, "lower").mean_ranks == {"a": 1.5, "b": 1.5}


def test_all_tied_says_nothing():
    found = friedman({"a": [1.0, 2.0], "b": [1.0, 2.0], "c": [1.0, 2.0]}, "lower")
    assert (found.statistic, found.p, found.f_statistic, found.f_p) == (0.0, 1.0, 0.0, 1.0)


@pytest.mark.parametrize("row", [[1.0, 2.0, 3.0], [1.0, 1.0, 2.0]], ids=["no ties", "ties"])
def test_tasks_that_all_agree_give_the_chance_of_it(row):
    found = friedman({f"m{i}": [value] * 3 for i, value in enumerate(row)}, "lower")
    orders = set(itertools.permutations(row))
    assert found.statistic == pytest.approx(3 * 2)
    assert found.f_statistic == math.inf
    assert found.f_p == pytest.approx(len(orders) ** -2)


def test_nemenyis_table():
    # q at 0.05 and 0.10 (Demšar 2006, table 5a)
    for methods, q05, q10 in ((2, 1.960, 1.645), (3, 2.343, 2.052), (4, 2.569, 2.291), (10, 3.164, 2.920)):
        scale = math.sqrt(methods * (methods + 1) / 6)
        assert critical_difference(methods, 100) * 10 / scale == pytest.approx(q05, abs=1.1e-3)
        assert critical_difference(methods, 100, alpha=0.1) * 10 / scale == pytest.approx(q10, abs=1.1e-3)


def test_critical_difference_of_demsars_example():
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    assert critical_difference(4, 14, alpha=0.1) == pytest.approx(1.12, abs=5e-3)


def test_cliques_of_demsars_figure():
    ranks = {"C4.5": 3.143, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}
    assert cliques(ranks, 1.12) == [("C4.5+m+cf", "C4.5+m", "C4.5+cf"), ("C4.5+cf", "C4.5")]
    assert cliques(ranks, 1.25) == [("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")]
    assert cliques(ranks, 0.01) == []


def test_cliques_are_all_that_fit_and_none_within_another():
    state = np.random.RandomState(1)
    for _ in range(50):
        ranks = {f"m{i}": rank for i, rank in enumerate((state.rand(6) * 5 + 1).round(1).tolist())}
        fitting = [
            set(group)
            for size in range(2, 7)
            for group in itertools.combinations(ranks, size)
            if max(ranks[m] for m in group) - min(ranks[m] for m in group) < 1.55
        ]
        largest = [group for group in fitting if not any(group < other for other in fitting)]
        found = [set(group) for group in cliques(ranks, 1.55)]
        assert sorted(map(sorted, found)) == sorted(map(sorted, largest))


@pytest.mark.parametrize(
    ("scores", "direction", "message"),
    [
        ({"a": [1.0, 2.0]}, "lower", "at least 2 methods"),
        ({"a": [1.0], "b": [2.0]}, "lower", "2 or more tasks"),
        ({"a": [1.0, 2.0], "b": [2.0]}, "lower", "same 2 or more tasks, got scores of {'a': 2, 'b': 1}"),
        ({"a": [1.0, math.nan], "b": [2.0, 3.0]}, "lower", "finite scores"),
        ({"a": [1.0, 2.0], "b": [2.0, 3.0]}, "best", "lower or higher"),
    ],
)
def test_bad_scores(scores, direction, message):
    with pytest.raises(ValueError, match=message):
        friedman(scores, direction)


@pytest.mark.parametrize(("methods", "tasks", "alpha"), [(1, 5, 0.05), (3, 1, 0.05), (3, 5, 0.0), (3, 5, 1.0)])
def test_bad_critical_difference(methods, tasks, alpha):
    with pytest.raises(ValueError, match="expected"):
        critical_difference(methods, tasks, alpha)


@pytest.mark.parametrize(("ranks", "cd"), [({"a": math.nan, "b": 1.0}, 1.0), ({"a": 1.0, "b": 2.0}, 0.0)])
def test_bad_cliques(ranks, cd):
    with pytest.raises(ValueError, match="finite mean ranks and a positive cd"):
        cliques(ranks, cd)
