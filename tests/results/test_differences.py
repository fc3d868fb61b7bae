import pytest
from helpers.records import metric, record, reported

from grasp_bench.errors import UserError
from grasp_bench.results.differences import differences
from grasp_bench.results.grids import sections
from grasp_bench.results.leaderboard import leaderboards
from grasp_bench.results.text import terminal


def runs(seeds=range(5), methods=(("base", 0.5), ("better", 0.6), ("worse", 0.3))):
    return [
        record(m, seed, [metric("recall", "tail", value + 0.01 * seed * (1 + (m == "better")))])
        for m, value in methods
        for seed in seeds
    ]


def test_differences_are_paired_over_seeds():
    (found,) = differences(leaderboards(runs()), "base", "permutation")
    by_method = {each.method: each for each in found.found}
    assert set(by_method) == {"better", "worse"}
    better = by_method["better"]  # differences 0.1 + 0.01 · seed: mean 0.12, deviation 0.0158, t(0.975, 4) = 2.776445
    assert better.mean == pytest.approx(0.12)
    half = 2.776445 * 0.0158114 / 5**0.5
    assert (better.low, better.high) == pytest.approx((0.12 - half, 0.12 + half), rel=1e-5)
    assert (better.n, better.p) == (5, 0.0625)
    assert by_method["worse"].mean == pytest.approx(-0.2)


def test_p_is_corrected_over_all_that_is_shown():
    (found,) = differences(leaderboards(runs(range(9))), "base", "permutation")
    assert [(each.p, each.adjusted) for each in found.found] == [(2 / 2**9, 4 / 2**9)] * 2
    assert all(each.significant for each in found.found)
    assert not any("cannot be below" in note for note in found.notes)


def test_too_few_seeds_are_told():
    (found,) = differences(leaderboards(runs(range(5))), "base", "permutation")
    assert not any(each.significant for each in found.found)
    assert "With 5 seeds p cannot be below 0.0625: this test can show no difference here." in found.notes
    (found,) = differences(leaderboards(runs(range(6))), "base", "permutation")
    assert any("which 2 comparisons correct to 0.0625" in note for note in found.notes)


def test_only_common_seeds_count():
    mixed = runs(range(4), [("base", 0.5)]) + runs(range(2, 8), [("other", 0.7)])
    (found,) = differences(leaderboards(mixed), "base", "t")
    assert found.found[0].n == 2
    assert (found.found[0].low, found.found[0].high) == (None, None)


def test_a_task_without_the_baseline_says_so():
    boards = leaderboards([*runs(), record("alone", 0, [metric("recall", "tail", 0.5)], task="other")])
    found = differences(boards, "base", "permutation")
    assert [len(each.found) for each in found] == [2, 0]
    assert found[1].notes == ("base has no finished run here.",)


def test_an_unknown_baseline_names_those_there_are():
    with pytest.raises(UserError, match=r"--baseline bas: .* Did you mean 'base'\? There are: base, better, worse"):
        differences(leaderboards(runs()), "bas", "permutation")


def test_they_are_printed_with_sign_interval_and_p():
    text = terminal(sections(reported(runs(range(9)), baseline="base")), 100)
    assert "difference to base" in text
    assert "recall ↑  better  tail   +0.140 ± 0.021      9  0.0039  0.0078" in text
    assert "recall ↑  worse   tail   \N{MINUS SIGN}0.200 ± 0.000" in text


def test_what_is_the_same_for_all_methods_is_not_compared():
    scores = [
        metric("recall", "tail", 0.5),
        metric("accuracy_real", "tail", 0.7),
        metric("f1_real_balanced", "tail", 0.7),
    ]
    boards = leaderboards([record(name, seed, scores) for name in ("base", "other") for seed in range(3)])
    (found,) = differences(boards, "base", "t")
    assert [each.metric for each in found.found] == ["recall"]
    assert any("trained on real images are left out" in note for note in found.notes)
