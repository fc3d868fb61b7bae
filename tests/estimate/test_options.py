"""Every option of the command changes what it does, or is refused by what has no use for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from click.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.errors import UserError
from grasp_bench.estimate import estimate, measured_errors, parameters, subject, sweep, table, text
from grasp_bench.estimate.estimate import Total

RUN = ("--method", "grasp", "--task", "digits-lt")
ASKED = {
    "one run": RUN,
    "a sweep's file": ("sweep.toml",),
    "--parameters": ("--parameters", "--method", "grasp"),
    "--table": ("--table",),
}
VALUES = {
    "--method": "lora",
    "--task": "mnist-lt",
    "--backbone": "tiny-sd3-32",
    "--resolution": "64",
    "--gpu": "a100-40gb",
    "--utilisation": "0.5",
    "--rate": "2",
    "--guidance": "none",
    "--set": "rank=4",
    "--guidance-set": "guidance_scale=2",
    "--task-set": "optimizer=adamw-fused",
    "--budget": "lite",
    "--accumulate": "8",
    "--gradient-checkpointing": "on",
    "--batch-size": "7",
    "--processes": "4",
    "--json": "found.json",
}
"""Option → a value that is not its default; flags have none."""
COMMAND = typer.main.get_command(app).commands["estimate"]  # type: ignore[attr-defined] # it is a group
OPTIONS = {max(each.opts, key=len): each for each in COMMAND.params if each.param_type_name == "option"}


def done(words: list[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...] | UserError:
    """Return what the command asks to be computed, prints and writes, or why it refuses; nothing is simulated."""
    asked: list[object] = []

    def keep(answer: Any) -> Any:
        return lambda *given, **named: (asked.append((given, named)), answer)[1]

    found = SimpleNamespace(hours=3.0, to_json=lambda: {})
    with monkeypatch.context() as patch:
        patch.chdir(home)
        patch.setattr(subject, "choose", keep(None))
        patch.setattr(estimate, "estimate", keep(found))
        patch.setattr(sweep, "estimate_sweep", keep(sweep.SweepEstimate([], ["none"], {}, Total(2, 3.0))))
        for module in (table, parameters):
            patch.setattr(module, "rows", keep([]))
            patch.setattr(module, "lines", lambda rows: rows)
        for name, answer in (("heading", "a heading"), ("tables", []), ("short", "in short")):
            patch.setattr(text, name, lambda found, answer=answer: answer)
        patch.setattr(measured_errors, "said", lambda: "no errors")
        shown = CliRunner().invoke(COMMAND, words)
    if isinstance(shown.exception, UserError):
        return shown.exception
    assert shown.exit_code == 0, shown.exception
    return repr(asked), shown.output, [path.name for path in home.iterdir()]


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_has_an_effect_or_is_refused(
    kind: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (option,) if OPTIONS[option].is_flag else (option, VALUES[option])
    others, at = list(ASKED[kind]), ASKED[kind].index(option) if option in ASKED[kind] else None
    if at is not None:
        del others[at : at + len(words)]
    before, after = (done([*others, *more], tmp_path, monkeypatch) for more in ((), words))
    assert after != before
    if isinstance(after, UserError):
        assert option in str(after)
