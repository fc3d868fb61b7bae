"""Rows of the open division stand in tables and on the page, and change nothing of what is said of the closed ones."""

import json

import pytest
from helpers.records import found_runs, metric, opened, record, reported, save

from grasp_bench.errors import UserError
from grasp_bench.results.formats import csv_text, json_text, rendered
from grasp_bench.results.site.boards import read_boards
from grasp_bench.results.site.overview import overview

METHODS = {"vanilla-ft": 300.0, "lora": 250.0, "grasp": 120.0}
TASKS = ("one", "two", "three")


def scores(base: float, seed: int) -> list:
    noise = (int(seed * 7 + base) ** 2 % 11) / 11
    return [
        metric("fd", "tail", base + 9 * noise, lower=True, floor=50.0 + seed),
        metric("fd", "all", base / 2 + 5 * noise, lower=True, floor=40.0 + seed),
        metric("coverage", "tail", 0.9 - base / 1000 + 0.01 * noise),
    ]


def closed(task: str = "digits-lt", **fields) -> list:
    return [
        record(name, seed, scores(base, seed), task=task, label=f"{name}~tuned=8", **fields)
        for name, base in METHODS.items()
        for seed in range(5)
    ]


def entries(task: str = "digits-lt", seeds: int = 5) -> list:
    """An open row that is better than all others, and one that is worse."""
    return [
        opened(
            record(name, seed, scores(base, seed + 1), task=task, label=f"{name}~division=open"),
            trainer="kohya",
            trainable_parameters=650_000,
            nfe=56,
        )
        for name, base in (("a-best", 30.0), ("z-worst", 900.0))
        for seed in range(seeds)
    ]


def without_open(found: dict) -> dict:
    """A report without what stands in rows of the open division, and without the sentence on them."""
    for board in found["leaderboards"]:
        for name in ("cells", "costs", "problems"):
            board[name] = [each for each in board[name] if each["division"] == "closed"]
        known = {each["label"] for each in board["costs"]}
        for name in ("scores", "runs"):
            board[name] = [each for each in board[name] if each["label"] in known]
    return found


@pytest.mark.parametrize("test", ["model", "permutation"])
def test_open_rows_change_nothing_of_closed_ones(test):
    options = {"baseline": "vanilla-ft", "test": test}
    alone = [each for task in TASKS for each in closed(task)]
    both = [*alone, *(each for task in TASKS for each in entries(task))]
    found = without_open(json.loads(json_text(reported(both, **options))))
    assert found == json.loads(json_text(reported(alone, **options)))
    assert found["across_tasks"]["methods"]
    board = found["leaderboards"][0]
    assert [each for each in board["cells"] if each["best"]]
    assert found["differences"][0]["found"]


def test_the_page_says_and_draws_the_same_of_closed_rows(tmp_path):
    save(tmp_path / "alone", *closed())
    save(tmp_path / "both", *closed(), *entries())
    alone, both = (overview(read_boards(found_runs(tmp_path / name))[0]) for name in ("alone", "both"))
    said = [each["said"] for each in both["columns"]]
    assert said == [each["said"] for each in alone["columns"]]
    assert said[0].startswith("grasp has the lowest mean")
    for name in ("compared", "differences", "baseline", "references"):
        assert both[name] == alone[name]
    assert {row["label"]: row["division"] for row in both["rows"]} == {
        **{f"{name}~tuned=8": "closed" for name in METHODS},
        **dict.fromkeys(("a-best~division=open", "z-worst~division=open"), "open"),
    }
    entry = next(row for row in both["rows"] if row["method"] == "a-best")
    assert entry["declared"].startswith("declared, not checked: trainer: kohya; trainable parameters: 650000")
    assert ["650,000", "declared"] in entry["cells"]
    assert not [cell for cell in entry["cells"] if len(cell) > 2]  # neither a rank nor the best


def test_a_page_of_open_rows_alone_compares_nothing(tmp_path):
    save(tmp_path, *entries())
    (board,) = read_boards(found_runs(tmp_path))
    found = overview(board)
    assert (board.baseline, found["compared"]) == (None, [])
    assert {each["said"] for each in found["columns"][:3]} == {
        "Only rows of the open division are here, and these are not compared."
    }


@pytest.mark.parametrize("form", ["table", "markdown", "latex"])
def test_the_division_is_a_column_of_every_table(form):
    text = rendered(reported([*closed(), *entries()]), form, width=200).decode()
    heads = [line for line in text.splitlines() if "guidance" in line and "seeds" in line]
    assert len(heads) >= 3
    assert all("division" in line for line in heads)
    row = next(line for line in text.splitlines() if "a-best" in line)
    assert "open" in row
    assert next(line for line in text.splitlines() if "650,000" in line).count("declared") == 2
    assert "declared, not checked" in text
    assert "Rows of the open division" in text
    assert "~division=open" not in text.partition("declared, not checked")[2]
    assert "Settings of every method were chosen" not in text  # no search is recorded of these
    alone = rendered(reported(closed()), form, width=200).decode()
    heads = [line for line in alone.splitlines() if "guidance" in line and "seeds" in line]
    assert len(heads) >= 2
    assert all("division" in line for line in heads)


def test_programs_have_the_division_always():
    for runs in (closed(), [*closed(), *entries()]):
        head, *lines = csv_text(reported(runs)).splitlines()
        at = head.split(",").index("division")
        assert {line.split(",")[at] for line in lines} == {"closed", *(["open"] if len(runs) > 15 else [])}
    assert json.loads(json_text(reported(closed())))["leaderboards"][0]["costs"][0]["division"] == "closed"


def test_an_open_row_is_no_baseline():
    runs = [*closed(), *entries()]
    for name in ("a-best", "a-best~division=open"):
        with pytest.raises(UserError, match=rf"--baseline {name}: is of the open division"):
            reported(runs, baseline=name)
    with pytest.raises(UserError) as caught:
        reported(runs, baseline="a-bset")
    assert "division=open" not in str(caught.value).partition("There are:")[2]


def test_real_references_are_those_of_closed_runs():
    (board,) = reported([*closed(), *entries(seeds=1)]).leaderboards
    assert board.references["reference"].tolist() == [52.0, 42.0]
    (board,) = reported(entries(seeds=1)).leaderboards
    assert board.references["reference"].tolist() == [51.0, 41.0]
