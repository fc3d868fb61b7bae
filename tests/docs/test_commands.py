"""Every command and every Python block of README and the documentation is carried out, or the reason stands here."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from grasp_bench import plugins
from grasp_bench.cli import app
from grasp_bench.contracts.settings import parse_settings

from . import stand_ins
from .commands import Command, commands
from .pages import ROOT, Block, blocks, pages

NOT_HERE = {
    "--allow-download": "fetches from the network",
    "--pipeline": "needs a pipeline of the user's; tests/run/entry/test_pipeline.py has some",
    "nih-lt-multi": "needs images with label sets; tests/label_sets/test_chest_sets.py has some",
    "--task cxr-lt": "likewise",
    "--weights": "needs weights that cannot be shipped",
    "sd3.5-medium": "needs the hub's cache",
    "--cache sana-0.6b": "needs the hub's cache",
    "hf:microsoft/rad-dino": "needs weights that cannot be shipped",
    "--launcher slurm": "needs a cluster; tests/sweep/test_slurm.py has one",
    "--processes": "starts processes; tests/cli/test_processes.py does",
    "--compile": "compiles for minutes",
    "adamw-8bit": "is for GPUs",
    "digits-16.toml": "needs images that the file says how to write; tests/tasks/test_examples.py has it",
    "--search tpe": "needs an extra; tests/tuning has it where it is",
}
"""Part of a command → why it is only compared with the options that there are."""
COMMANDS = commands()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytestmark = pytest.mark.slow
OF_COMMITTED_RUNS = ("--update BENCHMARKS.md", "~tuned=8", "--baseline")
"""Part of a report that looks at the committed results, which a clone has."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a reader would be who gives one command after the other."""
    path = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        stand_ins.shrink(patch)
        stand_ins.furnish(path, patch)
        patch.chdir(path)
        patch.setattr(sys, "path", list(sys.path))
        yield path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(path)):
            del sys.modules[name]  # of packages that a command installed
    stand_ins.forget_plugins()


def test_there_are_commands():
    assert len([command for command in COMMANDS if command.words[0] == "grasp-bench"]) > 60


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_command(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch):
    program, *arguments = command.words
    check = {"grasp-bench": _grasp_bench, "make": _make, "pip": _pip, "python": _python, "hf": _hf, "mv": _mv}[program]
    check(arguments, folder)


def _grasp_bench(arguments: list[str], folder: Path) -> None:
    words = ("grasp-bench", *arguments)
    _parse(arguments)
    if any(part in " ".join(words) for part in NOT_HERE):
        return
    if arguments[0] == "report" and any(part in " ".join(words) for part in OF_COMMITTED_RUNS):
        words = (*words, "--results", str(ROOT / "results"))
    elif "--html" in arguments and "--results" not in arguments:  # pages of many runs are tested where they are made
        words = (*words, "--results", str(ROOT / "docs" / "examples"))
    if arguments[0] in ("sweep", "status", "estimate") and ".toml" in arguments[1] and "print" not in arguments:
        described = folder / arguments[1]
        described.parent.mkdir(parents=True, exist_ok=True)
        described.write_text(stand_ins.SWEEP)
    result = CliRunner().invoke(app, stand_ins.placed(words, folder)[1:])
    assert result.exit_code == 0, (result.exception, result.output)


def _parse(arguments: list[str]) -> None:
    """Raises for an option or value that the command does not take, and for a setting that nobody has."""
    group = typer.main.get_command(app)
    name, command, rest = group.resolve_command(click.Context(group), list(arguments))
    context = command.make_context(name, rest)
    if name == "run":
        given = context.params
        method, task = given["names"] or (given["method"], given["task"])
        owners = {"methods": (method, "set_"), "guidance": (given["guidance"] or "cfg", "guidance_set")}
        if not task.endswith(".toml"):
            owners["tasks"] = (task, "task_set")
        for kind, (owner, option) in owners.items():
            if owner in plugins.entries(kind):
                parse_settings(plugins.load(kind, owner).Config, given[option], f"{kind} {owner}", {})


def _make(arguments: list[str], folder: Path) -> None:
    """Targets take minutes, or are what runs these tests."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(arguments) <= set(targets)


def _pip(arguments: list[str], folder: Path) -> None:
    """Nothing is fetched: extras must be declared, and a package beside us is put where it can be imported."""
    action, *what = arguments
    assert action == "install"
    match what:
        case ["-e", "."]:
            pass
        case ["-e", package]:
            stand_ins.install(folder / package, pytest.MonkeyPatch())
        case [requirement]:
            extras = re.fullmatch(r"grasp-bench(?:\[([\w,]+)\])?", requirement)
            assert extras, requirement
            assert set((extras[1] or "").split(",")) - {""} <= PROJECT["optional-dependencies"].keys()
        case _:
            raise AssertionError(what)


def _hf(arguments: list[str], folder: Path) -> None:
    """Nothing is fetched: what is to be fetched must be named."""
    assert arguments[0] == "download"
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", arguments[1])


def _mv(arguments: list[str], folder: Path) -> None:
    """What was not fetched cannot be moved."""
    assert len(arguments) == 2


def _python(arguments: list[str], folder: Path) -> None:
    """Modules that take many minutes must be there."""
    assert arguments[0] == "-m"
    assert importlib.util.find_spec(arguments[1])


NAMES: dict[str, dict[str, object]] = {}
"""Page → what its blocks have defined so far."""
PYTHON = [block for path in pages() for block in blocks(path) if block.language == "python"]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.page}:{block.line}")
def test_python(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Blocks of a page share their names, as the cells of a notebook do."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = NAMES.setdefault(block.page, {"__name__": "documented"})
    exec(compile(block.text, f"{block.page}:{block.line}", "exec"), names)
    if "savefig" in block.text:
        assert (folder / "tail.png").read_bytes().startswith(b"\x89PNG")
    if "images[0].save" in block.text:
        assert (folder / "nine.png").read_bytes().startswith(b"\x89PNG")


def test_the_methods_that_are_shown_keep_the_contract(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The plugin page's, as third-party packages."""
    shown = [block.text for block in PYTHON if "(Method[" in block.text]
    assert len(shown) == 2
    for number, text in enumerate(shown):
        package = folder / f"shown-{number}"
        (package / "src" / f"shown_{number}").mkdir(parents=True)
        (package / "src" / f"shown_{number}" / "__init__.py").write_text(text)
        (kind,) = re.findall(r"^class (\w+)\(Method\[", text, re.MULTILINE)
        (package / "pyproject.toml").write_text(
            f'[project]\nname = "shown-{number}"\nversion = "1"\n[project.entry-points."grasp_bench.methods"]\n'
            f'shown-{number} = "shown_{number}:{kind}"\n'
        )
        stand_ins.install(package, monkeypatch)
        _grasp_bench(["run", "--method", f"shown-{number}", "--task", "digits-lt"], folder)
        _grasp_bench(["check", "method", f"shown-{number}"], folder)
