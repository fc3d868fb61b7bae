import re

import pytest
from helpers.records import example, metric, record, reported
from rich.cells import cell_len

from grasp_bench.results.formats import terminal
from grasp_bench.results.grids import Grid, Section, Text
from grasp_bench.results.tables import counted_seeds, sections


@pytest.fixture
def text() -> str:
    return terminal(sections(reported(example())), 100)


def line(text: str, start: str, after: str = "") -> str:
    """The first line of ``text`` that begins with ``start``, below the line that holds ``after``."""
    below = text[text.index(after) :]
    return next(each for each in below.splitlines() if each.startswith(start))


def test_table_shows_means_intervals_real_references_and_arrows_within_100_columns(text):
    assert max(map(len, text.splitlines())) <= 100
    assert "FD(digits-cnn) ↓\n" in text
    assert "accuracy ↑\n" in text
    assert "13.00 ± 2.48" in line(text, "grasp")  # 4.302653 · 1 / √3
    assert "0.600 ± 0.248" in line(text, "grasp", after="accuracy ↑")
    assert "20.00" in line(text, "lora")
    assert "±" not in line(text, "lora")
    assert line(text, "real refe").split()[-2:] == ["1.50", "0.50"]


def test_columns_are_aligned(text):
    table = text[text.index("FD(digits-cnn)") : text.index("accuracy ↑")].splitlines()[1:]
    assert len({len(each) for each in table if each.strip()}) == 1


def test_few_seeds_are_marked_as_provisional_beside_their_scores(text):
    assert line(text, "lora").split()[:5] == ["lora", "cfg", "closed", "1,", "provisional"]
    assert line(text, "grasp").split()[:5] == ["grasp", "cfg", "closed", "3,", "provisional"]


def test_five_seeds_are_enough():
    assert [counted_seeds(range(number)) for number in (4, 5, 10)] == ["4, provisional", "5", "10"]


def test_cost_tells_seeds_parameters_and_evaluations(text):
    assert line(text, "lora", after="\ncost").split()[:7] == ["lora", "cfg", "closed", "1,", "1,234", "†", "-"]
    assert line(text, "grasp", after="\ncost").split()[:7] == ["grasp", "cfg", "closed", "3,", "1,234", "†", "-"]
    assert line(text, "grasp", after="\ncost").split()[-2:] == ["1.00", "40"]
    apart = line(text, "grasp", after="GFLOPs")
    assert apart.split() == ["grasp", "cfg", "closed", "3,", "provisional", "0", "1.5"]


def test_a_name_that_is_too_long_is_folded_and_nothing_is_lost():
    changed = {f"setting_{number}": number for number in range(12)}
    runs = [record("grasp", 0, [metric("recall", "all", 0.5)], changed={"method": changed})]
    shown = terminal(sections(reported(runs)), 70)
    table = shown[shown.index("recall") : shown.index("\ncost")].splitlines()
    assert max(map(len, table)) <= 70
    start = table[1].index("settings")
    folded = "".join(each[start:].split("  ")[0].strip() for each in table[3:])
    assert ",".join(f"setting_{number}={number}" for number in range(12)) in folded.replace(" ", "")


def test_letters_of_two_columns_are_counted_as_such():
    grid = Grid("wide", ("method", "all"), [[Text("漢字漢字"), Text("1.0")], [Text("漢字" * 9), Text("2.0")]])
    lines = terminal([Section("", [grid], [])], 30).splitlines()[-3:]
    assert [cell_len(each) for each in lines[:2]] == [30, 30]
    assert lines == ["漢字漢字" + " " * 19 + "1.0", "漢字" * 6 + "   2.0", "漢字" * 3]


def test_what_has_no_scores_is_told_with_its_reason(text):
    assert re.search(r"moe\|x +cfg +closed +0 +oom +out of memory at step 3 \[4 GiB asked\]", text)


def test_only_the_best_is_bold_and_only_where_style_is_wanted():
    report = sections(reported(example()))
    styled = terminal(report, 100, styled=True)
    assert "\x1b[1m13.00 ± 2.48\x1b[0m" in styled
    assert "\x1b[1m9.00\x1b[0m" in styled
    assert "\x1b[1m20.00" not in styled
    assert re.sub(r"\x1b\[\d+m", "", styled) == terminal(report, 100)


def test_ranks_stand_beside_a_primary_metric_and_are_explained():
    runs = [
        record(m, seed, [metric("coverage", "tail", value + 0.01 * seed * at)])
        for at, (m, value) in enumerate((("best", 0.9), ("last", 0.3)))
        for seed in range(5)
    ]
    text = terminal(sections(reported(runs)), 100)
    assert [line(text, method).split()[-1] for method in ("best", "last")] == ["1–1*", "2–2"]  # noqa: RUF001
    assert "*: could be best" in text


def test_a_name_cannot_steer_the_terminal():
    runs = [record("grasp", 0, [metric("recall", "all", 0.5)], changed={"method": {"a": "\x1b[31mred\x07\u202e"}})]
    text = terminal(sections(reported(runs)), 100)
    assert "\x1b" not in text
    assert "\\u001b[31mred\\u0007\\u202e" in text


def test_it_says_whether_methods_saw_the_same_data():
    def shown(*streams: str | None) -> str:
        runs = [record(f"m{i}", 3, [metric("fd", "all", 1.0)], streams=each) for i, each in enumerate(streams)]
        return terminal(sections(reported(runs)), 300)

    assert "identical for all methods" in shown("a", "a")
    assert "timesteps of m2 DIFFER from the other methods'" in shown("a", "a", "b")
    assert "recorded for m1." in shown("a", None)
    assert "identical" not in shown("a", None) + shown("a", "b") + shown("a")
