"""Whatever classes are called, each has a folder of its own that works everywhere, and is found again by it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.contracts.task import ClassInfo
from grasp_bench.data.labels import read_labels
from grasp_bench.run.entry.names import class_indices, folder_names
from grasp_bench.text import FORMULA, from_cell

HOSTILE = (
    "cat",
    "..",
    ".",
    "a/b",
    "a\\b",
    "../../x",
    "/etc",
    "0003-a_b",  # what another class's folder would be called
    "=1+1",
    "-rf",
    "+x",
    "@x",
    "a\nb",
    "a\rb\tc",
    "\x1b[2J",
    "nul",
    "CON.txt",
    "labels.csv",
    "METADATA.jsonl",
    "prompts.csv",
    "Cat",
    "caf\u00e9",
    "cafe\u0301",
    ".hidden",
    "end.",
    "x" * 250,
    "a:b*c?",
    "'=quoted",
    '"',
)
PLAIN = re.compile(r"[^/\\:*?\"<>|\x00-\x1f]{1,200}")


def classes(names: tuple[str, ...]) -> list[ClassInfo]:
    return [ClassInfo(name, f"a {name}", "tail", 3) for name in names]


def test_folders_are_apart_and_harmless_on_every_file_system() -> None:
    folders = folder_names(classes(HOSTILE))
    assert len({name.casefold() for name in folders}) == len(HOSTILE)
    for name in folders:
        assert PLAIN.fullmatch(name), name
        assert name == name.strip(" ."), name
        assert not name.startswith((*FORMULA, ".")), name
        assert name.partition(".")[0].casefold() not in ("nul", "con"), name
        assert name.casefold() not in ("labels.csv", "metadata.jsonl", "prompts.csv"), name


def test_plain_names_name_their_folders() -> None:
    names = ("cat", "a b", "n01440764", "No Finding", "(none)", "R&D, etc.x", "2024-scan", "caf\u00e9")
    assert folder_names(classes(names)) == list(names)


@pytest.mark.parametrize("order", [HOSTILE, HOSTILE[::-1]])
def test_a_class_is_found_by_its_name_and_its_folder(order: tuple[str, ...]) -> None:
    known = class_indices(classes(order))
    for index, (name, folder) in enumerate(zip(order, folder_names(classes(order)), strict=True)):
        assert (known[name], known[folder]) == (index, index), name


def test_an_exported_split_of_hostile_names_stays_in_its_folder_and_reads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    names = [name for name in HOSTILE if name == name.strip()]
    rows = [("id", "label", "split")]
    for number, (name, split) in enumerate(
        (name, split) for name in names for split in ("train", "validation", "test")
    ):
        Image.new("L", (4, 4), number).save(tmp_path / "images" / f"{number}.png")
        rows.append((f"{number}.png", name, split))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (tmp_path / "mine.toml").write_text(
        'images = "images"\nlabels = "labels.csv"\nsplit_column = "split"\nname = "odd"\n'
    )
    before = {path for path in tmp_path.rglob("*") if ".grasp-bench" not in path.parts}
    words = ["data", "export", "-t", "mine.toml", "--split", "train", "--to", "out", "--prompts-out", "prompts.csv"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (result.exception, result.output)
    assert [sign for sign in result.output if not sign.isprintable() and sign != "\n"] == []
    new = {path for path in tmp_path.rglob("*") if ".grasp-bench" not in path.parts} - before
    outside = {path for path in new if not path.is_relative_to(tmp_path / "out")}
    assert outside <= {tmp_path / "prompts.csv", tmp_path / ".grasp-bench", tmp_path / ".prompts.csv.lock"}
    pictures = sorted(path.relative_to(tmp_path / "out") for path in new if path.suffix == ".png")
    assert len(pictures) == len(names)
    assert all(len(path.parts) == 2 for path in pictures)
    described = [json.loads(line) for line in Path("out/metadata.jsonl").read_text().split("\n")[:-1]]
    assert sorted(row["label"] for row in described) == sorted(names)
    assert sorted(Path(row["file_name"]) for row in described) == pictures
    labelled = read_labels(Path("out/labels.csv"))
    assert sorted(from_cell(row.label) for row in labelled.values()) == sorted(names)
    for file in ("out/labels.csv", "prompts.csv"):
        with Path(file).open(newline="") as opened:
            cells = [cell for row in csv.reader(opened) for cell in row]
        assert not [cell for cell in cells if cell.startswith(FORMULA)], file
    with Path("prompts.csv").open(newline="") as opened:
        by_folder = {row["folder"]: from_cell(row["label"]) for row in csv.DictReader(opened)}
    for row in described:
        assert by_folder[row["file_name"].partition("/")[0]] == row["label"]
