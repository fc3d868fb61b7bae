import numpy as np
import pytest

from grasp_bench.contracts.metric import Metric
from grasp_bench.metrics.labelled import LabelledFeatures
from grasp_bench.metrics.protocol import Protocol
from grasp_bench.metrics.registry import chosen
from grasp_bench.metrics.resampling import (
    FEWEST,
    Jackknife,
    Jackknifed,
    Side,
    Variance,
    ends_of_distance,
    jackknife,
    student,
)
from grasp_bench.metrics.scoring import group_scores


class Score(Metric):
    name = "score"
    direction = "higher"
    bounds = (-np.inf, np.inf)


def draw(rows: np.ndarray, labels: np.ndarray, n: int, stream: np.random.Generator) -> np.ndarray:
    return stream.permutation(rows)[:n]


def interval(values: np.ndarray, units: np.ndarray, key: str = "a", resamples: int = 800, n: int = 0) -> Jackknifed:
    """Of the mean of real ``values`` less that of as many constant ones."""
    side = Side(np.zeros(len(units), dtype=int), units)
    found = jackknife(
        side,
        Side(side.labels, np.arange(len(units))),
        n or len(units),
        lambda real, fake: {"score": float(values[real].mean()) + 0.0 * len(fake)},
        draw,
        2,
        resamples,
        key=(key,),
    )
    return found.interval(Score(), float(values.mean()), np.full(3, values.mean()))


def test_the_standard_error_of_a_mean_is_that_of_the_formula():
    values = np.random.RandomState(1).randn(50)
    found = interval(values, np.arange(50))
    assert found.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(50), rel=0.1)
    assert found.high - values.mean() == pytest.approx(student(found.freedom) * found.standard_error)
    assert found.freedom < 49  # fewer than units less one, since resamples add noise of their own


def test_what_only_draws_change_is_not_taken_for_a_variance_of_units():
    values = np.random.RandomState(2).randn(400)
    found = interval(values, np.arange(400), n=20, resamples=4000)
    assert found.standard_error == pytest.approx(values.std(ddof=1) / 20, rel=0.3)  # not over the root of 20


@pytest.mark.parametrize(("value", "error", "t"), [(2.0, 0.5, 2.0), (0.1, 1.0, 2.5), (100.0, 3.0, 1.96)])
def test_the_ends_of_a_distance_are_the_truths_that_it_is_so_many_errors_from(value, error, t):
    low, high = ends_of_distance(value, error**2, t, (-np.inf, np.inf))
    for end in (low, high):
        assert (value - end) ** 2 == pytest.approx((t * error) ** 2 * (end + error) / (value + error))
    assert high - value > value - low > 0
    assert ends_of_distance(value, error**2, t, (0.0, np.inf))[0] == max(0.0, low)


def test_a_distance_below_zero_has_equal_arms():
    assert ends_of_distance(-1.0, 4.0, 2.0, (-np.inf, np.inf)) == (-5.0, 3.0)


class Distance(Score):
    direction = "lower"


def test_a_distance_is_what_is_better_the_less_it_is_without_a_most():
    variances = {"score": (Variance(1.0, 20.0),)}
    units = Jackknifed(None, None, None, None, 20, 20, 100)
    equal, further = (Jackknife(variances, units).interval(kind(), 4.0, np.zeros(1)) for kind in (Score, Distance))
    assert equal.high - 4 == pytest.approx(4 - equal.low)
    assert further.high > equal.high
    assert further.low > equal.low


def test_copies_of_a_patients_image_add_nothing():
    values = np.random.RandomState(0).randn(20)
    by_patient, twenty = interval(values.repeat(3), np.arange(20).repeat(3)), interval(values, np.arange(20))
    assert (by_patient.real_units, twenty.real_units) == (20, 20)
    assert by_patient.standard_error == pytest.approx(twenty.standard_error, rel=0.1)
    assert interval(values.repeat(3), np.arange(60)).standard_error < 0.75 * by_patient.standard_error


def test_few_large_units_leave_fewer_degrees_of_freedom():
    labels = np.zeros(60, dtype=int)
    assert Side(labels, np.arange(60) // 3).freedom() == pytest.approx(19)
    assert Side(labels, np.maximum(np.arange(60) - 39, 0)).freedom() < 2  # one unit has 40 of 60 images


def test_units_are_left_out_class_by_class_unless_they_span_classes():
    labels = np.arange(40) % 2
    nested, spanning = Side(labels, np.arange(40)), Side(labels, np.arange(40) // 4)
    assert [len(units) for units in nested.strata] == [20, 20]
    assert [len(units) for units in spanning.strata] == [10]
    for side in (nested, spanning):
        for rows in side.subsets(20, np.random.default_rng(0)):
            assert np.bincount(labels[rows]).min() >= side.kept()
    for rows in nested.subsets(20, np.random.default_rng(0)):
        assert np.bincount(labels[rows]).tolist() == [16, 16]


def test_variances_add_up_with_their_degrees_of_freedom():
    found = Jackknife({"score": (Variance(3.0, 9), Variance(4.0, 16))}, Jackknifed(None, None, None, None, 1, 1, 1))
    draws = np.array([0.0, 2.0])
    one = found.interval(Score(), 1.0, draws)
    assert one.standard_error == pytest.approx(np.sqrt(3 + 4 + 2 / 2))
    assert one.freedom == pytest.approx(8**2 / (9 / 9 + 16 / 16 + 1))


def test_a_function_of_its_key():
    values = np.random.RandomState(2).randn(30)
    assert interval(values, np.arange(30)) == interval(values, np.arange(30))
    assert interval(values, np.arange(30)) != interval(values, np.arange(30), "b")


def test_too_few_units_resamples_or_images_have_no_interval():
    assert "4 units, at least 5" in interval(np.arange(8.0), np.arange(8) // 2).reason
    assert "2 resamples" in interval(np.arange(9.0), np.arange(9), resamples=2).reason
    side = Side(np.zeros(FEWEST, dtype=int), np.arange(FEWEST))
    found = jackknife(side, side, 5, lambda real, fake: {"score": 1.0}, draw, 5, 10, key=())
    assert "4 images of each kind remain" in found.units.reason
    assert interval(np.ones(20), np.arange(20)).reason == "no resample changed the score"


@pytest.mark.parametrize("shared", [False, True])
def test_a_mean_over_classes_that_share_patients_has_no_interval(shared):
    labels, stream = np.arange(40) % 2, np.random.default_rng(0)
    patients = np.arange(40) // 2 if shared else np.arange(40) // 4 * 2 + labels
    real, fake = (LabelledFeatures(stream.normal(size=(40, 2)), labels, None, units) for units in (patients, None))
    protocol = Protocol(chosen(("fd",)), draws=2, resamples=8)
    scores = group_scores(real, fake, ["a", "b"], {"all": np.arange(2)}, protocol)
    mean = next(each for each in scores if each.scope == "class mean").bootstrap
    assert (mean.low is None, mean.reason) == (shared, "a unit has images of several classes" if shared else None)
