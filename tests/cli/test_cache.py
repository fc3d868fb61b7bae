"""What the work folder holds is listed and removed; what is worked on, and what is no stage, stays."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import write_image
from typer.testing import CliRunner, Result

from grasp_bench.cli import app
from grasp_bench.data.features import FeatureCache
from grasp_bench.errors import UserError
from grasp_bench.locks import held
from grasp_bench.run.store import Store

NAMES = ("latents", "train", "score")


def call(*words: object, answer: str = "") -> Result:
    return CliRunner().invoke(app, ["cache", *map(str, words), "--work-dir", "work"], input=answer)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished stage of every kind, an unfinished one, one set aside, and files that are no stages."""
    monkeypatch.chdir(tmp_path)
    work = tmp_path / "work"
    store = Store(work, lambda told: None)
    for name in NAMES:
        store.run(name, {"seed": 1}, lambda folder: (folder / "a.txt").write_bytes(b"x" * 2000) and None)
    for ending in (".partial", ".corrupt-1"):
        (work / "train" / f"{'0' * 20}{ending}").mkdir()
    (work / "features").mkdir()
    (work / "features" / "mine.txt").write_text("mine")
    return work


def folders() -> list[tuple[str, str]]:
    return [(each["kind"], each["state"]) for each in json.loads(call("list", "--json").stdout)]


def test_stages_are_listed_by_kind_with_sizes(work: Path) -> None:
    shown = call("list").stdout
    assert [line.split()[:3] for line in shown.splitlines()[2:6]] == [
        ["latents", "finished", "1"],
        ["score", "finished", "1"],
        ["train", "set", "aside"],
        ["train", "unfinished", "1"],
    ]
    assert "today" in shown
    assert "work: 5 folders, " in shown
    sizes = [each["bytes"] for each in json.loads(call("list", "--json").stdout) if each["kind"] == "score"]
    assert sizes == [sum(path.stat().st_size for path in next((work / "score").glob("*[0-9a-f]/")).iterdir())]
    assert call("list", "--work-dir", "nowhere").exit_code == 0


def test_what_is_chosen_is_removed(work: Path) -> None:
    assert call("clear", "--unfinished", "--yes").exit_code == 0
    assert folders() == [(name, "finished") for name in sorted(NAMES)]
    assert "nothing to remove" in call("clear", "--older-than", "1", "--yes").stdout
    (manifest,) = (work / "latents").rglob("stage.json")
    for path in (manifest, *manifest.parent.iterdir(), manifest.parent):
        os.utime(path, (0, 0))
    assert call("clear", "--older-than", "1", "--yes").exit_code == 0
    assert folders() == [("score", "finished"), ("train", "finished")]
    assert call("clear", "score", "--yes").exit_code == 0
    assert folders() == [("train", "finished")]
    assert (work / "features" / "mine.txt").read_text() == "mine"


def test_it_asks_first(work: Path) -> None:
    before = folders()
    assert call("clear", answer="n\n").exit_code == 1
    assert folders() == before
    assert call("clear", answer="y\n").exit_code == 0
    assert folders() == []


def test_a_stage_that_is_worked_on_is_kept(work: Path) -> None:
    (path,) = (work / "score").glob("*.lock")
    with held(path):
        shown = call("clear", "--yes")
    assert shown.exit_code == 1
    assert f"process {os.getpid()} is working on it" in shown.stdout
    assert folders() == [("score", "finished")]


def test_an_unknown_kind_is_refused(work: Path) -> None:
    shown = call("clear", "latent", "--yes")
    assert isinstance(shown.exception, UserError)
    assert "no stage or cache 'latent' there. Did you mean 'latents'?" in str(shown.exception)


@pytest.fixture
def caches(work: Path, made: Path) -> Path:
    """Another disk with stages that are caches, resized images, and features; features in the work folder, too."""
    caches = work.parent / "node"
    store = Store(caches, lambda told: None)
    for name in ("pixels", "prompts"):
        store.run(name, {"seed": 1}, lambda folder: (folder / "a.txt").write_bytes(b"x" * 2000) and None)
    for folder in (work / "features", caches):
        cache = FeatureCache(folder, {"extractor": "pixels"}, lambda told: None)
        cache.add({"0" * 64: np.zeros(3)})
    shutil.copytree(made, caches, dirs_exist_ok=True, symlinks=True)
    return caches


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Resized images that `prepare` keeps apart from the stage."""
    made = tmp_path / "made"
    for label in ("finch", "wren"):
        for number in range(12):
            write_image(tmp_path / "images" / label / f"{number}.png", 20, np.random.default_rng(number))
    (tmp_path / "birds.toml").write_text(
        'extractor = "pixels"\nbackbone = "tiny-sd3"\nhead_above = 5\ntail_below = 3\n'
    )
    words = ["prepare", "--task", tmp_path / "birds.toml", "--work-dir", tmp_path / "other", "--cache", "tiny-sd3"]
    done = CliRunner().invoke(app, [*map(str, words), "--cache-dir", str(made)])
    assert done.exit_code == 0, (done.exception, done.output)
    return made


def test_caches_of_every_command_are_listed_and_removed_wherever_they_lie(caches: Path, work: Path) -> None:
    def kinds(*words: str) -> set[tuple[str, str]]:
        listed = json.loads(call("list", "--json", *words).stdout)
        return {(Path(each["folder"]).parts[0], each["kind"]) for each in listed if each["state"] == "finished"}

    of_work = {("work", name) for name in (*NAMES, "score-features")}
    apart = {("node", name) for name in ("pixels", "prompts", "score-features", "prepare-pixels")}
    assert kinds() == of_work
    assert kinds("--cache-dir", "node") == of_work | apart
    told = call("list", "--cache-dir", "node").stdout.splitlines()
    assert [line.split(":")[0] for line in told[-2:]] == ["work", "node"]
    assert call("clear", "--unfinished", "--yes", "--cache-dir", "node").exit_code == 0
    assert kinds("--cache-dir", "node") == of_work | apart
    assert call("clear", "score-features", "prepare-pixels", "--yes", "--cache-dir", "node").exit_code == 0
    left = {("work", name) for name in NAMES} | {("node", "pixels"), ("node", "prompts")}
    assert kinds("--cache-dir", "node") == left
    assert (work / "features" / "mine.txt").read_text() == "mine"
    assert call("list", "--cache-dir", "work").stdout.count("work:") == 1


def test_pixels_that_were_half_made_are_unfinished(made: Path, work: Path) -> None:
    (cache,) = (path for path in made.glob("prepare/*/cache-*") if path.is_dir())
    cache.rename(cache.with_name(f"{cache.name}.partial"))
    (found,) = json.loads(call("list", "--json", "--cache-dir", str(made)).stdout)[-1:]
    assert (found["kind"], found["state"]) == ("prepare-pixels", "unfinished")
