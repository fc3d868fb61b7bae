import csv
import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from helpers.records import metric, record, save, separated
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.errors import UserError

HEAVY = ("torch", "diffusers", "transformers", "peft", "sklearn", "matplotlib")


@pytest.fixture
def results(tmp_path):
    for task in ("digits-lt", "other"):
        save(tmp_path, *(record(m, 0, [metric("recall", "all", 0.5)], task=task) for m in ("grasp", "lora")))
    save(tmp_path, record("moe", 0, status="failed", reason="the disk is full"))
    return tmp_path


def report(results, *arguments):
    words = ["report", "--results", str(results), *map(str, arguments)]
    return CliRunner().invoke(app, words, env={"COLUMNS": "100"})


def boards(results, *arguments):
    return json.loads(report(results, "--format", "json", *arguments).stdout)["leaderboards"]


def mistake(results, *arguments) -> str:
    error = report(results, *arguments).exception
    assert isinstance(error, UserError)
    return str(error)


def test_table_is_the_default(results):
    shown = report(results)
    assert shown.exit_code == 0
    assert "recall ↑" in shown.stdout
    assert "the disk is full" in shown.stdout
    assert "\x1b" not in shown.stdout  # no terminal
    assert report(results).stdout == shown.stdout  # from the index


def test_task_selects(results):
    assert [board["task"] for board in boards(results, "--task", "other")] == ["other"]
    assert len(boards(results, "--task", "other", "--task", "digits-lt")) == 2


def test_method_guidance_and_status_select(results):
    rows = [[row["label"] for row in board["costs"]] for board in boards(results, "--method", "lora")]
    assert rows == [["lora"], ["lora"]]
    assert [len(board["costs"]) for board in boards(results, "--guidance", "cfg")] == [2, 2]
    (failed,) = boards(results, "--status", "failed")
    assert (failed["costs"], [each["label"] for each in failed["problems"]]) == ([], ["moe"])


@pytest.mark.parametrize("form", ["markdown", "csv", "latex"])
def test_plain_formats_are_not_wrapped(results, form):
    save(results, record("moe", 1, status="failed", reason="word " * 60))
    save(results, record("a-very-long-name-" * 8, 0, [metric("recall", "all", 0.5)]))
    lines = report(results, "--format", form).stdout.splitlines()
    assert any("a-very-long-name-" * 8 in each for each in lines)


def test_no_records_say_what_to_run(tmp_path):
    assert "grasp-bench run --method" in mistake(tmp_path)


def test_a_task_without_records_names_those_that_have(results):
    message = mistake(results, "--task", "faces")
    assert "'faces'" in message
    assert "digits-lt, other" in message


def test_metric_selects(results):
    found = boards(results, "--metric", "recall")
    assert [{cell["metric"] for cell in board["cells"]} for board in found] == [{"recall"}] * 2
    assert "--metric recal: no run has it. Did you mean 'recall'? There are: recall." in mistake(
        results, "--metric", "recal"
    )


def test_sort_baseline_and_test_reach_the_tables(tmp_path):
    save(tmp_path, *separated(4))
    shown = report(tmp_path, "--sort", "recall:tail", "--baseline", "last", "--test", "t").stdout
    assert "sorted by recall, tail: highest first" in shown
    assert "difference to last" in shown
    assert "paired t test" in shown


def test_out_writes_a_file_of_any_format(results, tmp_path):
    out = tmp_path / "report.parquet"
    shown = report(results, "--format", "parquet", "--out", out)
    assert shown.stdout == f"{out}\n"
    assert pq.read_table(out)["method"].to_pylist() == ["grasp", "lora", "moe", "grasp", "lora"]
    report(results, "--format", "csv", "--out", tmp_path / "report.csv")
    assert len(list(csv.reader((tmp_path / "report.csv").open()))) == 6
    report(results, "--out", tmp_path / "report.txt")
    assert (tmp_path / "report.txt").read_text() == f"# grasp-bench report\n\n{report(results).stdout}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "parquet"), "--format parquet is no text to print"),
        (("--check",), "--check needs --update"),
        (("--update", "a.md", "--html", "b"), "--html and --update exclude each other"),
        (("--only-missing", "--out", "x"), "--only-missing and --out exclude each other"),
        (("--html", "b", "--format", "csv"), "--html and --format exclude each other"),
        (("--update", "a.md", "--metric", "fd"), "--update takes the options of each table from its marker"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_do_not_go_together(results, arguments, message):
    assert message in mistake(results, *arguments)


def test_only_missing_prints_commands(results):
    save(results, record("grasp", 1, [metric("recall", "all", 0.5)]))
    lines = report(results, "--only-missing", "--task", "digits-lt").stdout.splitlines()
    assert lines[0] == "# 2 of 6 runs are missing"
    assert lines[2].startswith("grasp-bench run --method lora --task digits-lt --seed 1 --guidance cfg --results ")


def test_update_and_check(results, tmp_path):
    document = tmp_path / "doc.md"
    document.write_text("# A\n<!-- grasp-bench report --task other -->\n<!-- end -->\nend\n")
    stale = document.read_bytes()
    checked = report(results, "--update", document, "--check")
    assert checked.exit_code == 1
    assert "out of date; `grasp-bench report --update" in checked.stdout
    assert document.read_bytes() == stale
    assert report(results, "--update", document).exit_code == 0
    text = document.read_text()
    assert text.startswith("# A\n<!-- grasp-bench report --task other -->\n\n### other · version 1")
    assert text.endswith("(by their hash).\n\n<!-- end -->\nend\n")
    assert report(results, "--update", document, "--check").exit_code == 0
    save(results, record("dora", 0, [metric("recall", "all", 0.7)], task="other"))
    assert report(results, "--update", document, "--check").exit_code == 1


def test_an_unknown_option_in_a_marker_names_its_line(results, tmp_path):
    (tmp_path / "doc.md").write_text("\n\n<!-- grasp-bench report --tasks other -->\n<!-- end -->\n")
    message = mistake(results, "--update", tmp_path / "doc.md")
    assert "doc.md, line 3: '--tasks' is no option that can stand here. Did you mean '--task'?" in message


def test_html_is_of_the_filtered_runs(results, tmp_path, monkeypatch):
    from grasp_bench.results import site

    seen = []

    def write_site(runs, folder, baseline=None, *, single_file):
        seen.append(([run.record.label for run in runs], baseline))
        return folder / "index.html"

    monkeypatch.setattr(site, "write_site", write_site)
    shown = report(results, "--html", tmp_path / "site", "--task", "other", "--baseline", "lora")
    assert seen == [(["grasp", "lora"], "lora")]
    assert shown.stdout == f"{tmp_path / 'site' / 'index.html'}\n"


@pytest.mark.parametrize(
    "arguments", [(), ("--format", "parquet", "--out", "report.parquet")], ids=["table", "parquet"]
)
def test_nothing_heavy_is_imported(results, arguments, tmp_path):
    command = ["grasp-bench", "report", "--results", str(results), *arguments]
    code = (
        f"import sys; from grasp_bench.cli import main; sys.argv = {command!r}\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not found, found"
    )
    for _ in range(2):  # from the records, from the index
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, cwd=tmp_path)
