import math

import numpy as np
import pytest

from grasp_bench.stats.aggregate import interquartile_mean, stratified_bootstrap


@pytest.mark.parametrize("n", [1, 3, 4, 8, 10, 30])
def test_interquartile_mean_is_scipys_trimmed_mean(n: int):
    from scipy import stats

    values = np.random.RandomState(n).randn(n)
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))
    assert interquartile_mean(values.reshape(n, 1)) == interquartile_mean(values)


def test_outliers_do_not_move_the_interquartile_mean():
    assert interquartile_mean([-1e9, 1.0, 2.0, 3.0, 4.0, 1e9, 2.0, 3.0]) == 2.5


def test_runs_are_resampled_within_their_task():
    # each task's runs are alike: only mixing tasks could move the mean
    found = stratified_bootstrap([[1.0] * 4, [3.0] * 4], np.mean, resamples=200)
    assert (found.value, found.low, found.high, found.resamples) == (2.0, 2.0, 2.0, 200)


def test_it_is_the_bootstrap_of_scipy_for_one_task():
    from scipy import stats

    runs = np.random.RandomState(0).randn(12)
    found = stratified_bootstrap([runs], np.mean, resamples=20_000)
    expected = stats.bootstrap((runs,), np.mean, n_resamples=20_000, method="percentile", random_state=0)
    assert found.value == pytest.approx(runs.mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.02)


def test_every_resample_has_all_runs_of_all_tasks():
    sizes = set()

    def statistic(values: np.ndarray) -> float:
        sizes.add((int((values < 10).sum()), int((values >= 10).sum())))
        return float(values.mean())

    stratified_bootstrap([[1.0, 2.0, 3.0], [10.0, 11.0]], statistic, resamples=50)
    assert sizes == {(3, 2)}


def test_the_interval_covers_as_often_as_it_says():
    state = np.random.RandomState(1)
    intervals = [stratified_bootstrap(state.randn(6, 10), np.mean, resamples=300) for _ in range(300)]
    covered = np.mean([i.low < 0 < i.high for i in intervals])
    # runs of ten make a percentile interval narrower by √(9/10), so 0.937
    assert covered == pytest.approx(0.937, abs=0.045)


def test_a_seed_repeats_the_draws_and_another_does_not():
    scores = np.random.RandomState(2).randn(3, 5)
    assert stratified_bootstrap(scores, resamples=100) == stratified_bootstrap(scores, resamples=100)
    assert stratified_bootstrap(scores, resamples=100) != stratified_bootstrap(scores, resamples=100, seed=1)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([], {}, "at least one task"),
        ([[1.0, 2.0], [1.0]], {}, r"scores\[1\]: expected at least 2 runs"),
        ([[[1.0, 2.0]]], {}, r"scores\[0\]: expected at least 2 runs of shape \(n,\)"),
        ([[1.0, math.nan]], {}, r"scores\[0\]: expected at least one value, all finite"),
        ([[1.0, 2.0]], {"resamples": 0}, "resamples = 0"),
        ([[1.0, 2.0]], {"statistic": lambda values: math.nan, "resamples": 5}, "NaN or infinite in 6 of 6"),
    ],
)
def test_bad_scores(scores, options, message):
    with pytest.raises(ValueError, match=message):
        stratified_bootstrap(scores, **options)


@pytest.mark.parametrize("values", [[], [1.0, math.inf]])
def test_bad_values(values):
    with pytest.raises(ValueError, match="at least one value, all finite"):
        interquartile_mean(values)
