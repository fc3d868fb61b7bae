"""Checks, their report, and how third-party tests meet them."""

import subprocess
import sys
from pathlib import Path

import pytest

from grasp_bench.testing import Check, NotApplicable, run_checks

HEAVY = ("torch", "diffusers", "peft", "sklearn", "pandas", "matplotlib")


def fail() -> None:
    raise AssertionError("a spade")


def skip() -> None:
    raise NotApplicable("there is no card")


def crash() -> None:
    raise ValueError("hearts\nand more of it")


CHECKS = [
    Check("fine", "It is a card.", lambda: None),
    Check("suit", "It is of hearts.", fail),
    Check("number", "It has a number.", skip),
    Check("deck", "It is of the deck.", crash, __file__),
]


def test_a_failure_says_the_contract_and_what_was_found() -> None:
    with pytest.raises(AssertionError, match=r"^It is of hearts\. Found: a spade$"):
        CHECKS[1]()


def test_another_exception_is_a_failure_that_names_the_plugins_line() -> None:
    with pytest.raises(AssertionError) as caught:
        CHECKS[3]()
    line = crash.__code__.co_firstlineno + 1
    assert str(caught.value) == f"It is of the deck. Found: ValueError: hearts (line {line} of {__file__})"


def test_the_report_goes_on_after_a_failure_and_keeps_the_words() -> None:
    advanced: list[int] = []
    report = run_checks(CHECKS, advanced.append)
    assert [(each.name, each.status, each.found) for each in report.outcomes[:3]] == [
        ("fine", "passed", ""),
        ("suit", "failed", "a spade"),
        ("number", "not applicable", "there is no card"),
    ]
    assert report.outcomes[3].status == "failed"
    assert not report.passed
    assert [report.count(status) for status in ("passed", "failed", "not applicable")] == [1, 2, 1]
    assert sum(advanced) == 4


def test_what_does_not_apply_is_no_failure() -> None:
    assert run_checks([CHECKS[0], CHECKS[2]]).passed


def test_to_pytest_they_pass_fail_and_skip(tmp_path: Path) -> None:
    test = tmp_path / "test_cards.py"
    test.write_text(
        "import pytest\n"
        f"import sys; sys.path.append({str(Path(__file__).parents[1])!r})\n"
        "from testing.test_checks import CHECKS\n"
        "@pytest.mark.parametrize('check', CHECKS, ids=str)\n"
        "def test_contract(check):\n"
        "    check()\n"
    )
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", str(test)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stdout
    assert "PASSED test_cards.py::test_contract[fine]" in shown
    assert "FAILED test_cards.py::test_contract[suit]" in shown
    assert "there is no card" in next(line for line in shown.splitlines() if line.startswith("SKIPPED"))
    assert "2 failed, 1 passed, 1 skipped" in shown


def test_listing_checks_imports_nothing_heavy() -> None:
    code = (
        "import sys; from grasp_bench.testing import *\n"
        "method_checks('grasp'), guidance_checks('apg'), task_checks('digits-lt'), extractor_checks('pixels')\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
