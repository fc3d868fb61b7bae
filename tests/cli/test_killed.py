"""Commands that are killed at any write, or run several times at once, leave nothing that the next one trips over."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from helpers import runs
from helpers.datasets import write_image
from typer.testing import CliRunner

from grasp_bench import temporary
from grasp_bench.cli import app

context = multiprocessing.get_context("fork")


def call(*words: object) -> None:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, (result.exception, result.output)


def killed(at: int, below: Path, words: tuple[object, ...]) -> bool:
    """Whether a process was killed in place of its renaming of number ``at`` to a path below a folder."""

    def work() -> None:
        real, seen = Path.replace, iter(range(at + 1))

        def replace(self: Path, target: Path) -> Path:
            if Path(target).absolute().is_relative_to(below) and next(seen) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, target)

        Path.replace = replace  # type: ignore[method-assign,assignment]
        temporary._swept.clear()
        call(*words)

    process = context.Process(target=work)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.tmp"))


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("finch", "wren"):
        for number in range(12):
            write_image(tmp_path / "images" / label / f"{number}.png", 20, rng)
    path = tmp_path / "birds.toml"
    path.write_text('extractor = "pixels"\nbackbone = "tiny-sd3"\nhead_above = 5\ntail_below = 3\n')
    return path


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "stage.json"}


def test_prepare_again_that_is_killed_anywhere_leaves_a_folder_that_runs_go_on_with(
    birds: Path, tmp_path: Path
) -> None:
    words = ("prepare", "--task", birds, "--work-dir", tmp_path / "work")
    call(*words)
    (folder,) = (tmp_path / "work" / "prepare").glob("*/manifest.parquet")
    expected, count = contents(folder.parent), 0
    while killed(count, tmp_path / "work", (*words, "--again")):
        count += 1
        call(*words)  # as a run does
        assert contents(folder.parent) == expected
    assert count >= 3  # the manifest, its seal and the folder
    call(*words, "--again")
    assert contents(folder.parent) == expected
    assert not leftovers(tmp_path / "work")


@pytest.mark.parametrize("apart", [False, True])
def test_prepare_with_a_cache_may_run_several_times_at_once(apart: bool, birds: Path, tmp_path: Path) -> None:
    words = ("prepare", "--task", birds, "--work-dir", tmp_path / "work", "--cache", "tiny-sd3")
    words += ("--cache-dir", tmp_path / "node") if apart else ()
    processes = [context.Process(target=call, args=words) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    (cache,) = (tmp_path / "work" / "prepare").glob("*/cache-1x8x8")
    assert {path.suffix for path in cache.iterdir()} >= {".npy", ".json"}
    assert not leftovers(tmp_path)
    call(*words)


@pytest.mark.slow
def test_a_killed_export_and_diagnosis_leave_no_temporary_files_for_ever(tmp_path: Path) -> None:
    with runs.quick():
        runs.finish(tmp_path, runs.small("lora"))
    (record,) = (tmp_path / "results").rglob("record.json")
    work = ("--work-dir", tmp_path / "work")
    export = ("export", record.parent, *work, "--to", tmp_path / "models" / "mine")
    diagnose = ("diagnose", "--run", record.parent, *work, "--batches", 4, "--device", "cpu")
    for words, folder, numbers in (
        (export, tmp_path / "models", (0, 2)),
        ((*diagnose, "--results", tmp_path / "of"), tmp_path / "of", (0, 2)),  # the picture and the numbers
    ):
        for number in numbers:
            assert killed(number, folder, words)
        assert leftovers(folder)
        temporary._swept.clear()  # as in a process of its own
        call(*words)
        assert not leftovers(folder)
        assert [path for path in folder.rglob("*") if path.is_file()]
