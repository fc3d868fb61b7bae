"""What optuna's estimator proposes, and of what that is a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import pytest
from pydantic import Field

from grasp_bench.contracts.method import MethodSettings
from grasp_bench.contracts.record import Environment
from grasp_bench.contracts.settings import Tuned
from grasp_bench.tuning.ranges import candidate
from grasp_bench.tuning.tpe import FIRST, proposed
from grasp_bench.tuning.trials import Trial

pytest.importorskip("optuna", reason="optuna is not installed")

TASK = "digits-lt"
HERE = Environment(versions={}, platform="here", device="cpu", threads=1, git_commit=None, git_dirty=None)


class Searched(MethodSettings):
    power: Annotated[float, Tuned(1, 10)] = Field(default=0.5, gt=0)  # outside
    layers: Annotated[int, Tuned(1, 4)] = Field(default=2, ge=1)


def trial(number: int, settings: dict[str, float], score: float | None, status: str = "finished") -> Trial:
    return Trial(
        number=number,
        settings=settings,
        run_id=str(number),
        status="non-finite" if score is None and status == "finished" else status,
        score=score,
        seconds=1,
        environment=HERE,
    )


def distance(settings: dict[str, float]) -> float:
    """From a learning rate of 0.002 and three layers."""
    return abs(np.log10(settings["learning_rate"] / 0.002)) + abs(settings["layers"] - 3)


def searched(count: int, score: Callable[[dict[str, float]], float | None] = distance) -> list[Trial]:
    found: list[Trial] = []
    for number in range(count):
        settings = proposed(Searched, number, TASK, found)
        found.append(trial(number, settings, score(settings)))
    return found


def test_the_first_trials_are_those_of_the_quasi_random_search() -> None:
    assert [proposed(Searched, number, TASK, []) for number in range(FIRST)] == [
        candidate(Searched, number, TASK) for number in range(FIRST)
    ]


def test_values_lie_in_their_ranges_as_they_are_declared() -> None:
    for each in searched(30)[FIRST:]:
        rate, power, layers = (each.settings[name] for name in ("learning_rate", "power", "layers"))
        assert (1e-4 <= rate <= 1e-1, 1 <= power <= 10, 1 <= layers <= 4) == (True, True, True)
        assert (type(layers), float(f"{rate:.3g}"), float(f"{power:.3g}")) == (int, rate, power)


def test_it_goes_where_scores_are_good() -> None:
    found = [distance(each.settings) for each in searched(40)[FIRST:]]
    evenly = [distance(candidate(Searched, number, TASK)) for number in range(FIRST, 40)]
    assert sum(each < 0.5 for each in found) > 2 * sum(each < 0.5 for each in evenly)


def test_a_trial_is_a_function_of_the_task_and_the_trials_before_it() -> None:
    found = searched(14)
    assert proposed(Searched, 12, TASK, found) == found[12].settings
    assert proposed(Searched, 12, "cifar10-lt", found) != found[12].settings
    worse = [trial(each.number, each.settings, -(each.score or 0)) for each in found]
    assert proposed(Searched, 12, TASK, worse) != found[12].settings


def test_what_has_no_score_is_avoided_and_what_failed_is_passed_over() -> None:
    found = searched(60, lambda settings: None if settings["learning_rate"] > 0.01 else 1.0)
    assert sum(each.score is None for each in found[20:]) < 40 / 3  # a third of the range
    assert proposed(Searched, 12, TASK, found) != proposed(Searched, 12, TASK, found[:4] + found[5:])
    assert found[4].score is None
    failed = [trial(each.number, each.settings, None, "failed") if each.number == 5 else each for each in found]
    assert proposed(Searched, 12, TASK, failed) == proposed(Searched, 12, TASK, found[:5] + found[6:])


def test_a_search_without_any_score_goes_on() -> None:
    assert len({each.settings["learning_rate"] for each in searched(14, lambda settings: None)}) == 14
