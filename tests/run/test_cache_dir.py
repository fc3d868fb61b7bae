"""Caches may lie on another disk than checkpoints, and vanish from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.datasets import write_image
from helpers.runs import Listener, options, small
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.contracts.task import ClassifierRecipe
from grasp_bench.data.cache import Cache
from grasp_bench.errors import UserError
from grasp_bench.run.pipeline import STAGES, Pipeline
from grasp_bench.run.plan import plan
from grasp_bench.run.runner import check
from grasp_bench.tasks.folder import FolderTask

SHAPE = (1, 8, 8)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    for label in ("finch", "wren"):
        for number in range(12):
            write_image(tmp_path / "images" / label / f"{number}.png", 20, rng)
    path = tmp_path / "birds.toml"
    path.write_text('extractor = "pixels"\nbackbone = "tiny-sd3"\nhead_above = 5\ntail_below = 3\n')
    monkeypatch.setattr(FolderTask, "classifier", ClassifierRecipe(epochs=1, batch_size=8, learning_rate=1e-3))
    return path


def started(task: Path, cache_dir: Path | None) -> Pipeline:
    chosen = plan(method="lora", task=str(task), budget="smoke")
    return Pipeline(chosen, options(task.parent, cache_dir=cache_dir), torch.device("cpu"), Listener())


def test_caches_lie_apart_and_what_was_made_from_them_outlasts_them(task: Path, tmp_path: Path) -> None:
    caches, work = tmp_path / "node", tmp_path / "work"
    made = started(task, caches).folder("classify-real")
    assert made.is_relative_to(work)
    assert [path.name for path in caches.iterdir()] == ["pixels"]
    assert not (work / "pixels").exists()
    expected = (made / "probabilities.safetensors").read_bytes()

    shutil.rmtree(caches)
    assert started(task, caches).folder("classify-real") == made
    assert not caches.exists()  # nothing needs them
    shutil.rmtree(made)
    assert (started(task, caches).folder("classify-real") / "probabilities.safetensors").read_bytes() == expected
    assert (caches / "pixels").exists()


def test_what_is_read_in_every_step_is_a_cache_and_no_checkpoint_is() -> None:
    assert {name for name, stage in STAGES.items() if stage.cache} == {"latents", "prompts", "pixels"}


def prepared(task: Path, work: Path, *more: object) -> Path:
    words = ["prepare", "--task", task, "--work-dir", work, "--cache", "tiny-sd3", *more]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, (result.exception, result.output)
    (folder,) = (work / "prepare").glob("*/manifest.parquet")
    return folder.parent


def test_resized_images_of_prepare_may_lie_apart_and_are_read_from_files_where_they_do_not(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches, opened = tmp_path / "node", []
    folder = prepared(task, tmp_path / "work", "--cache-dir", caches)
    assert (folder / "cache-1x8x8").is_symlink()
    assert (folder / "cache-1x8x8").resolve().is_relative_to(caches)
    real = Cache.open
    monkeypatch.setattr(Cache, "open", lambda path: (opened.append(path), real(path))[1])

    def images() -> np.ndarray:
        return started(task, caches).data.train.all_images()

    expected = images()
    assert len(opened) == 1
    shutil.rmtree(caches)
    np.testing.assert_array_equal(images(), expected)
    assert len(opened) == 1
    prepared(task, tmp_path / "work", "--cache-dir", caches)  # on the next node
    np.testing.assert_array_equal(images(), expected)
    assert len(opened) > 1


def test_one_machines_disk_is_refused_where_several_machines_share_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    check(small(), options(tmp_path, cache_dir=tmp_path / "node"), 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    check(small(), options(tmp_path), 4)
    with pytest.raises(UserError, match=r"--cache-dir .*node: processes on 2 machines share the caches of a run"):
        check(small(), options(tmp_path, cache_dir=tmp_path / "node"), 4)
