"""Every installed metric keeps the contract, and what does not is caught, in words."""

from __future__ import annotations

import re

import pytest

from grasp_bench import plugins
from grasp_bench.contracts.metric import Metric
from grasp_bench.errors import UserError
from grasp_bench.testing import Check, metric_checks

from . import broken_metrics as broken
from .registered import register

KEEPING = [
    pytest.param(check, id=f"{name}-{check}")
    for name in plugins.entries("metrics")
    for check in metric_checks(name)
    if check.name != "import"  # a process each; that of the package says the same
]


@pytest.mark.parametrize("check", KEEPING)
def test_the_contract_is_kept(check: Check) -> None:
    check()


@pytest.mark.parametrize("plugin", [broken.Spread, broken.Shares])
def test_a_metric_of_few_lines_keeps_it(plugin: type[Metric], monkeypatch: pytest.MonkeyPatch) -> None:
    for check in metric_checks(register(monkeypatch, "metrics", plugin)):
        if check.name != "import":
            check()


FAULTS = [
    (broken.Fragments, "attributes", "misleads = 'sometimes'"),
    (broken.NotFinite, "finite", "nan"),
    (broken.Unbounded, "finite", "with bounds -2.0 and -1.0"),
    (broken.Random, "deterministic", ", and then "),
    (broken.Centring, "data-untouched", "it changed generated"),
    (broken.Ordered, "order", "and in another order"),
    (broken.Demanding, "minimum", "inf for 2 images"),
    (broken.Upside, "direction", "higher is better"),
    (broken.NotFinite, "scored", "a-notfinite is nan"),
    (broken.OneForAll, "finite", "an array of shape (), expected (4,)"),
    (broken.Backwards, "direction", "lower is better"),
    (broken.Unweighted, "resamples", "for a class without images"),
]


@pytest.mark.parametrize(("plugin", "check", "words"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_fault_is_caught_by_the_check_of_it(
    plugin: type[Metric], check: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = metric_checks(register(monkeypatch, "metrics", plugin))
    with pytest.raises(AssertionError, match=re.escape(words)):
        next(each for each in checks if each.name == check)()


def test_unknown_names_and_settings_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="Did you mean 'vendi'"):
        metric_checks("vndi")
    with pytest.raises(UserError, match="metric fd has no settings: leave out k=8"):
        metric_checks("fd", ["k=8"])
