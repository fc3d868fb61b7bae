import numpy as np

from grasp_bench.contracts.metric import Metric
from grasp_bench.metrics.resampling import Resampled, resample, resampled_rows
from grasp_bench.seeds import rng


class Score(Metric):
    name = "score"
    bounds = (-np.inf, np.inf)


def interval(units: np.ndarray, values: np.ndarray, key: str = "a") -> Resampled:
    """Of the mean of ``values``, by ``units``; the other set is looked at by nobody."""
    found = resample((units, units), lambda rows, other: {"score": float(values[rows].mean())}, 1000, key=(key,))
    return found.interval(Score(), float(values.mean()))


def test_copies_of_a_patients_image_add_nothing():
    values = np.random.RandomState(0).randn(10)
    by_patient = interval(np.arange(10).repeat(3), values.repeat(3))
    ten, thirty = interval(np.arange(10), values), interval(np.arange(30), values.repeat(3))
    assert (by_patient.real_units, ten.real_units, thirty.real_units) == (10, 10, 30)
    assert np.allclose((by_patient.low, by_patient.high), (ten.low, ten.high))
    assert np.isclose((thirty.high - thirty.low) / (ten.high - ten.low), 1 / np.sqrt(3), rtol=0.1)


def test_the_interval_of_a_mean_is_about_two_standard_errors():
    values = np.random.RandomState(1).randn(400)
    found, half = interval(np.arange(400), values), 1.96 * values.std() / 20
    assert np.allclose((found.low, found.high), (values.mean() - half, values.mean() + half), atol=0.015)


def test_images_come_with_their_whole_unit():
    units = np.array(["b", "a", "c", "a", "c", "c"])
    seen = list(resampled_rows(units, 200, rng("test")))
    for rows in seen:
        drawn = 0
        for unit in "abc":
            counts = np.bincount(rows, minlength=6)[units == unit]
            assert len(set(counts.tolist())) == 1
            drawn += counts[0]
        assert drawn == 3
    assert {len(rows) for rows in seen} == {3, 4, 5, 6, 7, 8, 9}


def test_a_function_of_its_key():
    values = np.random.RandomState(2).randn(30)
    assert interval(np.arange(30), values) == interval(np.arange(30), values)
    assert interval(np.arange(30), values) != interval(np.arange(30), values, "b")


def test_one_unit_has_no_interval():
    found = interval(np.zeros(4), np.arange(4.0))
    assert (found.low, found.high, found.reason) == (None, None, "1 unit, at least 2 are needed")
