"""Bounds on what a user gives: numbers on the command line and in files, and labels that become folders."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers import runs
from helpers.records import metric, record
from pydantic import ValidationError

from grasp_bench.bounds import LARGEST_INTEGER, fault
from grasp_bench.cli import main
from grasp_bench.contracts.record import Score, parse_record, record_bytes
from grasp_bench.errors import UserError
from grasp_bench.run.labels import LONGEST, label_path
from grasp_bench.run.runner import run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", str(2**63)], "error: --seed: a value is an integer beyond ±9223372036854775807"),
        (["--batch-size", str(10**30)], "error: --batch-size: a value is an integer beyond"),
        (["--checkpoint-minutes", "inf"], "error: --checkpoint-minutes: a value is not finite"),
        (["--task-set", f"evaluations={10**30}"], "evaluations"),
        (["--task-set", "network=a\nb"], "not printable"),
        (["--task-set", f"network=timm:{'n' * 300}"], "this name becomes that of a folder of results, and it has"),
        (["--task-set", "network=../../../x"], "expected small-cnn or timm:<model>"),
    ],
)
def test_nothing_is_written_for_a_run_that_is_refused(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["grasp-bench", "run", "--method", "lora", "--task", "digits-lt", "--budget", "smoke", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*base, *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))
    assert not (tmp_path / "results").exists()


def test_an_unknown_network_of_timm_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a model that timm has"):
        run(runs.small("lora", task_settings=["network=timm:none"]), runs.options(tmp_path), runs.Listener())
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "label", ["../x", "a/b", "a\\b", "", ".", "..", ".hidden", "a\nb", "a\x1b[2J", "n" * (LONGEST + 1)]
)
def test_labels_that_are_no_folder(label: str) -> None:
    with pytest.raises(UserError, match="this name becomes that of a folder of results"):
        label_path("digits-lt", label, "seed-0")


def test_a_label_is_one_folder() -> None:
    assert label_path("digits-lt", "lora~rank=4,x=.._.._x", "seed-0").parts == (
        "digits-lt",
        "lora~rank=4,x=.._.._x",
        "seed-0",
    )


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (LARGEST_INTEGER, True),
        (LARGEST_INTEGER + 1, False),
        (-(2**80), False),
        ({"a": [1, {"b": 10**400}]}, False),
        ("naïve", True),
        ("a\0", False),
        ({"a\0": 1}, False),
        ("\udcff", False),
        (None, True),
        (1e308, True),
    ],
)
def test_what_can_be_kept(value: object, good: bool) -> None:
    assert (fault(value) is None) == good


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seed": 0', f'"seed": {2**63}'),
        ('"n": 30', f'"n": {10**30}'),
        ('"value": 3.5', '"value": 1e308'),
        ('"threads": 2', f'"threads": {10**400}'),
    ],
)
def test_a_record_with_numbers_beyond_every_table_is_refused(old: str, new: str) -> None:
    content = record_bytes(record("lora", 0, [metric("fd", "tail", 3.5)])).decode()
    assert old in content
    with pytest.raises(ValidationError, match=r"less than or equal|should be a valid integer"):
        parse_record(content.replace(old, new).encode())


def test_costs_are_bounded() -> None:
    with pytest.raises(ValidationError):
        Score.model_validate(metric("fd", "tail", 3.5).model_dump() | {"reference": -1e308})


def test_an_error_of_the_system_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setattr(sys, "argv", ["grasp-bench", "score", str(tmp_path / "loop"), str(tmp_path / ("n" * 300))])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
