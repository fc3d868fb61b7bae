"""The summary and its findings: what is said of a difference follows from its p, and open rows are in none of it."""

import pytest
from helpers.records import metric, opened, record, reported

from grasp_bench.errors import UserError
from grasp_bench.results.formats import rendered
from grasp_bench.results.summary import AMONG, NOT_SHOWN, STANDS, SUGGESTIVE, tag, viewed

BASES = {"vanilla-ft": 300.0, "a": 120.0, "b": 295.0, "c": 310.0, "d": 290.0, "e": 305.0, "f": 302.0}


def runs() -> list:
    return [
        record(name, seed, [metric("coverage", "tail", 0.9 - base / 1000 + 0.001 * (int(seed * 7 + base) ** 2 % 11))])
        for name, base in BASES.items()
        for seed in range(5)
    ]


@pytest.mark.parametrize(
    ("p", "adjusted", "expected"),
    [(0.01, 0.04, STANDS), (0.04, 0.06, SUGGESTIVE), (0.06, 0.5, NOT_SHOWN), (float("nan"), float("nan"), NOT_SHOWN)],
)
def test_tags(p, adjusted, expected):
    assert tag(p, adjusted) == expected


def test_findings_say_what_stands_and_what_does_not():
    (section,) = viewed(reported(runs(), baseline="vanilla-ft", view="findings"))
    assert (section.heading, section.grids, section.notes) == ("", [], [])
    assert section.findings == [
        (STANDS, "1 of 7 could be best in tail coverage: a; the highest mean is that of a, 0.783 ± 0.002."),
        (STANDS, "better than vanilla-ft in tail coverage: a +0.179 ± 0.005; d +0.010 ± 0.006."),
        (STANDS, "worse than vanilla-ft in tail coverage: c \N{MINUS SIGN}0.010 ± 0.006."),
        (SUGGESTIVE, "better than vanilla-ft in tail coverage: b +0.005 ± 0.005."),
        (
            NOT_SHOWN,
            "different from vanilla-ft in tail coverage: f \N{MINUS SIGN}0.003 ± 0.006; e \N{MINUS SIGN}0.004 ± 0.006.",
        ),
    ]
    assert section.command == "grasp-bench report --baseline vanilla-ft --view findings"


def test_where_images_may_have_several_labels_the_classifier_is_scored_by_mean_average_precision():
    def scored(name: str) -> list:
        own = metric("accuracy", "tail", 0.8).model_copy(update={"metric": name, "label": name})
        added = [own, metric("accuracy", "tail", 0.7).model_copy(update={"metric": "f1", "label": "f1"})]
        return [each.model_copy(update={"scores": [*each.scores, *added]}) for each in runs()]

    for name, title, what in (
        ("accuracy", "tail CAS ↑", "CAS: balanced accuracy of"),
        ("average_precision", "tail CAS (mAP) ↑", "CAS (mAP): mean average precision of"),
    ):
        (section,) = viewed(reported(scored(name), baseline="vanilla-ft", view="summary"))
        assert title in section.grids[0].columns
        assert what in section.notes[0]
        assert not any("f1" in each for each in section.grids[0].columns)


def test_what_stands_among_rows_that_were_named_is_not_said_of_all():
    """Alone ``d`` differs from ``vanilla-ft``, and no other pair is corrected for."""
    pair = {"method": ["vanilla-ft", "d"], "baseline": "vanilla-ft"}
    (section,) = viewed(reported(runs(), **pair, view="findings"))
    assert [tag for tag, _ in section.findings] == [AMONG]
    (section,) = viewed(reported(runs(), **pair, view="summary"))
    (grid,) = section.grids
    assert [row[grid.columns.index("shown")].text for row in grid.rows[:2]] == [AMONG, ""]
    assert f"{AMONG}: p below 0.05 when adjusted" in section.notes[0]
    assert "of the rows named and of no others" in section.notes[0]


def test_the_summary_has_a_row_per_method_and_the_real_reference_last():
    entry = opened(record("mine", 0, [metric("coverage", "tail", 0.99)]), trainable_parameters=7)
    (section,) = viewed(reported([*runs(), entry], baseline="vanilla-ft", view="summary"))
    assert section.heading.endswith("· rules 1.0")
    (grid,) = section.grids
    rows = [[cell.text for cell in row] for row in grid.rows]
    assert [row[0] for row in rows] == ["mine", "a", "d", "b", "vanilla-ft", "f", "e", "c", "real reference"]
    at = {name: number for number, name in enumerate(grid.columns)}
    assert [row[at["shown"]] for row in rows[:2]] == ["not compared", STANDS]
    assert rows[4][at["difference to vanilla-ft"]] == "baseline"
    assert rows[0][at["division"]] == "open"
    assert rows[0][at["trainable parameters"]] == "7 declared"
    assert not any("mine" in text for _, text in section.findings)
    alone = viewed(reported(runs(), baseline="vanilla-ft", view="summary"))[0]
    assert section.findings == alone.findings


def test_markdown_lists_findings_under_their_command():
    text = rendered(reported(runs(), baseline="vanilla-ft", view="findings"), "markdown").decode()
    assert text.startswith("- *stands*: 1 of 7 could be best")
    assert "- These lines are of `grasp-bench report --baseline vanilla-ft --view findings`." in text


def test_without_a_baseline_there_is_nothing_to_say():
    with pytest.raises(UserError, match=r"--view summary: says how methods differ from one\. Name it: --baseline"):
        viewed(reported(runs(), view="summary"))


def test_one_seed_has_a_summary_and_nothing_is_shown():
    (section,) = viewed(
        reported([each for each in runs() if not each.spec.seed], baseline="vanilla-ft", view="summary")
    )
    (grid,) = section.grids
    shown = [row[grid.columns.index("shown")].text for row in grid.rows[:-1]]
    assert set(shown) == {"", "not compared"}
    assert section.findings == []


def test_the_forest_plot_has_every_difference_and_needs_one():
    svg = rendered(reported(runs(), baseline="vanilla-ft"), "svg").decode()
    assert svg.startswith("<!-- written by grasp-bench report -->\n<svg ")
    assert [f">{name}<" in svg for name in BASES] == [False, *[True] * 6]
    with pytest.raises(UserError, match="there is no difference to draw"):
        rendered(reported([each for each in runs() if not each.spec.seed], baseline="vanilla-ft"), "svg")
    with pytest.raises(UserError, match="there is no difference to draw"):
        rendered(reported(runs()), "svg")
