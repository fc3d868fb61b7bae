"""What the work folder holds is listed and removed; what is worked on, and what is no stage, stays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from grasp_bench.cli import app
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
    assert "holds no stage 'latent'. Did you mean 'latents'?" in str(shown.exception)
