import csv
import io
import json
import re

import pytest
from rich.console import Console

from grasp_bench.report import render
from grasp_bench.report.table import Leaderboard, leaderboards
from report.records import metric, record


@pytest.fixture
def boards() -> list[Leaderboard]:
    """Three seeds of one method, one of another, and a failure."""
    runs = []
    for seed, (tail, whole) in enumerate([(0.5, 0.7), (0.6, 0.8), (0.7, 0.9)]):
        runs.append(
            record(
                "grasp",
                seed,
                [
                    metric("fd", "tail", 12 + seed, lower=True, floor=1.5),
                    metric("fd", "all", 10 + seed, lower=True, floor=0.5),
                    metric("accuracy_generated", "tail", tail),
                    metric("accuracy_generated", "all", whole),
                ],
            )
        )
    runs.append(
        record("lora", 0, [metric("fd", "tail", 20, lower=True, floor=1.5), metric("fd", "all", 9, lower=True)])
    )
    runs.append(record("moe|x", 0, status="oom", reason="out of memory at step 3\n[4 GiB asked]"))
    return leaderboards(runs)


def printed(boards: list[Leaderboard], **settings: bool) -> str:
    out = io.StringIO()
    Console(file=out, width=100, **settings).print(render.rich_table(boards))
    return out.getvalue()


def line(text: str, start: str, after: str = "") -> str:
    """The first line of ``text`` that begins with a cell ``start``, below the line that holds ``after``."""
    below = text[text.index(after) :]
    return next(each for each in below.splitlines() if each.strip("│| ").startswith(start))


def test_table_shows_means_intervals_floors_and_arrows_within_100_columns(boards):
    text = printed(boards)
    assert max(map(len, text.splitlines())) <= 100
    assert "FD(digits-cnn) ↓" in text
    assert "accuracy_generated ↑" in text
    assert "13.00 ± 2.48" in line(text, "grasp")  # 4.302653 · 1 / √3
    assert "0.600 ± 0.248" in line(text, "grasp", after="accuracy_generated")
    assert "20.00" in line(text, "lora")
    assert "±" not in line(text, "lora")
    assert [cell.strip() for cell in line(text, "floor").split("│")[2:4]] == ["1.50", "0.50"]


def test_one_seed_is_marked_as_provisional_beside_its_scores(boards):
    text = printed(boards)
    assert "lora (provisional)" in line(text, "lora")
    assert "provisional" not in line(text, "grasp")


def test_cost_tells_seeds_and_parameters(boards):
    text = printed(boards)
    assert "│ 1 │" in " ".join(line(text, "lora", after="cost").split())
    assert "│ 3 │" in " ".join(line(text, "grasp", after="cost").split())
    assert "1,234" in line(text, "grasp", after="cost")


def test_tables_are_whole_at_100_columns_with_a_long_name():
    runs = [record("grasp~rank=32,learning_rate=0.01", 0, [metric("recall", "all", 0.5)])]
    lines = printed(leaderboards(runs)).splitlines()
    assert all(each.rstrip()[-1] in "┓┃┩│┘" for each in lines if each.startswith(("┏", "┃", "┡", "│", "└")))


def test_what_has_no_scores_is_told_with_its_reason(boards):
    row = line(printed(boards), "moe|x")
    assert "oom" in row
    assert "out of memory at step 3" in row
    assert "[4 GiB asked]" in printed(boards)


def test_only_the_best_is_bold(boards):
    text = printed(boards, force_terminal=True)
    assert re.search(r"\x1b\[1m *13\.00 ± 2\.48", text)
    assert re.search(r"\x1b\[1m *9\.00", text)
    assert not re.search(r"\x1b\[1m *20\.00", text)


def test_markdown(boards):
    text = render.markdown(boards)
    assert text.startswith("## digits-lt · version 1 · standard budget · tiny-sd3@abc\n\n**FD(digits-cnn) ↓**\n\n")
    assert "| method | tail | all |\n| --- | ---: | ---: |\n" in text
    assert "| grasp | **13.00 ± 2.48** | 11.00 ± 2.48 |\n" in text
    assert "| lora (provisional) | 20.00 | **9.00** |\n" in text
    assert "| floor (real vs held-out real) | 1.50 | 0.50 |\n" in text
    assert "| moe\\|x | 0 | oom | out of memory at step 3 [4 GiB asked] |\n" in text


def test_csv_round_trip(boards):
    rows = list(csv.DictReader(io.StringIO(render.csv_text(boards))))
    assert len(rows) == 7
    first = rows[0]
    assert (first["task"], first["method"], first["metric"], first["group"]) == ("digits-lt", "grasp", "fd", "tail")
    assert (first["direction"], first["n_seeds"], first["n"], float(first["floor"])) == ("lower", "3", "30", 1.5)
    assert [float(first[key]) for key in ("mean", "low", "high")] == pytest.approx([13, 13 - 2.48414, 13 + 2.48414])
    lora = next(row for row in rows if row["method"] == "lora" and row["group"] == "all")
    assert (lora["low"], lora["high"], lora["floor"]) == ("", "", "")
    assert (lora["trainable_parameters"], lora["train_seconds"], lora["peak_memory_mib"]) == ("1234.0", "60.0", "900.0")
    failed = rows[-1]
    assert (failed["method"], failed["status"], failed["metric"], failed["mean"]) == ("moe|x", "oom", "", "")
    assert " ".join(failed["reason"].split()) == "out of memory at step 3 [4 GiB asked]"


def test_json_round_trip(boards):
    (board,) = json.loads(render.json_text(boards))
    assert board["metrics"][0]["scores"]["grasp"]["tail"]["mean"] == 13
    assert board["metrics"][0]["scores"]["lora"]["tail"]["low"] is None
    assert board["metrics"][0]["floors"] == {"tail": 1.5, "all": 0.5}
    assert board["rows"][1] == {
        "label": "lora",
        "seeds": [0],
        "provisional": True,
        "cost": {
            "trainable_parameters": 1234,
            "train_seconds": 60,
            "seconds_per_step": 0.1,
            "peak_memory_mib": 900,
            "checkpoint_mib": 1,
            "network_evaluations_per_image": 40,
        },
    }
    assert board["problems"][0]["status"] == "oom"


def test_only_failures_still_make_a_table():
    boards = leaderboards([record("moe", 0, status="cancelled", reason="Ctrl-C")])
    assert "Ctrl-C" in printed(boards)
    assert "Ctrl-C" in render.markdown(boards)
    assert "moe,cancelled,Ctrl-C" in render.csv_text(boards)


def test_it_says_whether_methods_saw_the_same_data():
    def boards(*streams: str):
        found = [record(f"m{i}", 3, [metric("fd", "all", 1.0)], streams=each) for i, each in enumerate(streams)]
        return leaderboards(found)

    assert "identical for all methods" in render.markdown(boards("a", "a"))
    assert "DIFFER between methods at seeds 3" in render.markdown(boards("a", "b"))
    assert "methods" not in render.markdown(boards("a"))
