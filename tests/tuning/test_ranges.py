"""Which settings are searched, and over which values."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from grasp_bench import plugins
from grasp_bench.contracts.method import MethodSettings
from grasp_bench.contracts.settings import Tuned
from grasp_bench.run.plan import plan
from grasp_bench.tuning.chosen import with_settings
from grasp_bench.tuning.ranges import candidate, point, tuned_ranges


class Searched(MethodSettings):
    power: Annotated[float, Tuned(0.1, 10, log=True)] = Field(default=1.0, gt=0)
    layers: Annotated[int, Tuned(1, 4)] = Field(default=2, ge=1)
    width: int = 16


class Redeclared(Searched):
    learning_rate: float = Field(default=3e-2, gt=0, le=1)
    power: Annotated[float, Tuned(1, 2)] = Field(default=1.5, gt=0)


def test_a_range_holds_where_a_subclass_declares_none_of_its_own() -> None:
    rate = Tuned(1e-4, 1e-1, log=True)
    assert tuned_ranges(Searched) == {
        "learning_rate": rate,
        "power": Tuned(0.1, 10, log=True),
        "layers": Tuned(1, 4),
    }
    assert tuned_ranges(Redeclared) == {"learning_rate": rate, "power": Tuned(1, 2), "layers": Tuned(1, 4)}


@pytest.mark.parametrize("arguments", [(2, 1), (1, 1), (0, 1, True), (float("nan"), 1)])
def test_a_range_that_is_empty_or_has_no_logarithm_is_refused(arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected low < high"):
        Tuned(*arguments)


def test_the_first_trial_has_the_defaults() -> None:
    assert candidate(Redeclared, 0, "digits-lt") == {"learning_rate": 3e-2, "power": 1.5, "layers": 2}


def test_methods_share_the_values_of_their_first_settings() -> None:
    alone = [candidate(MethodSettings, number, "digits-lt")["learning_rate"] for number in range(1, 8)]
    assert alone == [candidate(Searched, number, "digits-lt")["learning_rate"] for number in range(1, 8)]
    assert alone != [candidate(MethodSettings, number, "cifar10-lt")["learning_rate"] for number in range(1, 8)]


def test_the_sequence_leaves_no_gap() -> None:
    first, second = zip(*(point(index, 2, "digits-lt") for index in range(16)), strict=True)
    assert sorted(int(16 * share) for share in first) == list(range(16))
    assert sorted(int(9 * share) for share in second[:9]) == list(range(9))


def test_values_lie_in_their_ranges_as_they_are_declared() -> None:
    found = [candidate(Searched, number, "digits-lt") for number in range(1, 65)]
    rates = [each["learning_rate"] for each in found]
    assert 1e-4 <= min(rates) < 1.2e-4
    assert 0.8e-1 < max(rates) <= 1e-1
    assert sum(rate < 10**-2.5 for rate in rates) == 32  # half of the logarithm's range
    assert all(float(f"{rate:.3g}") == rate for rate in rates)
    layers = [each["layers"] for each in found]
    assert all(type(count) is int for count in layers)
    assert {count: layers.count(count) for count in range(1, 5)} == pytest.approx(dict.fromkeys(range(1, 5), 16), abs=2)


@pytest.mark.parametrize("method", plugins.entries("methods"))
def test_every_method_takes_both_ends_of_its_ranges(method: str) -> None:
    chosen = plan(method=method, task="digits-lt")
    ranges = tuned_ranges(type(chosen.method.config))
    assert next(iter(ranges)) == "learning_rate"
    for ends in (
        {name: each.low for name, each in ranges.items()},
        {name: each.high for name, each in ranges.items()},
    ):
        assert with_settings(chosen, ends).method.config.model_dump().items() >= ends.items()
