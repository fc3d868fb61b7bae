"""The command that checks a plugin."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.plugin import register
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.cli.check import _rows
from grasp_bench.errors import UserError
from grasp_bench.extractors.pixels import Pixels
from grasp_bench.testing.checks import Outcome, Report


class Blank(Pixels):
    """Pixels of a blank sheet"""

    def features(self, images, batch_size=64):
        return 0 * super().features(images, batch_size)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is given."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flat(text: str) -> str:
    """A table's words without its lines."""
    return " ".join(text.split())


def test_a_plugin_that_keeps_its_contract_passes_with_a_row_a_check(folder: Path) -> None:
    shown = CliRunner().invoke(app, ["check", "extractor", "pixels", "--json", "report.json"])
    assert shown.exit_code == 0
    assert "extractor pixels" in shown.stdout
    assert "image-alone passed Row i is of image i" in flat(shown.stdout)
    assert "0 failed" in shown.stdout
    report = json.loads((folder / "report.json").read_text())
    assert (report["kind"], report["name"], report["settings"], report["passed"]) == ("extractor", "pixels", [], True)
    assert {check["status"] for check in report["checks"]} == {"passed"}
    assert [path.name for path in folder.iterdir()] == ["report.json"]  # nothing else is left


def test_one_that_does_not_fails_with_words_and_exit_code_1(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "extractors", "blank", Blank)
    shown = CliRunner().invoke(app, ["check", "extractor", "blank", "--json", "report.json"])
    assert shown.exit_code == 1
    assert "failed: 24 different images with equal features" in flat(shown.stdout)
    report = json.loads((folder / "report.json").read_text())
    assert not report["passed"]
    assert "24 different images with equal features" in [check["found"] for check in report["checks"]]


def test_what_is_not_here_is_said_once_and_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRASP_BENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "nowhere")
    shown = CliRunner().invoke(app, ["check", "task", "cifar10-lt"])
    assert shown.exit_code == 0
    assert flat(shown.stdout).count("task cifar10-lt needs data") == 1
    assert flat(shown.stdout).count("not applicable") == 2  # a row, and the sum
    assert list(Path().iterdir()) == []


def test_all_that_does_not_apply_is_one_row_with_its_reasons() -> None:
    because = {"a": "no surgery()", "b": "no second stage", "c": "no surgery()"}
    found = [Outcome(name, "What must be so.", "not applicable", reason) for name, reason in because.items()]
    first, others = _rows(Report([Outcome("d", "What must be so.", "passed"), *found]))
    assert first[0] == "d"
    assert others[0] == "3 others"
    assert others[2].text == "a, c: no surgery(); b: no second stage"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["methods", "lora"], "'methods' cannot be checked. Did you mean 'method'?"),
        (["method", "lara"], "unknown method 'lara'. Did you mean 'lora'?"),
        (["method", "lora", "--set", "rink=3"], "method lora has no setting 'rink'. Did you mean 'rank'?"),
        (["extractor", "pixels", "--set", "side=8"], "extractor pixels has no settings"),
        (["task", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_mistakes_are_one_message(arguments: list[str], words: str) -> None:
    caught = CliRunner().invoke(app, ["check", *arguments]).exception
    assert isinstance(caught, UserError)
    assert words in str(caught)


def test_a_mistake_exits_with_2() -> None:
    command = [sys.executable, "-m", "grasp_bench", "check", "guidance", "cfgg"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: unknown guidance 'cfgg'.")
