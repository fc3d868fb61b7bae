"""Numbers of a table are printed alike wherever they were computed."""

import math

from hypothesis import given
from hypothesis import strategies as some

from grasp_bench.results.grids import difference_text, mean_text

HALVES = some.tuples(some.integers(-999, 999), some.integers(1, 3))
"""A number of units of the last printed digit, halfway to the next, and how many digits are printed."""


def texts(value: float, digits: int) -> tuple[str, str, str]:
    """How a table prints a mean, a difference and a ratio."""
    mean = mean_text({"mean": value, "low": -value, "high": value, "n": 3}, digits)
    measures = {"difference": value, "difference_low": -value, "difference_high": value}
    return mean, difference_text(measures | {"scale": ""}, digits), difference_text(measures | {"scale": "log"}, digits)


@given(HALVES)
def test_the_last_bits_of_a_value_halfway_between_two_printed_ones_decide_nothing(half: tuple[int, int]) -> None:
    units, digits = half
    value = (units + 0.5) / 10**digits
    below, above = math.nextafter(value, -math.inf), math.nextafter(value, math.inf)
    assert texts(below, digits) == texts(value, digits) == texts(above, digits)
