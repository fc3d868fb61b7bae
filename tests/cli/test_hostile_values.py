"""Values of settings that look like paths lead nowhere out of the folders of results and of work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from typer.testing import CliRunner

from grasp_bench import plugins
from grasp_bench.cli import app
from grasp_bench.errors import UserError
from grasp_bench.run.plan import plan
from grasp_bench.run.store import Store

AWAY = "../../../x"
RUN = ("run", "grasp", "digits-lt", "--budget", "smoke", "--device", "cpu")
ASSIGNED = {
    "guidance": ("guidance_set.pag", "layers", AWAY),
    "network": ("task_set.digits-lt", "network", AWAY),
    "column": ("set.grasp", "column", AWAY),
    "column of two lines": ("set.grasp", "column", "a\nb"),
    "absolute": ("set.grasp", "column", "/tmp/x"),
    "backslash": ("set.grasp", "column", "..\\..\\x"),
}


def options(table: str, name: str, value: str) -> list[str]:
    """The words by which the command line has what a sweep has in a table."""
    option = {"guidance_set.pag": "--guidance-set", "task_set.digits-lt": "--task-set", "set.grasp": "--set"}[table]
    more = ["--guidance", "pag"] if option == "--guidance-set" else []
    return [*more, *(["--set", "partition=metadata"] if table == "set.grasp" else []), option, f"{name}={value}"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder deep enough for its parents to be looked at."""
    folder = tmp_path / "a" / "b" / "c" / "d"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return tmp_path


def _top(path: Path) -> str:
    """The folder of results or of work, in one of which everything belongs."""
    return "results" if path.suffix != ".log" else ".grasp-bench/sweep/mine"


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize("which", ASSIGNED)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_nothing_is_written_elsewhere(command: str, which: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a setting means may be known only once a backbone is loaded; where its run is kept is known before."""

    def refuse(*_: object, **__: object) -> Path:
        raise UserError("as far as this test goes")

    monkeypatch.setattr(Store, "run", refuse)
    monkeypatch.setattr("grasp_bench.sweep.process.COMMAND", (sys.executable, "-c", "raise SystemExit(2)"))
    table, name, value = ASSIGNED[which]
    if command == "run":
        words = [*RUN, *options(table, name, value)]
    else:
        lines = ['methods = ["grasp"]', 'tasks = ["digits-lt"]', "seeds = [0]", 'guidances = ["pag"]']
        lines += ['budget = "smoke"', f"[{table}]", f"{name} = [{json.dumps(value)}]"]
        lines += ['partition = ["metadata"]'] if table == "set.grasp" else []
        Path("mine.toml").write_text("\n".join(lines))
        words = ["sweep", "mine.toml"]
    before = files(here)
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, UserError) or result.exit_code == 1, result.output
    new = files(here) - before
    assert all(path.is_relative_to(Path.cwd() / _top(path)) for path in new)
    if which not in ("guidance", "network"):  # refused when the settings are read
        assert not new


VALUES = some.sampled_from(
    [AWAY, "..", "/x", "a\nb", "a/b", "a\\b", ".x", "\x1b[2J", "n" * 300, "x", "2", "0.5", "true", "a,b"]
)
SETTINGS = [
    (kind, name, field)
    for kind in ("methods", "guidance")
    for name in plugins.entries(kind)
    for field in plugins.load(kind, name).Config.model_fields
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(setting=some.sampled_from(SETTINGS), value=VALUES)
def test_whatever_a_setting_is_a_run_lies_in_the_folder_of_its_task(
    setting: tuple[str, str, str], value: str, here: Path
) -> None:
    kind, name, field = setting
    chosen = {"method": name if kind == "methods" else "lora", "guidance": name if kind == "guidance" else None}
    assigned = {"method_settings" if kind == "methods" else "guidance_settings": [f"{field}={value}"]}
    try:
        found = plan(task="digits-lt", budget="smoke", **chosen, **assigned).folder
    except UserError:
        return
    assert len(found.parts) == 3
    assert not found.is_absolute()
    assert all(part.isprintable() and not part.startswith(".") and "\\" not in part for part in found.parts)
    assert not files(here)
