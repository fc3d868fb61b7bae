"""Intervals hold the truth about as often as they say: few repeats here, more in the recorded table."""

import pytest

from .classifiers import Classified
from .coverage import PAGE, Row, classifiers, jackknife, written
from .worlds import Pair


def test_the_page_has_what_is_recorded():
    text = PAGE.read_text()
    assert written(text) == text, "PYTHONPATH=tests python -m calibration.coverage writes it"


def test_monte_carlo_error():
    assert Row("a", "b", "c", 100, 95).error == pytest.approx((96 * 6 / 102**2 / 100) ** 0.5)
    assert Row("a", "b", "c", 100, 100).error > 0


@pytest.mark.slow
@pytest.mark.parametrize("per_cluster", [1, 2])
def test_the_jackknife_of_a_distance_covers(per_cluster: int):
    """At 60 repeats a coverage of 95 % gives less than 85 % in one of a thousand cases."""
    for row in jackknife(Pair(30, per_cluster, ("fd", "vendi")), 60, 300, 60, draws=5):
        assert row.share > 0.85
        assert row.absent == 0


@pytest.mark.slow
def test_intervals_of_classifiers_cover_near_the_ceiling():
    """At 60 repeats a coverage of 95 % gives less than 85 % in one of a thousand cases."""
    for row in classifiers(Classified((4, 10, 30), 4), "uneven", 60, sets=300, resamples=100):
        assert row.share > 0.85
