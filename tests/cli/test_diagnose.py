import json
import subprocess
import sys

import pytest
import typer
from harness import runs
from typer.testing import CliRunner

from grasp_bench.cli.diagnose import diagnose
from grasp_bench.cli.export import export
from grasp_bench.diagnose.subject import training_log
from grasp_bench.errors import UserError

app = typer.Typer()
app.command()(diagnose)
exporting = typer.Typer()
exporting.command()(export)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        runs.hurry(patch.setattr)
        runs.finish(folder, runs.small("moe"))
    return folder


def call(folder, *arguments):
    words = ["--results", folder / "results", "--work-dir", folder / "work", "--device", "cpu", *arguments]
    return CliRunner().invoke(app, [str(word) for word in words])


def record(folder):
    (path,) = (folder / "results").rglob("record.json")
    return path


def test_a_run_is_diagnosed_at_its_end_and_the_same_from_its_export(finished, tmp_path):
    shown = call(finished, "--run", record(finished).parent)
    assert shown.exit_code == 0, shown.exception
    (path,) = (finished / "results" / "digits-lt~budget=smoke" / "diagnose" / "moe").glob("*.json")
    found = json.loads(path.read_text())
    assert path.name == f"seed-0@{found['step']}.json"
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert path.with_suffix(".md").read_text() in shown.stdout
    log = runs.log_rows(record(finished).with_name("train.jsonl"))
    assert found["training"] == [{name: row[name] for name in ("step", "group_loss", "method")} for row in log]
    assert found["step"] == log[-1]["step"]

    words = [record(finished), "--to", tmp_path / "mine", "--work-dir", finished / "work"]
    assert CliRunner().invoke(exporting, [str(word) for word in words]).exit_code == 0
    again = call(finished, "--run", tmp_path / "mine", "--results", tmp_path / "again")
    assert again.exit_code == 0, again.exception
    (other,) = (tmp_path / "again").rglob("*.json")
    assert json.loads(other.read_text()) | {"training": found["training"]} == found


def test_options_that_contradict_the_run_are_refused(finished):
    run = record(finished)
    for option, value in (("--method", "grasp"), ("--task", "cifar10-lt"), ("--set", "rank=2")):
        shown = call(finished, "--run", run, option, value)
        assert isinstance(shown.exception, UserError)
        assert f"{option} {value}: {run}" in str(shown.exception)
    assert "found '900000'" in str(call(finished, "--run", run, "--at", "0,900000").exception)


def test_a_task_or_a_run_is_needed(tmp_path):
    assert "--task digits-lt, or --run RUN" in str(call(tmp_path).exception)


def test_a_log_that_is_damaged_is_named(finished, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(record(finished).with_name("train.jsonl").read_text() + "{\n")
    with pytest.raises(UserError, match=r"train.jsonl, line \d+: not a row of a training log"):
        training_log(path)


def test_importing_the_command_stays_quick():
    code = "import sys, grasp_bench.cli.diagnose, grasp_bench.diagnose.subject; "
    code += "print({'torch', 'diffusers', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
