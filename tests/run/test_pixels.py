"""Real images are decoded once for classifiers, at their resolution, and read from there in every epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.datasets import write_image
from helpers.runs import Listener, options

from grasp_bench.contracts.task import ClassifierRecipe
from grasp_bench.data.cache import PixelReader
from grasp_bench.run.pipeline import Pipeline, stage_keys
from grasp_bench.run.plan import Plan, plan
from grasp_bench.run.stages import pixels
from grasp_bench.tasks.folder import FolderTask


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A folder task of two classes."""
    rng = np.random.default_rng(0)
    for label in ("finch", "wren"):
        for number in range(12):
            write_image(tmp_path / "images" / label / f"{number}.png", 20, rng)
    path = tmp_path / "birds.toml"
    path.write_text('extractor = "pixels"\nbackbone = "tiny-sd3"\nhead_above = 5\ntail_below = 3\n')
    return path


def chosen(task: Path, monkeypatch: pytest.MonkeyPatch, resolution: int | None) -> Plan:
    recipe = ClassifierRecipe(epochs=2, batch_size=8, learning_rate=1e-3, resolution=resolution)
    monkeypatch.setattr(FolderTask, "classifier", recipe)
    return plan(method="lora", task=str(task), budget="smoke")


def started(task: Path, monkeypatch: pytest.MonkeyPatch, resolution: int | None) -> Pipeline:
    run = chosen(task, monkeypatch, resolution)
    return Pipeline(run, options(task.parent), torch.device("cpu"), Listener())


@pytest.mark.parametrize("resolution", [None, 12])
def test_files_are_decoded_once_and_never_by_a_classifier(task, monkeypatch, resolution) -> None:
    run = started(task, monkeypatch, resolution)
    expected = {name: pixels.resized(split.all_images(), resolution or 8) for name, split in splits(run).items()}
    folder = run.folder("pixels")
    monkeypatch.setattr(PixelReader, "read", lambda *given: pytest.fail("a file was read again"))
    data = pixels.cached(run.data, folder)
    for name, split in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        np.testing.assert_array_equal(split.all_images(), expected[name])
        rows = np.array([1, 0, 1])
        np.testing.assert_array_equal(split.read(rows), expected[name][rows])
    assert (run.folder("classify-real") / "probabilities.safetensors").exists()


def splits(run: Pipeline) -> dict:
    return {"train": run.data.train, "validation": run.data.validation, "test": run.data.test}


def test_classifiers_at_the_images_own_size_are_those_of_before(task, monkeypatch) -> None:
    cached = (started(task, monkeypatch, None).folder("classify-real") / "probabilities.safetensors").read_bytes()
    monkeypatch.setattr(FolderTask, "reads_files", False)
    run = started(task, monkeypatch, None)
    assert not run.has("pixels")
    assert (run.folder("classify-real") / "probabilities.safetensors").read_bytes() == cached


def test_an_interrupted_stage_goes_on_with_the_shards_that_it_has(task, monkeypatch) -> None:
    monkeypatch.setattr(pixels, "SHARD_BYTES", 4 * 12 * 12 * 1)
    run, whole = started(task, monkeypatch, 12), pixels.resized
    calls = []

    def failing(images: np.ndarray, side: int) -> np.ndarray:
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(images, side)

    monkeypatch.setattr(pixels, "resized", failing)
    with pytest.raises(KeyboardInterrupt):
        run.folder("pixels")
    again = started(task, monkeypatch, 12)
    again.folder("pixels")
    everything = sum(-(-len(split) // 4) for split in splits(again).values())
    assert len(calls) == everything + 1  # the one that was interrupted
    np.testing.assert_array_equal(
        pixels.cached(again.data, again.folder("pixels")).train.all_images(), whole(again.data.train.all_images(), 12)
    )


def test_real_and_generated_images_are_resized_alike(task, monkeypatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 20, 20), np.uint8)
    split = replace(started(task, monkeypatch, 12).data.train, read=lambda indices: images[indices])
    np.testing.assert_array_equal(pixels.at_side(split, 12).read(np.arange(3)), pixels.resized(images, 12))
    assert pixels.resized(images, 20) is images
    assert abs(pixels.resized(images, 10).mean() - images.mean()) < 2


def test_the_stage_is_shared_by_all_seeds_and_methods_and_not_by_resolutions(task, monkeypatch) -> None:
    one = stage_keys(chosen(task, monkeypatch, 12))
    other = stage_keys(plan(method="grasp", task=str(task), budget="smoke", seed=7))
    assert one["pixels"] == other["pixels"]
    assert one["classify-generated"] != other["classify-generated"]
    assert one["pixels"] != stage_keys(chosen(task, monkeypatch, 16))["pixels"]
    assert "pixels" not in stage_keys(plan(method="lora", task="digits-lt"))
