"""Intervals hold the truth about as often as they say, and are not too long: few repeats, more in the table."""

import pytest
from scipy.stats import binom

from .classifiers import Classified
from .coverage import (
    PAGE,
    Row,
    classifiers,
    gradients,
    jackknife,
    judged,
    kernel_error,
    measured,
    over_seeds,
    over_splits,
    reruns,
    single_differences,
    written,
)
from .worlds import Pair, Truth


def test_the_page_has_what_is_recorded():
    text = PAGE.read_text()
    assert written(text) == text, "PYTHONPATH=tests python -m calibration.coverage writes it"


def test_monte_carlo_error():
    assert Row("a", "b", "c", 100, 95, 0, 1.0).error == pytest.approx((96 * 6 / 102**2 / 100) ** 0.5)
    assert Row("a", "b", "c", 100, 100, 0, 1.0).error > 0


SKEWED = [f"{seeds} seeds, log-normal, SD of logarithms {sd}" for seeds in (3, 5, 10) for sd in (0.5, 0.8)]
TOGETHER, APART = (f"10 seeds, normal, two that share a split correlate by {each}" for each in (0.5, -0.5))
SHORT = {("`score`, 1.96 times ±", "100 images"), ("`diagnose`", "4 batches")} | {
    ("mean ± over seeds", setting) for setting in (*SKEWED, TOGETHER)
}
"""What holds the truth too rarely, which the page says: a standard error that grows with the score, the cosines of few
batches, which are marked, and means of scores that spread as kernel distances do or go together in pairs."""
CEILING = "(score 1.000)"
"""Of classifiers whose score is 1 in nearly every set, so that intervals hold it too often."""
NEAR_THE_END = ("precision", "coverage")
"""Scores near 1, whose intervals are up to three times longer than any that knows their spread."""


def test_what_is_recorded_holds_the_truth_as_often_as_it_says_and_is_not_too_long():
    """Classifiers' scores near 1 hardly spread: that says nothing about the length of their intervals."""
    for row in measured():
        enough = binom.ppf(0.001, row.repeats, 0.93) <= row.inside
        assert enough != ((row.interval, row.setting) in SHORT), row
        if row.inside > binom.ppf(0.999, row.repeats, 0.97):
            assert row.setting == APART or row.setting.endswith(CEILING), row
        if not row.interval.startswith("classifier"):
            assert row.length < (3.1 if row.of.partition(",")[0] in NEAR_THE_END else 2), row


def test_an_interval_three_times_too_long_has_that_length():
    truth = Truth(0.0, 1.0)
    found = judged("a", "b", "c", truth, [(-1.5 * truth.length, 1.5 * truth.length), (None, None)])
    assert (found.length, found.repeats, found.absent, found.inside) == (3.0, 1, 1, 1)


def holds(row: Row, longest: float) -> None:
    """No more misses than one in a thousand runs of a coverage of 95 % has, and no longer than asked.

    Seeds are fixed. Lengths are those that were found and a quarter more: one three times too long fails.
    """
    assert row.inside >= binom.ppf(0.001, row.repeats, 0.95), row
    assert 0.75 < row.length < longest, row
    assert row.absent == 0


@pytest.mark.slow
@pytest.mark.parametrize("per_cluster", [1, 2])
def test_the_jackknife_of_a_distance_covers(per_cluster: int):
    for row in jackknife(Pair(30, per_cluster, ("fd", "vendi")), 60, 300, 60, draws=5):
        holds(row, {"fd": 2.2, "vendi": 1.5}[row.of])


@pytest.mark.slow
def test_the_jackknife_of_a_mean_over_classes_covers():
    for row in jackknife(Pair(30, 1, ("fd",), 4), 40, 200, 60, draws=5):
        holds(row, 2.5)


def test_intervals_of_classifiers_cover():
    for row in classifiers(Classified((10,) * 10, 2), "even", 60, sets=300, resamples=100):
        holds(row, 1.6)


def test_intervals_of_classifiers_cover_near_the_ceiling():
    """The length of those of scores that are nearly 1 in every set is nothing to measure theirs by."""
    for row in classifiers(Classified((4, 10, 30), 4), "uneven", 60, sets=300, resamples=100):
        holds(row, 3.5 if row.of in ("accuracy", "f1") else 100)


def test_a_mean_over_seeds_has_students_interval():
    for row in over_seeds(5, 5000):
        least, most = (0.86, 0.93) if row.setting in SKEWED else (0.93, 0.97)
        assert least < row.share < most
        assert 1.1 < row.length < 1.4  # Student's t of four degrees of freedom is 1.42 times the normal one


def test_a_mean_over_seeds_of_which_two_go_together_has_too_short_an_interval_and_apart_too_long():
    assert over_splits(0.5, 5000)[0].share < 0.91
    assert over_splits(-0.5, 5000)[0].share > 0.97


def test_the_difference_of_two_rows_alone_is_in_its_interval():
    (row,) = single_differences("0.5 to 1.5, evenly", 5, 300)
    holds(row, 1.3)


@pytest.mark.parametrize("rows", [3, 18])
def test_a_rerun_of_a_seed_with_data_of_its_own_is_within_the_limit(rows: int):
    (row,) = reruns(rows, repeats=200)
    holds(row, 1.3)


@pytest.mark.slow
def test_intervals_of_alignment_cover():
    for row in gradients(16, 60):
        holds(row, 1.45)


def test_the_error_of_a_kernel_distance_is_its_deviation():
    (row,) = kernel_error(Pair(30, 1, ("kid",)), 60, 150)
    holds(row, 1.2)
