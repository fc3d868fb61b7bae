"""A metric of somebody else's package: one file and one entry point bring it everywhere, and part nothing."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from docs.facts import metrics
from helpers import runs
from typer.testing import CliRunner

from grasp_bench import plugins
from grasp_bench.cli import app
from grasp_bench.contracts.record import RunRecord, read_record
from grasp_bench.export.restore import plan_of
from grasp_bench.metrics.registry import (
    FIRST,
    beyond_the_first,
    classifier_metrics,
    feature_metrics,
    installed_versions,
)
from grasp_bench.run.pipeline import protocol, stage_inputs, stage_keys
from grasp_bench.run.plan import plan_of_spec
from grasp_bench.testing import metric_checks, run_checks

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tests" / "third_party" / "cmmd.py"


def forget() -> None:
    for cached in (plugins._claims, plugins._check):
        cached.cache_clear()


def install(site: Path) -> None:
    """What ``pip install`` of the package leaves behind."""
    information = site / "cmmd-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: cmmd\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[grasp_bench.metrics]\ncmmd = cmmd:Cmmd\n")
    shutil.copy(PACKAGE, site)
    sys.path.insert(0, str(site))
    forget()


def uninstall(site: Path) -> None:
    sys.path.remove(str(site))
    sys.modules.pop("cmmd", None)
    forget()


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[None]:
    install(tmp_path / "site")
    yield
    uninstall(tmp_path / "site")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run from before the package was installed and one from after, as long as it is installed."""
    folder = tmp_path_factory.mktemp("third-party")
    with runs.quick():
        runs.finish(folder, runs.small("lora"))
        shutil.copytree(folder / "results", folder / "before")
        install(folder / "site")
        try:
            runs.finish(folder, runs.small("vanilla-ft"))
            yield folder
        finally:
            uninstall(folder / "site")


def grasp_bench(*arguments: object) -> str:
    shown = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.exception
    return shown.output


def record(folder: Path, method: str) -> RunRecord:
    (path,) = (folder / "results").rglob(f"*{method}*/**/record.json")
    return read_record(path)


def test_the_formula_is_the_published_one(installed: None) -> None:
    from cmmd import cmmd

    x, y = (np.random.RandomState(seed).randn(20, 5) + seed for seed in range(2))
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (x, y)]

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return np.mean([[np.exp(-np.square(p - q).sum() / 200) for q in b] for p in a])

    expected = 1000 * (mean(units[0], units[0]) + mean(units[1], units[1]) - 2 * mean(*units))
    assert cmmd(x, y) == pytest.approx(expected, rel=1e-9)
    assert cmmd(x, x[::-1]) == pytest.approx(0, abs=1e-9)


def test_without_it_stages_say_nothing_of_metrics() -> None:
    assert {each.name for each in (*feature_metrics(), *classifier_metrics())} == FIRST
    assert beyond_the_first(installed_versions(), multilabel=False) == {}
    of_sets = {name: version for name, version in installed_versions().items() if name != "accuracy"}
    assert beyond_the_first(of_sets, multilabel=True) == {}
    assert beyond_the_first(of_sets, multilabel=False) == {"accuracy": "absent"}
    assert "metrics" not in stage_inputs(runs.small())["score"]


def test_with_it_scores_are_stale_and_nothing_else_is(installed: None) -> None:
    plan = runs.small()
    keys, versions = stage_keys(plan), protocol(plan)
    assert stage_inputs(plan)["score"]["metrics"] == {"cmmd": "1"}
    plugins._claims("metrics").pop("cmmd")
    assert {name for name, key in stage_keys(runs.small()).items() if key != keys[name]} == {"score"}
    assert protocol(runs.small()) == versions


def test_runs_of_before_are_still_shared_and_reproduced_as_they_were_scored(installed: None) -> None:
    (path,) = (ROOT / "results" / "digits-lt").glob("vanilla-ft+cfg~guidance_scale=1.2~tuned=16/seed-0/record.json")
    record = read_record(path)
    assert stage_keys(plan_of(record)) == record.stages
    assert stage_keys(plan_of_spec(record.spec)) != record.stages


def test_it_keeps_the_contract(installed: None) -> None:
    report = run_checks(metric_checks("cmmd"))
    assert [(each.name, each.found) for each in report.outcomes if each.status != "passed"] == []


def test_it_is_listed_and_shown(installed: None) -> None:
    assert "\ncmmd " in grasp_bench("list", "metrics")
    assert "Jayasumana" in grasp_bench("show", "cmmd")


def test_the_documentation_would_have_a_section_of_it(installed: None) -> None:
    assert "## cmmd\n\n**CMMD: maximum mean discrepancy" in metrics(["cmmd"])


@pytest.mark.slow
def test_score_has_it_as_the_run_has(folder: Path, tmp_path: Path) -> None:
    features = [next((folder / "work" / each).glob("*/features.safetensors")) for each in ("features-real", "features")]
    shown = grasp_bench("score", *features, "--metrics", "cmmd,fd", "--draws", 2, "--json", tmp_path / "out.json")
    assert "CMMD" in shown
    assert {row["metric"] for row in json.loads((tmp_path / "out.json").read_text())["rows"]} == {"cmmd", "fd"}


@pytest.mark.slow
def test_a_run_has_it_in_every_scope(folder: Path) -> None:
    found = [each for each in record(folder, "vanilla-ft").scores if each.metric == "cmmd"]
    assert {each.scope for each in found} == {"group", "class mean", "worst class"}
    assert {each.label for each in found} == {"CMMD(digits-cnn)"}
    (classes,) = (folder / "results").rglob("vanilla-ft*/**/classes.csv")
    assert "cmmd" in {row["metric"] for row in csv.DictReader(classes.open())}


@pytest.mark.slow
def test_old_runs_stay_in_the_leaderboard_and_the_page_explains_it(folder: Path, tmp_path: Path) -> None:
    for metric, methods in {"fd": {"lora", "vanilla-ft"}, "cmmd": {"vanilla-ft"}}.items():
        shown = grasp_bench("report", "--results", folder / "results", "--metric", metric)
        assert {name for name in ("lora", "vanilla-ft") if name in shown} >= methods
        assert shown.count("protocol") == 0  # one leaderboard
    grasp_bench("report", "--results", folder / "results", "--html", tmp_path / "page")
    page = "".join(path.read_text() for path in (tmp_path / "page").rglob("*.html"))
    assert "with a Gaussian kernel on directions" in page


@pytest.mark.slow
def test_an_old_run_is_rescored_without_training(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "before", tmp_path / "results")
    shutil.copytree(folder / "work", tmp_path / "work")
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "train").rglob("*") if path.is_file()}
    old = record(tmp_path, "lora")
    new = runs.finish(tmp_path, runs.small("lora"))
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert new.run_id == old.run_id
    assert new.weights == old.weights
    kept = [each for each in new.scores if each.metric != "cmmd"]
    assert kept == old.scores
    assert len(new.scores) > len(kept)
