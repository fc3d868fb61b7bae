"""`grasp-bench tune`, and `grasp-bench run --tuned` with what it found."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from grasp_bench.baselines.lora import Lora
from grasp_bench.cli.report import report_runs
from grasp_bench.cli.run import run
from grasp_bench.cli.tune import tune
from grasp_bench.errors import NonFiniteError, Skip, UserError
from grasp_bench.run.pipeline import Pipeline, stage_keys
from grasp_bench.tuning.objective import Target

SMOKE = ("--task", "digits-lt", "--budget", "smoke", "--device", "cpu")
FOLDER = Path("results/digits-lt~budget=smoke")

Call = Callable[..., Result]


@pytest.fixture
def grasp_bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quick: None) -> Call:
    """Call a command in an empty folder, where learning rates score their distance from 0.0003 in place of training."""
    app = typer.Typer()
    app.command("tune")(tune)
    app.command("run")(run)
    app.command("report")(report_runs)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def distance(self: Target, pipeline: Pipeline) -> float:
        scale = getattr(pipeline.plan.guidance.config, "guidance_scale", 1.2)
        return float(abs(np.log10(pipeline.plan.method.config.learning_rate) + 3.5) + abs(scale - 1.2))

    monkeypatch.setattr(Target, "distance", distance)
    return lambda *arguments: CliRunner().invoke(app, arguments)


@pytest.mark.slow
def test_methods_get_as_many_trials_and_runs_use_the_best(grasp_bench: Call) -> None:
    found = grasp_bench("tune", "--method", "grasp", "--method", "lora", *SMOKE, "--trials", "4")
    assert found.exit_code == 0, found.output
    files = {name: json.loads((FOLDER / f"tuning/{name}.json").read_text()) for name in ("grasp", "lora")}
    tried = {name: [trial["settings"]["learning_rate"] for trial in file["trials"]] for name, file in files.items()}
    assert (tried["grasp"][0], tried["lora"][0]) == (0.03, 0.001)
    assert tried["grasp"][1:] == tried["lora"][1:]
    assert len(tried["grasp"]) == 4
    assert found.output.count("Its numbers mean nothing") == 1
    best = files["grasp"]["best"]
    assert best > 0
    assert str(tried["grasp"][best]) in found.stdout

    found = grasp_bench("run", "--method", "grasp", *SMOKE, "--tuned")
    assert found.exit_code == 0, found.output
    record = json.loads((FOLDER / "grasp+cfg~guidance_scale=1.2~tuned=4/seed-0/record.json").read_text())
    settings = {"learning_rate": tried["grasp"][best]}
    assert record["tuned"] == {"trials": 4, "best": best, "settings": settings, "sampler": "halton", "scale": 1.2}
    assert record["spec"]["guidance"]["settings"] == {"guidance_scale": 1.2}
    assert record["spec"]["method"]["settings"]["learning_rate"] == tried["grasp"][best]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = grasp_bench("report", "--format", "markdown").stdout
    assert "Settings of every method were chosen by a search of 4 trials." in shown


def test_a_run_that_is_to_be_tuned_before_it_was_searched_leaves_nothing_behind(
    grasp_bench: Call, tmp_path: Path
) -> None:
    found = grasp_bench("run", "--method", "grasp", *SMOKE, "--tuned")
    assert isinstance(found.exception, UserError)
    assert "grasp-bench tune --method grasp --task digits-lt" in str(found.exception)
    assert not list(tmp_path.iterdir())


def test_mistakes_are_told_before_anything_is_searched(grasp_bench: Call, tmp_path: Path) -> None:
    found = grasp_bench("tune", "--method", "grasp", "--method", "gras", *SMOKE)
    assert isinstance(found.exception, UserError)
    assert "Did you mean 'grasp'?" in str(found.exception)
    assert grasp_bench("tune", "--method", "grasp", *SMOKE, "--trials", "0").exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_estimator_is_named_in_the_file_and_the_row(grasp_bench: Call) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    found = grasp_bench("tune", "--method", "grasp", *SMOKE, "--trials", "12", "--search", "tpe")
    assert found.exit_code == 0, found.output
    file = json.loads((FOLDER / "tuning/grasp.json").read_text())
    assert (file["search"]["sampler"], len(file["trials"])) == ("tpe", 12)
    assert grasp_bench("run", "--method", "grasp", *SMOKE, "--tuned").exit_code == 0
    record = json.loads((FOLDER / "grasp+cfg~guidance_scale=1.2~tuned=12-tpe/seed-0/record.json").read_text())
    assert record["tuned"]["sampler"] == "tpe"


def test_an_estimator_that_is_not_installed_is_missed_before_anything_is_made(
    grasp_bench: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    found = grasp_bench("tune", "--method", "grasp", *SMOKE, "--search", "tpe")
    assert isinstance(found.exception, UserError)
    assert "pip install 'grasp-bench[optuna]'" in str(found.exception)
    assert not list(tmp_path.iterdir())


def test_a_search_shared_by_processes_is_refused(grasp_bench: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = grasp_bench("tune", "--method", "grasp", *SMOKE)
    assert isinstance(found.exception, UserError)
    assert "a launcher has started 2 processes" in str(found.exception)


def test_a_search_without_any_score_fails(grasp_bench: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverged(self: Target, pipeline: Pipeline) -> float:
        raise NonFiniteError("the loss is nan")

    monkeypatch.setattr(Target, "distance", diverged)
    found = grasp_bench("tune", "--method", "grasp", *SMOKE, "--trials", "2")
    assert found.exit_code == 1
    assert "none" in found.stdout
    assert "non-finite: the loss is nan" in found.stderr


def test_a_method_that_does_not_apply_is_named_and_stops_no_other(
    grasp_bench: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lora, "supports", lambda self, backbone, task: Skip("no attention here"))
    found = grasp_bench("tune", "--method", "lora", "--method", "grasp", *SMOKE, "--trials", "1")
    assert found.exit_code == 0, found.output
    assert "lora: skipped: no attention here" in found.stdout
    assert [path.name for path in (FOLDER / "tuning").iterdir()] == ["grasp.json"]


def test_a_guidance_is_searched_on_the_tuned_method_which_is_trained_once(
    grasp_bench: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = ("tune", "--method", "grasp", "--guidance", "cfg++", "--guidance", "apg", *SMOKE, "--trials", "3")
    assert "grasp-bench tune --method grasp --task digits-lt" in str(grasp_bench(*search).exception)
    assert grasp_bench("tune", "--method", "grasp", *SMOKE, "--trials", "2").exit_code == 0

    seen = []

    def distance(self: Target, pipeline: Pipeline) -> float:
        plan = pipeline.plan
        seen.append((stage_keys(plan)["train"], plan.method.config.learning_rate, plan.guidance.config))
        return float(abs(plan.guidance.config.guidance_scale - 0.5))

    monkeypatch.setattr(Target, "distance", distance)
    found = grasp_bench(*search)
    assert found.exit_code == 0, found.output
    chosen = json.loads((FOLDER / "tuning/grasp.json").read_text())
    rate = chosen["trials"][chosen["best"]]["settings"]["learning_rate"]
    assert len({(training, rate) for training, rate, _ in seen}) == 3  # one for each seed
    assert seen[0][1] == rate
    files = {name: json.loads((FOLDER / f"tuning/guidance/grasp/{name}.json").read_text()) for name in ("cfg++", "apg")}
    assert [set(file["trials"][0]["settings"]) for file in files.values()] == [
        {"guidance_scale"},
        {"guidance_scale", "norm_threshold"},
    ]
    tried = [trial["settings"]["guidance_scale"] for trial in files["cfg++"]["trials"]]
    assert tried == [config.guidance_scale for _, _, config in seen[:3]]
    assert len(set(tried)) == 3
    best = files["cfg++"]["trials"][files["cfg++"]["best"]]["settings"]["guidance_scale"]
    assert abs(best - 0.5) == min(abs(each - 0.5) for each in tried)
    assert f"guidance_scale={best}" in found.stdout.replace("\n", "")

    assert grasp_bench(*search).exit_code == 0
    assert len(seen) == 2 * (3 + 2 * 2)  # nothing is rerun


def test_a_guidance_without_a_range_and_scales_that_are_none_are_refused(grasp_bench: Call) -> None:
    refused = grasp_bench("tune", "--method", "grasp", "--guidance", "none", *SMOKE)
    assert "--guidance none: it declares no range" in str(refused.exception)
    refused = grasp_bench("tune", "--method", "grasp", *SMOKE, "--guidance", "cfg", "--scales", "1")
    assert "--scales: they are sampled in the search of a method" in str(refused.exception)
    for scales in ("", "1,two", "-1"):
        refused = grasp_bench("tune", "--method", "grasp", *SMOKE, "--scales", scales)
        assert "expected numbers from 0 to 100" in str(refused.exception)
