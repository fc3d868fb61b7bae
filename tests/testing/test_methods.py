"""Every installed method keeps the contract; and what does not is caught by the very check, in words."""

from __future__ import annotations

import re

import pytest
from helpers.quick import quick

from grasp_bench import plugins
from grasp_bench.contracts.method import Method
from grasp_bench.errors import UserError
from grasp_bench.testing import Check, NotApplicable, method_checks

from . import broken_methods as broken
from .registered import register

KEEPING = [
    pytest.param(check, id=f"{name}-{check}")
    for name in plugins.entries("methods")
    for check in method_checks(name, quick(name))
]


@pytest.mark.slow
@pytest.mark.parametrize("check", KEEPING)
def test_the_contract_is_kept(check: Check) -> None:
    check()


FAULTS = [
    (broken.StartsElsewhere, "step-0", "no word on step 0"),
    (broken.DrawsGlobally, "fresh-weights", "attach() draws from a global generator of torch"),
    (broken.ChangesTheTask, "task-untouched", "attach() changed of the task: budgets"),
    (broken.ChangesTheObjective, "task-untouched", "attach() replaced of the backbone: objective"),
    (broken.ChangesTheObjective, "equal-streams", "that of vanilla-ft"),
    (broken.MeetsHalfway, "data-untouched", "a training step changed of its batch: target"),
    (broken.Weakens, "data-untouched", "a training step changed of its batch: noise, noisy"),
    (broken.Relabels, "data-untouched", "a training step changed of its batch: labels"),
    (broken.Overlooks, "data-untouched", "changed of the training images: labels"),
    (broken.Leaks, "trains-its-own", "not among parameters(): proj_out.bias"),
    (broken.LearnsNothing, "trains-its-own", "changed none of the"),
    (broken.ForgetsATensor, "round-trip", "from that of the network whose weights they are"),
    (broken.ForgetsWhatItWasGiven, "round-trip", "artifacts() of a method that is attached with artifacts() differ"),
    (broken.SavesTheBackbone, "round-trip", "frozen weights of the backbone: theirs"),
    (broken.TakesAnything, "foreign-weights", "takes a state without"),
    (broken.Remembers, "resume", "interrupted after 2 of 3 steps"),
    (broken.StaysAttached, "detach", "modules are left behind"),
    (broken.LeavesAHook, "detach", "hooks or a replaced forward are left on proj_out"),
    (broken.LeavesAGradient, "detach", "requires_grad differs: proj_out.weight"),
    (broken.DefaultRoute, "checkpointing", "gradients differ: transformer_blocks.0.ff.numbers"),
    (broken.SkipsTheRoute, "checkpointing", "the forward pass takes another way when it runs again"),
    (broken.DefaultRoute, "no-default-route", "a forward pass outside of condition() gives a prediction"),
    (broken.BatchMean, "mixed-batch", "samples of different classes are predicted otherwise by themselves"),
    (broken.ChangesGradients, "surgery", "combine() changes the gradients"),
    (broken.DrawsASurgery, "surgery", "combine() draws from torch's global generator"),
    (broken.DividesByNothing, "surgery", "not finite with 1 of 3 groups without samples"),
    (broken.NeverEnds, "second-stage", "it begins at step 3 of 3"),
    (broken.DrawsNothing, "second-stage", "sample_weights leave no image"),
    (broken.Rests, "second-stage", "trains() is false for all"),
    (broken.Crashes, "step-0", "RuntimeError: the wrong fuse (line "),
]


@pytest.mark.parametrize(("plugin", "check", "words"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_fault_is_caught_by_the_check_of_it(
    plugin: type[Method], check: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = method_checks(register(monkeypatch, "methods", plugin), backbones=["tiny-sd3"])
    with pytest.raises(AssertionError, match=re.escape(words)) as caught:
        (fault := one(checks, f"{check}[tiny-sd3]"))()
    assert str(caught.value).startswith(fault.contract)


def one(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_a_method_may_say_why_it_starts_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = method_checks(register(monkeypatch, "methods", broken.SaysWhy), backbones=["tiny-sd3"])
    with pytest.raises(NotApplicable, match=r"At step 0 the output differs, since updates begin at a tenth\.$"):
        one(checks, "step-0[tiny-sd3]")()


def test_a_class_that_says_too_little_is_told_what(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = method_checks(register(monkeypatch, "methods", broken.Undescribed))
    with pytest.raises(AssertionError, match=r"begins with a line on what it is\. Found: Undescribed has no docstring"):
        one(checks, "declaration")()
    monkeypatch.setattr(broken.Undescribed, "kind", "everything")
    with pytest.raises(AssertionError, match=r"kind is 'everything', expected one of all weights, low rank, adapters"):
        one(checks, "declaration")()
    with pytest.raises(AssertionError) as caught:
        one(checks, "settings")()
    assert "depth has no description" in str(caught.value)
    assert "depth has no bound" in str(caught.value)
    assert "width is searched from 8 to 64, and its default is 4" in str(caught.value)


def test_a_module_that_imports_torch_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = method_checks(register(monkeypatch, "methods", broken.Crashes))
    with pytest.raises(
        AssertionError, match=r"Found: importing testing\.broken_methods imports torch: import it inside"
    ):
        one(checks, "import")()


def test_a_method_that_does_not_support_the_backbone_is_not_checked_there() -> None:
    with pytest.raises(NotApplicable, match="no attention to a prompt's tokens"):
        one(method_checks("lora-attn"), "step-0[tiny-dit]")()


@pytest.mark.parametrize(("name", "settings"), [("lara", []), ("lora", ["rank=0"]), ("lora", ["steps=3"])])
def test_unknown_names_and_settings_are_refused_at_once(name: str, settings: list[str]) -> None:
    with pytest.raises(UserError):
        method_checks(name, settings)


def test_settings_are_those_that_are_checked() -> None:
    from grasp_bench.testing.rig import Subject

    methods = [Subject("lora", (f"rank={rank}",), "tiny-sd3").attach().method for rank in (2, 4)]
    small, large = (sum(each.numel() for each in method.parameters().values()) for method in methods)
    assert large == 2 * small
