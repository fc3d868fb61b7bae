"""Every installed extractor keeps the contract, where its weights are here; and what does not is caught, in words."""

from __future__ import annotations

import re

import pytest

from grasp_bench import plugins
from grasp_bench.contracts.extractor import Extractor
from grasp_bench.errors import UserError
from grasp_bench.testing import Check, NotApplicable, extractor_checks
from grasp_bench.testing.checks import contracts

from . import broken_extractors as broken
from .registered import register

KEEPING = [
    pytest.param(check, id=f"{name}-{check}")
    for name in plugins.entries("extractors")
    for check in extractor_checks(name)
]


@pytest.mark.parametrize("check", KEEPING)
def test_the_contract_is_kept(check: Check) -> None:
    check()


FAULTS = [
    (broken.HalfPrecision, "shape", "float32, expected float64 (24, d)"),
    (broken.Constant, "shape", "24 different images with equal features"),
    (broken.Noisy, "deterministic", "features that differ by up to"),
    (broken.Centred, "image-alone", "features of images by themselves that differ"),
    (broken.Nameless, "identity", "an identity without features, normalisation, resize, weights"),
]


@pytest.mark.parametrize(("plugin", "check", "words"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_fault_is_caught_by_the_check_of_it(
    plugin: type[Extractor], check: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = extractor_checks(register(monkeypatch, "extractors", plugin))
    with pytest.raises(AssertionError, match=re.escape(words)) as caught:
        (fault := next(each for each in checks if each.name == check))()
    assert str(caught.value).startswith(fault.contract)


@pytest.mark.parametrize("check", contracts("on_images"))
def test_weights_that_are_not_there_are_said_and_are_no_failure(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = extractor_checks(register(monkeypatch, "extractors", broken.Weightless))
    with pytest.raises(NotApplicable, match="needs --weights"):
        next(each for each in checks if each.name == check)()


def test_unknown_names_and_settings_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="Did you mean 'pixels'"):
        extractor_checks("pixel")
    with pytest.raises(UserError, match="extractor pixels has no settings: leave out side=8"):
        extractor_checks("pixels", ["side=8"])
