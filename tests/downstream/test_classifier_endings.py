"""Trainings that begin late, are left in disorder or cannot go on as asked."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from test_classifier import CPU, RECIPE, stripes, trained, weights

from grasp_bench.checked import find_checked
from grasp_bench.contracts import progress
from grasp_bench.contracts.task import ClassifierRecipe
from grasp_bench.downstream import classifier
from grasp_bench.errors import UserError


def interrupted(folder: Path, images, recipe: ClassifierRecipe, epochs: int) -> Path:
    """The folder of a training that was stopped after some epochs."""
    done: list[int] = []

    def stop(count: int) -> None:
        done.append(count)
        if sum(done) == epochs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classifier.train(images, stripes([6] * 3, 9), 3, recipe, ("t",), folder / "work", CPU, stop)
    return folder / "work"


def test_a_kill_in_the_middle_of_a_write_is_survived(tmp_path: Path) -> None:
    images = stripes([30, 20, 10])
    expected = weights(trained(tmp_path / "a", images, RECIPE))
    left = interrupted(tmp_path / "b", images, RECIPE, 3)
    (left / ".epoch-00000004.0123456789abcdef.safetensors.1.tmp").write_bytes(b"half")
    assert weights(trained(tmp_path / "b", images, RECIPE)) == expected
    assert not left.exists()


def test_a_damaged_checkpoint_is_named_and_training_begins_again(tmp_path: Path) -> None:
    images = stripes([30, 20, 10])
    expected = weights(trained(tmp_path / "a", images, RECIPE))
    left = interrupted(tmp_path / "b", images, RECIPE, 3)
    ((_, path),) = find_checked(left, classifier.KIND)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    said: list[str] = []
    model = classifier.train(images, stripes([6] * 3, 9), 3, RECIPE, ("t",), left, CPU, lambda count: None, said.append)
    assert len(said) == 1
    assert str(path) in said[0]
    assert weights(model) == expected
    assert not left.exists()


def test_a_slow_start_is_reported_in_plain_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    console = Console(file=io.StringIO(), width=1000)
    with progress.Progress(console).task("classify", RECIPE.epochs) as advance:
        classifier.train(stripes([9] * 3), stripes([6] * 3, 9), 3, RECIPE, ("t",), tmp_path / "work", CPU, advance)
    assert f"classify: {RECIPE.epochs}/{RECIPE.epochs}" in console.file.getvalue()


def test_no_batch_of_an_epoch_is_a_single_image() -> None:
    images = stripes([11] * 3)
    epoch = list(classifier._epoch(images.read, images.labels, RECIPE, ("t", 0), CPU))
    assert [len(labels) for _, labels, _ in epoch] == [11, 11, 11]
    seen = np.concatenate([labels.numpy() for _, labels, _ in epoch])
    assert np.bincount(seen).tolist() == [11, 11, 11]


def test_early_stopping_needs_validation_images(tmp_path: Path) -> None:
    none = replace(stripes([1]), ids=[], labels=np.zeros(0, np.int64))
    with pytest.raises(UserError, match="the task has none"):
        classifier.train(
            stripes([9] * 3), none, 3, replace(RECIPE, patience=2), ("t",), tmp_path, CPU, lambda count: None
        )
