import json

import pytest
from report.records import metric, record, save
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.errors import UserError


@pytest.fixture
def results(tmp_path):
    for task in ("digits-lt", "other"):
        save(tmp_path, *(record(m, 0, [metric("recall", "all", 0.5)], task=task) for m in ("grasp", "lora")))
    save(tmp_path, record("moe", 0, status="failed", reason="the disk is full"))
    return tmp_path


def report(results, *arguments):
    return CliRunner().invoke(app, ["report", "--results", str(results), *arguments])


def test_table_is_the_default(results):
    shown = report(results)
    assert shown.exit_code == 0
    assert "recall ↑" in shown.stdout
    assert "the disk is full" in shown.stdout


def test_task_selects(results):
    boards = json.loads(report(results, "--task", "other", "--format", "json").stdout)
    assert [board["task"] for board in boards] == ["other"]
    both = report(results, "--task", "other", "--task", "digits-lt", "--format", "json")
    assert len(json.loads(both.stdout)) == 2


@pytest.mark.parametrize("form", ["markdown", "csv"])
def test_plain_formats_are_not_wrapped(results, form):
    save(results, record("moe", 1, status="failed", reason="word " * 60))
    save(results, record("a-very-long-name-" * 8, 0, [metric("recall", "all", 0.5)]))
    lines = report(results, "--format", form).stdout.splitlines()
    assert any("a-very-long-name-" * 8 in each for each in lines)


def test_no_records_say_what_to_run(tmp_path):
    error = report(tmp_path).exception
    assert isinstance(error, UserError)
    assert "grasp-bench run --method" in str(error)


def test_a_task_without_records_names_those_that_have(results):
    error = report(results, "--task", "faces").exception
    assert isinstance(error, UserError)
    assert "'faces'" in str(error)
    assert "digits-lt, other" in str(error)


def test_metric_selects(results):
    shown = report(results, "--metric", "recall", "--format", "json").stdout
    assert [[table["name"] for table in board["metrics"]] for board in json.loads(shown)] == [["recall"]] * 2
    message = str(report(results, "--metric", "recal").exception)
    assert "--metric recal: no run has it. Did you mean 'recall'? There are: recall." in message
