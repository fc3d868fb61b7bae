"""Whatever others name their tasks, classes and files, no command prints a sign that steers a terminal."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.records import metric, record
from PIL import Image
from rich.text import Text

from grasp_bench import cli
from grasp_bench.contracts.progress import Progress
from grasp_bench.terminal import Terminal

EVIL = "b\x07e\x1b[31m\x1b]0;t\x07\x9b2J\x7f\u202eend"
RUNS = ("results/evil/grasp/seed-0", "results/evil/lora/seed-0")
COMMANDS = {
    "list": [["list"], ["list", "--json"]],
    "show": [
        ["show", "grasp"],
        ["show", "task.toml"],
        ["show", EVIL],
        ["show", "task.toml", "--json"],
        ["show", "wrong.toml"],
    ],
    "prepare": [["prepare", "--task", "task.toml", "--check"], ["prepare", "--task", EVIL]],
    "data export": [["data", "export", "-t", "task.toml", "--split", EVIL, "--to", EVIL]],
    "new": [["new", "method", EVIL], ["new", "task", "--path", f"{EVIL}.toml"]],
    "run": [["run", "grasp", EVIL], ["run", EVIL, "digits-lt"], ["run", "grasp", "task.toml", "--set", f"{EVIL}=1"]],
    "evaluate": [["evaluate", "--task", "digits-lt", "--images", EVIL, "--name", EVIL]],
    "report": [
        *(["report", "--format", form] for form in ("table", "markdown", "latex", "json")),
        ["report", "--status", "failed"],
        ["report", "--baseline", "lora"],
        ["report", "--only-missing"],
        ["report", "--html", f"{EVIL}-page"],
        ["report", "--out", f"{EVIL}.txt"],
    ],
    "score": [["score", EVIL, "b"]],
    "tune": [["tune", "--method", EVIL, "--task", "digits-lt"], ["tune", "--method", "lora", "--task", EVIL]],
    "diagnose": [["diagnose", "--task", EVIL], ["diagnose", "--run", RUNS[0]]],
    "sweep": [["sweep", "sweep.toml", "--launcher", "print"], ["sweep", "evil.toml"], ["sweep", EVIL]],
    "estimate": [["estimate", "-m", EVIL, "-t", EVIL]],
    "status": [["status", "sweep.toml"], ["status", "sweep.toml", "--json"], ["status", "evil.toml"]],
    "sample": [["sample", RUNS[0], "--out", f"{EVIL}.png"], ["sample", EVIL, "--out", "a.png"]],
    "doctor": [["doctor", "--results", EVIL]],
    "cache list": [["cache", "list"], ["cache", "list", "--work-dir", EVIL]],
    "cache clear": [["cache", "clear", EVIL], ["cache", "clear", "--yes", "--work-dir", EVIL]],
    "check": [["check", "method", EVIL]],
    "export": [["export", RUNS[0], "--to", "new"]],
    "compare": [["compare", *RUNS], ["compare", *RUNS, "--json", f"{EVIL}.json"]],
    "reproduce": [["reproduce", RUNS[0]]],
    "submit": [["submit", RUNS[0]], ["submit", EVIL]],
    "migrate": [["migrate", "results"], ["migrate", EVIL]],
    "verify": [["verify", EVIL], ["verify", "evil.zip"]],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a task whose every name is hostile, a task of a folder with such classes, and a sweep over both."""
    folder = tmp_path_factory.mktemp("hostile")
    scores = [metric("recall", group, 0.5) for group in ("all", "tail")]
    scores.append(scores[0].model_copy(update={"group": EVIL, "label": EVIL}))
    for number, method in enumerate(("grasp", "lora", EVIL)):
        failed = {"status": "failed", "reason": EVIL} if method == EVIL else {}
        found = record(method, 0, [] if failed else scores, task=EVIL, task_label=EVIL, **failed)
        place = folder / "results" / "evil" / (method if number < 2 else "failed") / "seed-0"
        place.mkdir(parents=True)
        (place / "record.json").write_text(found.model_dump_json())
    damaged = folder / EVIL / "digits-lt" / "lora" / "seed-0"
    damaged.mkdir(parents=True)
    (damaged / "record.json").write_text("{")
    for name in ("a", EVIL):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.full((8, 8, 3), number * 9 + len(name), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}{EVIL}.png")
    (folder / "task.toml").write_text('name = "odd"\nhead_above = 3\ntail_below = 2\nextractor = "pixels"\n')
    named = json.dumps(EVIL)
    (folder / "wrong.toml").write_text(f"name = {named}\n{named} = 1\n")
    for name, task in (("sweep", "digits-lt"), ("evil", EVIL)):
        (folder / f"{name}.toml").write_text(f'methods = ["lora"]\ntasks = [{json.dumps(task)}]\nseeds = [0]\n')
    (folder / "evil.zip").write_bytes(b"PK\x03\x04" + EVIL.encode())
    return folder


def test_every_command_is_tried() -> None:
    assert {*COMMANDS} == {*cli.COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_steers_the_terminal(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    with warnings.catch_warnings():
        for words in COMMANDS[command]:
            monkeypatch.setattr(sys, "argv", ["grasp-bench", *words])
            with pytest.raises(SystemExit) as stop:
                cli.main()
            shown = "".join(capsys.readouterr())
            assert stop.value.code in (0, 1, 2), words
            assert shown, words
            odd = [sign for sign in shown if not sign.isprintable() and sign != "\n"]
            assert odd == [], words


SUCCEED = {
    "prepare": ["prepare", "--task", "task.toml", "--cache", "tiny-sd3", "--verbose"],
    "data export": ["data", "export", "-t", "task.toml", "--split", "train", "--to", "exported"],
    "score": ["score", "images", "images", "--extractor", "pixels", "--per-class"],
    "compare": ["compare", *RUNS],
    "report": ["report", "--format", "markdown"],
    "cache list": ["cache", "list"],
    "run": [
        "run",
        "lora",
        "task.toml",
        "--budget",
        "smoke",
        "--device",
        "cpu",
        "--backbone",
        "tiny-sd3",
        "--verbose",
        "--all-scores",
    ],
}


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[pytest.mark.slow] * (name == "run")) for name in SUCCEED]
)
def test_nothing_steers_the_terminal_where_a_command_succeeds(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["grasp-bench", *SUCCEED[command]])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    shown = "".join(capsys.readouterr())
    assert stop.value.code in (0, None), shown
    assert shown
    assert [sign for sign in shown if not sign.isprintable() and sign != "\n"] == []


def test_progress_and_a_terminal_escape_what_they_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    Progress().say(EVIL)
    terminal = Terminal(width=200)
    terminal.print(EVIL, markup=False)
    terminal.print(Text(EVIL, style="bold"))
    out, err = capsys.readouterr()
    assert r"b\u0007e\u001b[31m" in out
    assert r"b\u0007e\u001b[31m" in err
    assert all(sign.isprintable() or sign == "\n" for sign in out + err)


def test_styles_stay(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(width=200, force_terminal=True, color_system="standard").print(Text("\x1b[2J", style="bold"))
    assert capsys.readouterr().out == "\x1b[1m\\u001b[2J\x1b[0m\n"
