"""Every installed guidance keeps the contract; and what does not is caught by the very check, in words."""

from __future__ import annotations

import re

import pytest
from helpers.quick import quick_guidance

from grasp_bench import plugins
from grasp_bench.contracts.guidance import Guidance
from grasp_bench.testing import Check, guidance_checks, run_checks

from . import broken_guidances as broken
from .registered import register

KEEPING = [
    pytest.param(check, id=f"{name}-{check}")
    for name in plugins.entries("guidance")
    for check in guidance_checks(name, quick_guidance(name))
]


@pytest.mark.slow
@pytest.mark.parametrize("check", KEEPING)
def test_the_contract_is_kept(check: Check) -> None:
    check()


FAULTS = [
    (broken.OfTheBatch, "image-alone", "images differ by themselves from what they are among others"),
    (broken.OfTheBatch, "batch-size", "images differ in batches of 3"),
    (broken.DrawsGlobally, "deterministic", "Does it draw from a global generator"),
    (broken.Remembers, "deterministic", "keep something from one batch to the next"),
    (broken.Uncounted, "evaluations", "4 samples per image went through the network, and its counter saw 0"),
    (broken.SaysLess, "evaluations", "4 steps took 8 evaluations of an image, and evaluations() says 4"),
    (broken.WritesWeights, "weights-untouched", "values differ after sampling: proj_out.bias"),
    (broken.LeavesAHook, "weights-untouched", "its own predictions differ"),
    (broken.LearnsText, "learned-files", "it leaves learned.txt"),
    (broken.LearnsAtRandom, "learned-again", "tensors differ: learned.safetensors: numbers"),
    (broken.NotFinite, "finite-images", "an image is not finite after 4 sampling steps"),
    (broken.OddSupport, "finite-images", "supports() gives 'no', expected None or a Skip"),
]


@pytest.mark.parametrize(("plugin", "check", "words"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_fault_is_caught_by_the_check_of_it(
    plugin: type[Guidance], check: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = guidance_checks(register(monkeypatch, "guidance", plugin), backbones=["tiny-sd3"])
    with pytest.raises(AssertionError, match=re.escape(words)) as caught:
        (fault := next(each for each in checks if each.name == f"{check}[tiny-sd3]"))()
    assert str(caught.value).startswith(fault.contract)


def test_what_a_run_of_other_batches_took_is_not_held_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = register(monkeypatch, "guidance", broken.MoreInSmallBatches)
    checks = {each.name: each for each in guidance_checks(plugin, backbones=["tiny-sd3"])}
    for name in ("finite-images", "batch-size", "evaluations"):
        checks[f"{name}[tiny-sd3]"]()


def test_what_has_no_fault_passes_and_what_learns_nothing_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = guidance_checks(register(monkeypatch, "guidance", broken.Plain), backbones=["tiny-sd3"])
    outcomes = run_checks([check for check in checks if check.name != "import"]).outcomes
    found = {
        status: {each.name for each in outcomes if each.status == status} for status in ("failed", "not applicable")
    }
    learned = {f"{check}[tiny-sd3]" for check in ("learned-files", "learned-again")}
    assert found == {"failed": set(), "not applicable": learned}
