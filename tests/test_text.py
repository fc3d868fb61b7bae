"""Names are shown as they are written, whatever they would mean to what shows them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image
from typer.testing import CliRunner

import grasp_bench
from grasp_bench.adapters.partition import draw_partition
from grasp_bench.cli import app
from grasp_bench.diagnose.picture import draw_cosines
from grasp_bench.diagnose.words import document
from grasp_bench.text import FORMULA, from_cell, to_cell

HOSTILE = ("=1+1", "$\\frac{x$", "[red]a|b[/red]", "@<b>&amp;", "-9", "\\alpha_$x^")
TOML = 'name = "pets"\nhead_above = 5\ntail_below = 3\nextractor = "pixels"\nbackbone = "tiny-sd3"\n'


@given(some.text(alphabet=[*FORMULA, "'", "a", "1", ".", "e", " "]))
def test_a_cell_gives_back_its_text_and_is_no_formula(text: str) -> None:
    cell = to_cell(text)
    assert from_cell(cell) == text
    assert not cell.startswith(FORMULA)


def test_names_in_pictures_are_no_formulas() -> None:
    names, counts = [*HOSTILE, "a\nb"], np.ones((7, 7), np.int64)
    drawn = draw_partition(names, names, counts, "$\\frac{")
    assert drawn != draw_partition([each.replace("$", "") for each in names], names, counts, "$\\frac{")
    assert draw_partition(["$a$"], ["b"], counts[:1, :1], "") != draw_partition(["a"], ["b"], counts[:1, :1], "")
    cell = {"kind": "$\\k$", "level": 0, "cosine": np.eye(7), "ceiling": np.ones(7)}
    block = {"names": names, "cells": [cell]}
    labels = {"label": "$\\l$", "task": "$\\t$", "run_seed": 0, "step": 1}
    assert draw_cosines({"levels": [(0, 1)], "groups": block, "classes": block} | labels)


def test_names_in_a_diagnosis_are_no_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grasp_bench.diagnose.words.paragraph", lambda found: "# Of [x](y)\n\nBetween <b> and `c`.\n")
    assert document({}) == "# Of \\[x\\](y)\n\nBetween \\<b\\> and \\`c\\`.\n"


@pytest.mark.slow
def test_a_run_with_hostile_class_names_from_images_to_page_and_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random, lines = np.random.RandomState(0), [["id", "label"]]
    Path("images").mkdir()
    for row, name in enumerate(name for name in HOSTILE for _ in range(8)):
        Image.fromarray(random.randint(0, 256, (8, 8), dtype=np.uint8)).save(f"images/{row:02}.png")
        lines.append([f"{row:02}.png", name])
    with Path("labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    Path("pets.toml").write_text(TOML + 'labels = "labels.csv"\n')

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
        assert done.exit_code == 0, (arguments, done.exception, done.output)
        return done.output

    shown = said("show", "./pets.toml")
    assert all(name in shown for name in HOSTILE)
    said("run", "-m", "grasp", "-t", "./pets.toml", "--budget", "smoke", "--set", "partition=class")
    (record,) = Path("results").rglob("record.json")
    assert record.with_name("partition.png").is_file()
    scores = grasp_bench.load_results(Path("results"), classes=True)
    assert set(scores[scores.scope == "class"].group) == set(HOSTILE)
    with record.with_name("classes.csv").open(newline="") as file:
        first = {row["class"] for row in csv.DictReader(file)}
    assert first == {"'=1+1", "$\\frac{x$", "[red]a|b[/red]", "'@<b>&amp;", "'-9", "\\alpha_$x^"}
    said("report", "--html", "page")
    assert "@<b>" not in Path("page/index.html").read_text()
    said("export", str(record.parent), "--to", "exported", "--task", "./pets.toml")
    card = Path("exported/README.md").read_text()
    assert "| \\[red\\]a\\|b\\[/red\\] |" in card
    assert "| @\\<b\\>\\&amp; |" in card
