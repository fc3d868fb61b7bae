"""Whole runs on images of several labels: what is generated, what classifiers learn, and what is scored."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.task import ClassifierRecipe, Split
from grasp_bench.downstream import classifier
from grasp_bench.downstream.label_sets import label_probabilities
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan

from .shapes import NAMES, PLACES, SHARED, write_nih_mini, write_shapes

CPU = torch.device("cpu")


def shapes(n: int, seed: int) -> Split:
    random = np.random.default_rng(seed)
    sets = random.random((n, 3)) < (0.6, 0.4, 0.2)
    sets[~sets.any(axis=1), 0] = True
    images = random.integers(0, 90, (n, 1, 16, 16), np.uint8)
    for image, labels in zip(images, sets, strict=True):
        image[0][:, [place for place, has in zip(PLACES.values(), labels, strict=True) if has]] = 250
    ids = [f"{seed}/{row}" for row in range(n)]
    return Split(ids, sets.argmax(axis=1), ids, lambda rows: images[rows], sets=sets)


def test_a_classifier_learns_sets_and_decides_by_thresholds_of_validation(tmp_path: Path) -> None:
    recipe = ClassifierRecipe(20, 16, 3e-3, class_weights="balanced", patience=10)
    train, validation, test = shapes(120, 0), shapes(60, 1), shapes(60, 2)
    model = classifier.train(train, validation, 3, recipe, ("t",), tmp_path / "work", CPU, lambda count: None)
    found = label_probabilities(model, test, validation, recipe, CPU)
    assert found.dtype == np.float64
    assert ((found >= 0.5) == test.truth).mean() > 0.95


def test_weights_of_labels_are_those_without_over_those_with() -> None:
    recipe = ClassifierRecipe(1, 1, 1e-3, class_weights="balanced")
    sets = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]], bool)
    assert classifier._class_weights(sets, 3, recipe).tolist() == pytest.approx([1 / 3, 1, 1])


def test_real_images_are_topped_up_by_labels() -> None:
    real, made = shapes(30, 0), shapes(60, 1)
    made = Split(made.ids, np.repeat(np.arange(3), 20), made.prompts, made.read, sets=made.truth)
    mixed, counts = classifier.topped_up(real, made, 3), real.truth.sum(axis=0)
    added = np.minimum(counts.max() - counts, 20)
    assert len(mixed) == 30 + added.sum()
    assert np.array_equal(mixed.truth[:30], real.truth)
    rows = np.concatenate([np.arange(20 * index, 20 * index + count) for index, count in enumerate(added)])
    assert np.array_equal(mixed.truth[30:], made.truth[rows])


@pytest.mark.parametrize("how", ["focus", "natural"])
def test_generated_images_have_prompts_and_classes_of_drawn_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    from grasp_bench.run.stages import generate

    path = write_shapes(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = plan(method="vanilla-ft", task=str(path), task_settings=[f"label_sets={how}"], budget="smoke")
    context = Pipeline(found, Options(tmp_path / "results", tmp_path / "work", "cpu"), CPU, Progress())
    each, train = found.spec.budget.images_per_class, context.data.train
    assert context.drawn is not None
    subjects, labels = generate._sampled_with(context)
    assert subjects == [(train.prompts[row], train.labels[row]) for row in context.drawn]
    focus = np.repeat(np.arange(3), each)
    if how == "focus":
        assert labels.tolist() == focus.tolist()
        assert train.truth[context.drawn, focus].all()
        assert any(label != own for (_, label), own in zip(subjects, focus, strict=True))
    else:
        assert labels.tolist() == train.labels[context.drawn].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grasp", "pcgrad"])
def test_a_run_goes_to_scores_of_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    record, rows = run(write_shapes(tmp_path), monkeypatch, method)
    assert record["status"] == "finished"
    means = {each["metric"] for each in record["scores"] if each["source"] == "real" and each["group"] == "all"}
    assert means == {"f1", "auroc", "average_precision", "nonzero_f1"}
    assert {(row["class"], row["train_images"]) for row in rows} == {("bar", "18"), ("dot_big", "9"), ("ring", "6")}
    tested = {row["class"]: row["n"] for row in rows if row["metric"] == "auroc" and row["source"] == "real"}
    assert set(tested) == set(NAMES)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real X-rays of nih-mini are not here")
def test_real_chest_x_rays_with_all_of_their_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, rows = run(write_nih_mini(tmp_path), monkeypatch, "grasp")
    assert record["status"] == "finished"
    scores = {(each["metric"], each["group"], each["scope"], each["source"]): each for each in record["scores"]}
    assert scores["fd", "head", "group", "generated"]["value"] > scores["fd", "head", "group", "generated"]["reference"]
    real = scores["average_precision", "head", "group", "real"]
    assert real["interval"]["unit"] == "patient"
    assert 0 < real["interval"]["low"] < real["value"] < real["interval"]["high"] < 1
    together = {row["class"]: int(row["n"]) for row in rows if row["metric"] == "auroc" and row["source"] == "real"}
    assert sum(together.values()) > real["n"]


def run(path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> tuple[dict, list[dict[str, str]]]:
    """The record of a run under the smoke budget, and the rows of its classes."""
    monkeypatch.chdir(path.parent)
    found = CliRunner().invoke(app, ["run", "--method", method, "--task", str(path), "--budget", "smoke"])
    assert found.exit_code == 0, found.exception
    (record,) = Path("results").glob(f"*/{method}/seed-0/record.json")
    return json.loads(record.read_text()), list(csv.DictReader((record.parent / "classes.csv").open()))
