"""The committed BENCHMARKS.md, its tables and its picture are what the committed results give."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from docs import second_task
from grasp_bench import plugins
from grasp_bench.cli import app

ROOT = Path(__file__).parents[2]
TABLES = "results/digits-lt/TABLES.md"
FOREST = "results/digits-lt/forest.svg"
NUMBERS = re.compile(r'aria-label="(difference: [^"]*)"|>([^<>]+)</text>')


@pytest.mark.parametrize(
    ("name", "results"),
    [
        ("BENCHMARKS.md", "results"),
        ("results/mnist-lt/TABLES.md", "results"),
        pytest.param(TABLES, "results", marks=pytest.mark.slow),
        pytest.param("results/archive/digits-lt/TABLES.md", "results/archive", marks=pytest.mark.slow),
    ],
)
def test_benchmarks_are_up_to_date(name: str, results: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    before = (ROOT / name).read_bytes()
    shown = CliRunner().invoke(app, ["report", "--update", name, "--check", "--results", results])
    assert shown.exit_code == 0, shown.output or shown.exception
    assert (ROOT / name).read_bytes() == before


def test_the_picture_is_up_to_date(tmp_path: Path):
    """By its numbers and words, since versions of vl-convert may draw the same otherwise."""
    out = tmp_path / "forest.svg"
    words = ["report", "--task", "digits-lt", "--baseline", "vanilla-ft", "--format", "svg", "--out", str(out)]
    shown = CliRunner().invoke(app, [*words, "--results", str(ROOT / "results")])
    assert shown.exit_code == 0, shown.output or shown.exception
    rows = next(each for each in (ROOT / "BENCHMARKS.md").read_text().split("\n\n") if each.startswith("| method |"))
    differences = [named for named, _ in NUMBERS.findall(out.read_text()) if named]
    assert len(differences) == len(rows.splitlines()) - 4, "all but the head of two lines, baseline and real reference"
    assert NUMBERS.findall(out.read_text()) == NUMBERS.findall((ROOT / FOREST).read_text()), "make tables draws it"


def test_what_is_counted_from_records_is_up_to_date():
    """In a process of its own, where ``docs`` is the package of tests."""
    command = [sys.executable, "-m", "docs.benchmarks", "--check"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "make tables writes it"


def test_benchmarks_are_short_and_every_finding_is_tagged_and_has_its_command():
    text = (ROOT / "BENCHMARKS.md").read_text()
    assert len(text.splitlines()) <= 150
    found = text[text.index("## Methods") : text.index("## What rules 1.0 said")]
    for block in re.split(r"\n\n", found):
        if block.startswith("- "):
            tagged = re.findall(r"^- (?!These|Paired|Counted)(.*)", block, re.MULTILINE)
            assert all(re.match(r"\*(stands( among these)?|suggestive|not shown)\*: ", each) for each in tagged), block
            assert "`grasp-bench " in block, block


def test_the_scope_names_every_task_without_a_run_and_every_sweep():
    text = (ROOT / "BENCHMARKS.md").read_text()
    scope = " ".join(text[text.index("## Scope") :].split())
    said = re.search(r"No run is here of (.*?), nor of", scope)
    assert said
    measured = {path.parts[-4].partition("~")[0] for path in ROOT.glob("results/**/record.json")}
    entries = plugins.entries("tasks").items()
    ours = {name for name, entry in entries if entry.dist and entry.dist.name == "grasp-bench"}
    assert {*re.findall(r"`([^`]+)`", said[1])} == ours - {*measured, "folder"}
    sweeps = {path.stem for path in ROOT.glob("results/*/sweeps/*.toml")}
    assert sweeps <= {*re.findall(r"`([^`]+)`", scope)}


def test_methods_have_on_mnist_lt_the_rate_with_the_lowest_distance_at_the_seed_of_the_choice(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(ROOT)
    tried = second_task.tried()
    asked = {(each.plan.spec.method.name, second_task.rate(each)) for each in second_task.cells("rates")}
    assert asked == {(method, rate) for method, scores in tried.items() for rate in scores}
    best = {method: min(scores, key=scores.__getitem__) for method, scores in tried.items()}
    assert best == {each.plan.spec.method.name: second_task.rate(each) for each in second_task.cells("methods")}
    assert all(min(tried[method]) < chosen < max(tried[method]) for method, chosen in best.items())
