import numpy as np
import pytest

from grasp_bench.metrics import bootstrap, frechet_distance


def test_copies_of_a_patients_image_add_nothing():
    values = np.random.RandomState(0).randn(10)
    images, patients = values.repeat(3), np.arange(10).repeat(3)
    by_patient = bootstrap(patients, lambda rows: images[rows].mean(), key=("a",))
    ten = bootstrap(np.arange(10), lambda rows: values[rows].mean(), key=("a",))
    thirty = bootstrap(np.arange(30), lambda rows: images[rows].mean(), key=("a",))
    assert (by_patient.unit_count, ten.unit_count, thirty.unit_count) == (10, 10, 30)
    assert (by_patient.low, by_patient.high) == pytest.approx((ten.low, ten.high))
    ratio = (thirty.high - thirty.low) / (ten.high - ten.low)
    assert ratio == pytest.approx(1 / np.sqrt(3), rel=0.1)


def test_the_interval_of_a_mean_is_about_two_standard_errors():
    values = np.random.RandomState(1).randn(400)
    found = bootstrap(np.arange(400), lambda rows: values[rows].mean(), key=("a",))
    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.015)


def test_the_mean_shows_the_bias_of_scores_that_repeated_images_worsen():
    state = np.random.RandomState(3)
    real, fake = state.randn(300, 12), state.randn(60, 12)
    distance = frechet_distance(real, fake)
    found = bootstrap(np.arange(60), lambda rows: frechet_distance(real, fake[rows]), 100, key=())
    assert found.low < found.mean < found.high
    assert distance < found.low  # nor does the interval hold it


def test_images_come_with_their_whole_unit():
    units = np.array(["b", "a", "c", "a", "c", "c"])
    seen = []

    def statistic(rows: np.ndarray) -> float:
        seen.append(rows)
        return float(len(rows))

    assert bootstrap(units, statistic, resamples=200, key=()).unit_count == 3
    sizes = {"a": 2, "b": 1, "c": 3}
    for rows in seen:
        drawn = 0
        for unit, size in sizes.items():
            counts = np.bincount(rows, minlength=6)[units == unit]
            assert len(set(counts.tolist())) == 1
            drawn += counts[0]
            assert size == len(counts)
        assert drawn == 3
    assert {len(rows) for rows in seen} == {3, 4, 5, 6, 7, 8, 9}


def test_a_function_of_its_key():
    values = np.random.RandomState(2).randn(30)
    first, again, other = (
        bootstrap(np.arange(30), lambda rows: values[rows].mean(), key=(name,)) for name in ("a", "a", "b")
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("units", "resamples", "message"),
    [
        (np.zeros((4, 2)), 10, r"units: expected one id per image, of shape \(n,\), got \(4, 2\)"),
        (np.zeros(4), 10, "units: 1 different, at least 2"),
        (np.zeros(0), 10, "units: 0 different, at least 2"),
        (np.arange(4), 0, "resamples = 0"),
    ],
)
def test_bad_input(units: np.ndarray, resamples: int, message: str):
    with pytest.raises(ValueError, match=message):
        bootstrap(units, lambda rows: 0.0, resamples, key=())


def test_a_statistic_that_is_not_finite():
    with pytest.raises(ValueError, match="NaN or infinite in 10 of 10 resamples"):
        bootstrap(np.arange(4), lambda rows: np.nan, 10, key=())
