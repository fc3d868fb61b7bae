"""Trainings that begin late, are left in disorder or cannot go on as asked."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from test_classifier import CPU, RECIPE, stripes, trained, weights

from grasp_bench import finite
from grasp_bench.checked import find_checked
from grasp_bench.contracts import progress
from grasp_bench.contracts.task import ClassifierRecipe
from grasp_bench.downstream import classifier
from grasp_bench.errors import NonFiniteError, UserError


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
    assert [len(labels) for _, _, labels, _ in epoch] == [11, 11, 11]
    seen = np.concatenate([labels.numpy() for _, _, labels, _ in epoch])
    assert np.bincount(seen).tolist() == [11, 11, 11]


def test_early_stopping_needs_validation_images(tmp_path: Path) -> None:
    none = replace(stripes([1]), ids=[], labels=np.zeros(0, np.int64))
    with pytest.raises(UserError, match="the task has none"):
        classifier.train(
            stripes([9] * 3), none, 3, replace(RECIPE, patience=2), ("t",), tmp_path, CPU, lambda count: None
        )


@pytest.mark.parametrize("late", [False, True], ids=["on the CPU", "as on a GPU"])
def test_a_loss_that_is_not_finite_is_named_and_nothing_that_it_spoiled_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Of batches of eight, the second of the second epoch; on a GPU the numbers of five steps are read together."""
    if late:
        monkeypatch.setitem(finite.AT_ONCE, "cpu", finite.OTHERWISE)
    seen, loss = [], classifier._loss

    def spoiled(*given: torch.Tensor) -> torch.Tensor:
        seen.append(loss(*given))
        return seen[-1] * (torch.nan if len(seen) == 5 else 1)

    monkeypatch.setattr(classifier, "_loss", spoiled)
    recipe, work = replace(RECIPE, batch_size=8), tmp_path / "work"
    with pytest.raises(NonFiniteError, match=r"the loss of the classifier t 7 is nan at step 4; .*: 0/") as caught:
        classifier.train(stripes([8] * 3), stripes([6] * 3, 9), 3, recipe, ("t", 7), work, CPU, lambda count: None)
    assert str(caught.value).count("0/") == 8
    assert len(seen) == (6 if late else 5)
    ((epoch, _),) = find_checked(work, classifier.KIND)
    assert epoch == 1
