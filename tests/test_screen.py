"""Tables on a screen: every number whole and every name there, at any width, in a terminal and in a pipe."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.records import example, metric, record, save
from hypothesis import given, settings
from hypothesis import strategies as some
from rich.cells import cell_len

from grasp_bench.cli import main
from grasp_bench.cli.output import console, styled, table
from grasp_bench.contracts.record import write_record
from grasp_bench.data.features import FeatureSet, write_features
from grasp_bench.screen import Cell, Sheet

NUMBERS = re.compile(r"\d[\d.,]*")
WIDE = Sheet(
    "scores",
    ("method", "settings", "FD(inception) ± se", "real reference", "KD(inception)", "precision"),
    [
        ("lora", "rank=16, learning_rate=0.0001", "11456.123 ± 12.5", "1200.75", "829301.25", "0.9625"),
        ("an-exceedingly-long-name-of-a-method", "", "9.5", "1200.75", Cell("1.25", "bold"), "1.0"),
    ],
    frozenset({2, 3, 4, 5}),
    2,
)


def squeezed(lines: list[str]) -> str:
    """The letters of all lines, without the spaces and breaks that folding puts in."""
    return "".join("".join(lines).split())


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_numbers_are_whole_and_names_are_there(width: int) -> None:
    lines = WIDE.lines(width)
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    for row in WIDE.rows:
        for number in NUMBERS.findall(" ".join(each[0] if isinstance(each, Cell) else each for each in row)):
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", text), number
    assert Counter("".join(WIDE.rows[1][0])) <= Counter(text)
    assert "lora" in text


def fragments(lines: list[str]) -> set[str]:
    """What stands between spaces on any line."""
    return {word.strip(",:") for line in lines for word in line.split()}


def broken(texts: set[str], lines: list[str]) -> set[str]:
    """Words of the texts of which neither the whole nor all that hyphens leave of it stands in the lines."""
    there = fragments(lines)
    words = {word.strip(",") for text in texts for word in text.split() if len(word) <= 24}

    def is_there(word: str) -> bool:
        ends = [at for at, sign in enumerate(word, 1) if sign == "-" or at == len(word)]
        reached = {0}  # ends of what lines hold from the word's start on
        for end in ends:
            reached |= {end} if any(word[start:end] in there for start in reached) else set()
        return len(word) in reached

    return {word for word in words if not is_there(word)}


def test_a_word_is_broken_after_a_hyphen_or_not_at_all() -> None:
    texts = {str(each[0] if isinstance(each, Cell) else each) for row in WIDE.rows for each in row}
    found = {width: broken({*texts, *WIDE.columns}, WIDE.lines(width)) for width in range(20, 131)}
    assert {width: words for width, words in found.items() if words} == {}


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_names_of_rows_are_whole_words_in_every_part_of_a_report(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = {"grasp-timestep": {"rank": 12}, "shared-adapter": {}, "timestep-experts": {"learning_rate": 0.0003}}
    for number, (name, changed) in enumerate(methods.items()):
        for seed in range(3):
            groups = ("head", "medium", "tail", "all")
            scores = [metric("fd", group, 1000.5 * number + seed, lower=True) for group in groups]
            found = record(name, seed, scores, label=name, streams=f"{number:064}")
            given = {"changed": {"method": changed, "guidance": {"guidance_scale": 1.18, "norm_threshold": 6.61}}}
            write_record(tmp_path / "results" / "digits-lt" / name / f"seed-{seed}", found.model_copy(update=given))
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["grasp-bench", "report", "--all"])
    main_exits()
    lines = capsys.readouterr().out.splitlines()
    assert all(cell_len(line) <= width for line in lines)
    told = {"rank=12", "learning_rate=0.0003", "guidance_scale=1.18", "norm_threshold=6.61", "tiny-sd3@abc"}
    assert broken({*methods, *told, "settings", "guidance", "1001.5 ± 2.5"}, lines) == set()


def test_a_table_that_is_split_names_its_rows_in_every_part() -> None:
    lines = WIDE.lines(60)
    rules = [number for number, line in enumerate(lines) if line.startswith("─")]
    assert len(rules) > 1
    assert all(lines[number + 1].startswith("lora") for number in rules)


def test_a_column_beside_another_is_in_no_part_without_it() -> None:
    columns = ("", "n", "FD(pixels) ± se", "real reference", "excess", "KD(pixels)", "real reference", "excess")
    rows = [("an-exceedingly-long-name-of-a-class", "40", "11456.1 ± 12.5", "1200.75", "10.1", "1.25", "1.75", "0.5")]
    sheet = Sheet("t", columns, rows, frozenset(range(1, 8)), 1, "", frozenset({3, 4, 6, 7}))
    text = "\n".join(sheet.lines(40))
    parts = text.split("\n\n")
    assert len(parts) > 2
    for number, owner in (
        ("1200.75", "FD(pixels)"),
        ("10.1", "FD(pixels)"),
        ("1.75", "KD(pixels)"),
        ("0.5", "KD(pixels)"),
    ):
        assert all(owner in part for part in parts if number in part.split()), (number, parts)
    assert all(cell_len(line) <= 40 for line in text.splitlines())


names = some.text(some.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
numbers = some.floats(-1e6, 1e6).map("{:.4g}".format) | some.just("")


@settings(max_examples=200, deadline=None, database=None)
@given(
    rows=some.lists(some.tuples(names, names, numbers, numbers, numbers), max_size=4),
    width=some.integers(20, 130),
    keys=some.integers(1, 2),
)
def test_no_table_is_wider_than_its_screen(rows, width: int, keys: int) -> None:
    sheet = Sheet("t", ("name", "other", "one value", "two", "three"), rows, frozenset({2, 3, 4}), keys)
    lines = sheet.lines(width)
    assert all(cell_len(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)
    words = " ".join(lines).split()
    assert all(not number or number in words for row in rows for number in row[2:])


@pytest.mark.parametrize(("columns", "width"), [("40", 40), ("120", 120), ("", 100), ("x", 100), ("0", 100), ("3", 20)])
def test_columns_is_respected_where_output_is_piped(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert console().width == width


@pytest.mark.parametrize(
    ("name", "value", "bold"), [("NO_COLOR", "1", False), ("TERM", "dumb", False), ("X", "", True)]
)
def test_no_colour_is_no_bold_type_either(
    name: str, value: str, bold: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for each in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv(name, value)
    out = console()
    assert styled(out) == bold
    out.print(table("title", ("a", "b"), [("x", Cell("y", "bold"))]))
    out.print("text", style="bold")
    assert ("\x1b" in capsys.readouterr().out) == bold


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("words", [["report"], ["list"], ["show", "digits-lt"]], ids=" ".join)
def test_commands_keep_to_the_width(
    words: list[str], width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "results", *example())
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["grasp-bench", *words])
    main_exits()
    lines = capsys.readouterr().out.splitlines()
    tables = [number for number, line in enumerate(lines) if line.startswith("─")]
    assert tables
    assert all(cell_len(lines[number]) <= width for number in tables)
    if words == ["list"] and width > 40:
        assert "timestep-experts" in squeezed(lines)
    if words == ["report"]:
        assert "13.00 ± 2.48" in "\n".join(lines)
        assert all(cell_len(line) <= width for line in lines)


SCORE = ["score", "real.safetensors", "fake.safetensors", "--draws", "2", "--json", "score.json"]
COMPARE = ["compare", "results/digits-lt/grasp/seed-0", "results/digits-lt/lora/seed-0"]


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files for both commands in the working folder; a class has a long name."""
    save(tmp_path / "results", *example())
    names = ["an-exceedingly-long-name-of-a-class"] * 20 + ["b"] * 20
    for seed, name in enumerate(("real", "fake")):
        values = np.random.RandomState(seed).randn(40, 4)
        write_features(tmp_path / f"{name}.safetensors", FeatureSet(values, names, None, None))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("words", [SCORE, COMPARE], ids=["score", "compare"])
@pytest.mark.usefixtures("scored")
def test_score_and_compare_keep_to_the_width_and_cut_no_number(
    words: list[str], width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {}
    for columns in (str(width), "200"):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setattr(sys, "argv", ["grasp-bench", *words])
        main_exits()
        shown[columns] = capsys.readouterr().out
    lines = shown[str(width)].splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("─")]
    assert rules
    assert all(cell_len(lines[number]) <= width for number in rules)
    first, last = rules[0], rules[-1]
    assert all(cell_len(line) <= width for line in lines[first:last])
    numbers = r"(?<![\w.])\d+\.\d+(?![\w.])"
    assert set(re.findall(numbers, shown["200"])) <= set(re.findall(numbers, shown[str(width)]))
    if words == SCORE:
        assert "an-exceedingly-long-name-of-a-class" in squeezed(lines)


@pytest.mark.parametrize("words", [SCORE, COMPARE], ids=["score", "compare"])
@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), ("X", "")])
@pytest.mark.usefixtures("scored")
def test_no_command_is_bold_where_that_is_asked_for(
    words: list[str], name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["grasp-bench", *words])
    main_exits()
    assert ("\x1b[" in capsys.readouterr().out) == (name == "X")


def main_exits() -> None:
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
