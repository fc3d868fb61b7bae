import math

import numpy as np
import pytest

from grasp_bench.stats.paired import SeedInterval, mean_interval


def test_student_t_interval():
    # 1, 2, 3: s = 1, t(0.975, 2) = 4.302652730
    half = 4.302652730 / math.sqrt(3)
    interval = mean_interval([1.0, 2.0, 3.0])
    assert (interval.mean, interval.n) == (2.0, 3)
    assert (interval.low, interval.high) == (pytest.approx(2 - half), pytest.approx(2 + half))


def test_agrees_with_scipy():
    from scipy import stats

    values = np.random.RandomState(0).randn(7)
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    interval = mean_interval(values.tolist())
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))


def test_one_and_two_seeds_have_no_interval():
    assert mean_interval([0.5]) == SeedInterval(0.5, None, None, 1)
    assert mean_interval([0.5, 1.5]) == SeedInterval(1.0, None, None, 2)


def test_it_covers_the_mean_as_often_as_it_says():
    state = np.random.RandomState(1)
    intervals = [mean_interval(state.randn(3).tolist()) for _ in range(2000)]
    covered = np.mean([i.low < 0 < i.high for i in intervals if i.low is not None and i.high is not None])
    assert covered == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_bad_input(values: list[float]):
    with pytest.raises(ValueError, match="at least one finite value"):
        mean_interval(values)
