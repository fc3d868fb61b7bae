"""A task's images as files for other trainers: whole or absent, and under names that come back as they were."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.entries import request
from PIL import Image
from typer.testing import CliRunner, Result

from grasp_bench.cli import app
from grasp_bench.contracts.entry import Entry
from grasp_bench.run.entry.images import GivenImages
from grasp_bench.run.entry.plan import plan_entry
from grasp_bench.temporary import temporary_name
from grasp_bench.text import from_cell

CLASSES = ("=SUM(A1)", "+1", "-minus", "@at", "'=quoted", 'a, "b"', "Cat", "cat")
"""Formulas, separators, and names of which folders cannot be called everywhere."""
TASK = 'name = "odd"\nimages = "real"\nlabels = "labels.csv"\nhead_above = 5\ntail_below = 1\nextractor = "pixels"\n'
EXPORT = ("data", "export", "--task", "odd.toml", "--split", "train", "--to", "out/images")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task whose classes have such names, with six images each."""
    random = np.random.default_rng(0)
    for number in range(len(CLASSES)):
        folder = tmp_path / "real" / str(number)
        folder.mkdir(parents=True)
        for image in range(6):
            Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{image}.png")
    rows = [(f"{number}/{image}.png", name) for number, name in enumerate(CLASSES) for image in range(6)]
    write(tmp_path / "labels.csv", [("id", "label"), *rows])
    (tmp_path / "odd.toml").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def export(*words: str) -> Result:
    return CliRunner().invoke(app, [*EXPORT, *words])


def test_a_folder_is_there_when_it_is_whole_and_what_was_left_is_swept_up(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, save, saved = place / "out", Image.Image.save, []

    def stopped(image: Image.Image, path: Path) -> None:
        saved.append(path)
        save(image, path)
        if len(saved) == 5:
            assert not (out / "images").exists()  # what a killed process leaves
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", stopped)
        assert export().exit_code == 130
    assert len(saved) == 5
    assert list(out.iterdir()) == []
    half = temporary_name(out / "images")
    half = half.with_name(half.name.rpartition("-")[0] + "-99999999.tmp")  # a number that no process has
    (half / "Cat").mkdir(parents=True)
    monkeypatch.setattr("grasp_bench.temporary._swept", set())
    assert export().exit_code == 0
    assert [path.name for path in out.iterdir()] == ["images"]
    rows = read(out / "images" / "labels.csv")
    assert sorted(row["file_name"] for row in rows) == sorted(
        path.relative_to(out / "images").as_posix() for path in out.rglob("*.png")
    )


def test_names_come_back_exactly_whatever_a_spreadsheet_would_make_of_them(place: Path) -> None:
    assert export("--prompts-out", "prompts.csv").exit_code == 0
    rows, prompts = read(place / "out" / "images" / "labels.csv"), read(place / "prompts.csv")
    lines = (place / "out" / "images" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert [{name: from_cell(cell) for name, cell in row.items()} for row in rows] == [*map(json.loads, lines)]
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in (*rows, *prompts) for cell in row.values())
    assert {from_cell(row["label"]) for row in rows} == {from_cell(row["label"]) for row in prompts} == {*CLASSES}
    plan = plan_entry(Entry("an-entry", {}), "odd.toml", budget="smoke")
    said = [(from_cell(row["label"]), from_cell(row["prompt"])) for row in prompts]
    assert said == [(info.name, info.prompt) for info in plan.task.classes()]
    random, flat = np.random.default_rng(1), []
    for number, row in enumerate(prompts):
        for name in (f"folders/{row['folder']}/0.png", f"flat/{number}.png"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / name)
        flat.append((f"{number}.png", row["label"]))
    write(place / "flat.csv", [("id", "label"), *flat])
    for given in (GivenImages(Path("folders")), GivenImages(Path("flat"), Path("flat.csv"))):
        asked = request(1, shape=(3, 32, 32), task=plan.task)
        stage = place / f"stage-{given.path}"
        stage.mkdir()
        assert given.make(asked, stage).scored == len(CLASSES)
