"""On tiny backbones torch takes one thread, whichever command computes, and then as many as before."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import runs
from helpers.entries import random_images
from helpers.tiny_unet import save_unet

import grasp_bench
from grasp_bench import cli, plugins
from grasp_bench.contracts.entry import Facts
from grasp_bench.errors import UserError
from grasp_bench.export.entry import entry_of_export
from grasp_bench.export.manifest import Manifest
from grasp_bench.export.pipeline import FineTunedPipeline
from grasp_bench.processes import launch
from grasp_bench.run.entry.evaluate import Table
from grasp_bench.run.store import Store
from grasp_bench.run.threads import threads_of, threads_taken

MANY = 3
"""Threads that the user's own program takes."""
SMOKE = ("--task", "digits-lt", "--budget", "smoke")
COMMANDS = {
    "run": ["run", "lora", "digits-lt", "--budget", "smoke", "--device", "cpu"],
    "tune": ["tune", "--method", "lora", *SMOKE, "--trials", "1", "--device", "cpu"],
    "evaluate": ["evaluate", *SMOKE, "--images", "png", "--name", "mine", "--device", "cpu"],
    "diagnose": ["diagnose", *SMOKE, "--device", "cpu"],
    "score": ["score", "--task", "digits-lt", "png"],
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Torch's threads while the first stage of a command is built, which then fails; nothing else is computed."""
    found: list[int] = []

    def run(self: Store, *_: object, **__: object) -> Path:
        found.append(torch.get_num_threads())
        raise UserError("far enough")

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(Store, "run", run)
    monkeypatch.chdir(tmp_path)
    random_images(tmp_path / "png", 8)
    before = torch.get_num_threads()
    torch.set_num_threads(MANY)
    yield found
    torch.set_num_threads(before)


def call(words: list[str], patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    patch.setattr("sys.argv", ["grasp-bench", *words])
    with pytest.raises(SystemExit):
        cli.main()
    assert "far enough" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_computes_takes_one_thread(
    command: str, seen: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(COMMANDS[command], monkeypatch, capsys)
    assert seen == [1]
    assert torch.get_num_threads() == MANY
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # which torch has read when it was imported
    call(COMMANDS[command], monkeypatch, capsys)
    assert seen == [1, MANY]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_computes_takes_the_threads_that_are_asked_for(
    command: str, seen: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call([*COMMANDS[command], "--threads", "2"], monkeypatch, capsys)
    assert (seen, torch.get_num_threads()) == ([2], MANY)


def test_features_are_extracted_with_the_threads_that_are_asked_for(
    seen: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def extract(*_: object) -> None:
        seen.append(torch.get_num_threads())
        raise UserError("far enough")

    monkeypatch.setattr("grasp_bench.cli.score_input.cached_features", extract)
    words = ["score", "png", "png", "--extractor", "pixels", "--metrics", "kid"]
    call([*words, "--threads", "2"], monkeypatch, capsys)
    call(words, monkeypatch, capsys)
    assert (seen, torch.get_num_threads()) == ([2, MANY], MANY)


def test_samples_are_made_with_the_threads_that_are_asked_for(
    seen: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = SimpleNamespace(
        backbone=SimpleNamespace(threads=1),
        manifest=SimpleNamespace(
            classes=[SimpleNamespace(name="a", prompt="a", group="tail", train_count=1)],
            spec=SimpleNamespace(seed=0, task=SimpleNamespace(name="digits-lt"), budget=None),
        ),
        class_index=lambda *_: 0,
        sampler=lambda *_: SimpleNamespace(guidance=SimpleNamespace(steps=lambda budget: 1)),
    )

    def stop(*_: object) -> None:
        seen.append(torch.get_num_threads())
        raise UserError("far enough")

    images.images = stop
    images.sample = partial(FineTunedPipeline.sample, images)
    monkeypatch.setattr("grasp_bench.cli.sample._pipeline", lambda *_: images)
    words = ["sample", "run", "--out", "a.png"]
    call(words, monkeypatch, capsys)
    call([*words, "--threads", "2"], monkeypatch, capsys)
    assert (seen, torch.get_num_threads()) == ([1, 2], MANY)


def test_a_pipeline_takes_torchs_own_number_and_an_exported_run_that_of_its_backbone(
    seen: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save_unet(tmp_path / "unet", tmp_path / "scratch")
    pipeline = ["evaluate", *SMOKE, "--pipeline", "unet", "--name", "mine", "--device", "cpu"]
    call(pipeline, monkeypatch, capsys)
    assert seen == [MANY]
    made = runs.small()
    for family, expected in (("tiny-sd3", 1), ("sd3", None)):
        spec = made.spec.model_copy(update={"backbone": made.spec.backbone.model_copy(update={"name": family})})
        words = dict.fromkeys(("grasp_bench", "run_id", "label", "task_label", "weights"), "")
        manifest = Manifest(**words, spec=spec, classes=[], artifacts={}, private=False)
        monkeypatch.setattr("grasp_bench.export.entry.read_manifest", lambda folder, manifest=manifest: manifest)
        entry = entry_of_export("mine", tmp_path, None, None, None, Facts())
        assert Table("digits-lt", budget="smoke").plan(entry).threads == expected


def test_so_does_python_and_the_users_program_has_its_threads_afterwards(seen: list[int]) -> None:
    told = {"task": "digits-lt", "budget": "smoke", "device": "cpu", "quiet": True}
    for threads in (None, 2):
        with pytest.raises(UserError, match="far enough"):
            grasp_bench.run("lora", threads=threads, **told)
        with pytest.raises(UserError, match="far enough"):
            grasp_bench.evaluate("png", name="mine", threads=threads, **told)
        assert torch.get_num_threads() == MANY
    assert seen == [1, 1, 2, 2]
    for call_of in (partial(grasp_bench.run, "lora"), partial(grasp_bench.evaluate, "png", name="mine")):
        with pytest.raises(UserError, match="threads 0: expected at least 1"):
            call_of(threads=0, **told)


def test_the_environment_of_a_record_is_that_of_the_run(seen: list[int], tmp_path: Path) -> None:
    from grasp_bench.contracts.record import read_record

    with pytest.raises(UserError):
        runs.finish(tmp_path, runs.small("lora"))
    (path,) = (tmp_path / "results").rglob("record.json")
    assert read_record(path).environment.threads == 1


def test_threads_are_those_asked_for_or_of_the_environment_or_usual_for_the_backbone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = plugins.load("backbones", "tiny-sd3").threads
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_of(None, usual), threads_of(3, usual), threads_of(None, None)] == [1, 3, None]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert [threads_of(None, usual), threads_of(3, usual)] == [None, 3]


def test_threads_are_as_before_when_what_is_computed_fails(seen: list[int]) -> None:
    def attempt() -> None:
        with threads_taken(2, 1):
            assert torch.get_num_threads() == 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        attempt()
    assert torch.get_num_threads() == MANY


@pytest.mark.parametrize(("usual", "expected"), [(1, "1"), (None, "4"), (100, "4")])
def test_several_processes_take_no_more_threads_each_than_are_usual(
    usual: int | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "to be restored")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", lambda *_: lambda *_: None)
    assert launch(2, [], usual) == 0
    assert os.environ["OMP_NUM_THREADS"] == expected
