"""Every installed task keeps the contract, where its data is here; and what does not is caught, in words."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grasp_bench import plugins
from grasp_bench.contracts.task import Task
from grasp_bench.errors import UserError
from grasp_bench.testing import Check, NotApplicable, run_checks, task_checks
from grasp_bench.testing.checks import contracts

from . import broken_tasks as broken
from .registered import register

KEEPING = [
    pytest.param(check, id=f"{name}-{check}", marks=[pytest.mark.slow] if check.name == "smoke-run" else [])
    for name in plugins.entries("tasks")
    for check in task_checks(name)
    if (name, check.name) != ("mnist-lt", "smoke-run")  # a minute; the documentation's commands run it in less
]


@pytest.mark.parametrize("check", KEEPING)
def test_the_contract_is_kept(check: Check) -> None:
    check()


FAULTS = [
    (broken.NoStandard, "budgets", "there is no budget standard: it has smoke"),
    (broken.OnePrompt, "classes", "classes share the prompt a digit"),
    (broken.Misspelt, "names", "unknown extractor 'digit-cnn'"),
    (broken.RareHead, "groups", "5 is medium with 18 training images, 9 head with 10"),
    (broken.Restless, "prepare", "ids, labels or prompts of train differ"),
    (broken.Miscounted, "counts", "training images: 1 says 33 and has 32"),
    (broken.Overlapping, "disjoint", "train and test share images: digits/"),
    (broken.SamePatients, "disjoint", "train and validation share 1 patients"),
    (broken.Unlabelled, "labels", "labels of test are not all from 0 to 9"),
    (broken.Sorted, "images", "read() of test does not keep the order of its indices"),
    (broken.InFloat, "images", "images of train are float64, expected uint8"),
]


@pytest.mark.parametrize(("plugin", "check", "words"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_fault_is_caught_by_the_check_of_it(
    plugin: type[Task], check: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = task_checks(register(monkeypatch, "tasks", plugin))
    with pytest.raises(AssertionError, match=re.escape(words)) as caught:
        (fault := one(checks, check))()
    assert str(caught.value).startswith(fault.contract)


def one(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


@pytest.mark.parametrize("check", contracts("on_data"))
def test_data_that_is_not_there_is_said_and_is_no_failure(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRASP_BENCH_DATA", raising=False)
    checks = task_checks(register(monkeypatch, "tasks", broken.Elsewhere))
    with pytest.raises(NotApplicable, match="task a-elsewhere needs data that you have to download yourself"):
        one(checks, check)()


def test_unknown_names_and_settings_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="Did you mean 'digits-lt'"):
        task_checks("digit-lt")
    with pytest.raises(UserError, match="class_order"):
        task_checks("digits-lt", ["class_order=1"])


def test_a_task_of_a_file_is_checked(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, count in (("cat", 24), ("dog", 12)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    (tmp_path / "pets.toml").write_text("head_above = 12\ntail_below = 10\n")
    checks = [check for check in task_checks(str(tmp_path / "pets.toml")) if check.name not in ("import", "smoke-run")]
    assert {each.status for each in run_checks(checks).outcomes} == {"passed"}
