import json
import re

import pytest
from helpers.records import found_runs, metric, record, save

from grasp_bench.results.site.boards import read_boards
from grasp_bench.results.site.charts import metric_charts, pareto_front, routing_charts, training_chart
from results.site.results import CLUSTERS, PEAR, make_results


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    (found,) = read_boards(found_runs(make_results(tmp_path_factory.mktemp("results"))))
    return found


@pytest.fixture(scope="module")
def charts(board):
    every = [*(chart for metric in board.main for chart in metric_charts(board, metric))]
    return {chart.title: chart for chart in [*every, *training_chart(board), *routing_charts(board)]}


@pytest.mark.parametrize(
    ("points", "lower", "front"),
    [
        ([(1, 5), (2, 3), (3, 4), (4, 1)], True, {0, 1, 3}),
        ([(1, 5), (2, 3), (3, 4), (4, 9)], False, {0, 3}),
        ([(1, 5), (1, 5), (1, 6)], True, {0, 1}),  # equal points do not beat each other
    ],
)
def test_the_front_is_what_none_beats_in_both(points, lower, front):
    assert pareto_front(points, lower) == front


def test_every_chart_is_described_and_names_are_data_alone(charts):
    for chart in charts.values():
        specification = chart.specification
        data = specification.pop("datasets")
        assert specification["description"] == f"{chart.title}. {chart.caption}"
        assert data
        code = json.dumps({**specification, "description": ""})
        assert not re.search(r"NaN|Infinity", json.dumps(data))
        expressions = re.findall(r'"(?:test|expr|filter|calculate)": "([^"]*)"', code)
        assert set(expressions) <= {"indexof(shown, datum.series) >= 0"}


def test_head_is_drawn_against_tail_beside_the_real_reference(charts):
    chart = charts["FD(digits-cnn): head against tail"]
    assert ("grasp", "91.5", "105.5") in chart.rows
    assert chart.rows[-1] == ("real reference", "20", "22")
    assert {(row["x"], row["y"]) for row in data(chart) if row["name"] == "grasp"} == {(91.5, 105.5)}


def test_every_panel_has_its_own_data(charts):
    for title in ("Training loss by group", "Use of the experts of moe"):
        specification = charts[title].specification
        assert "name" in specification["data"]
        assert not [layer for layer in specification["spec"]["layer"] if "data" in layer]


def test_rows_that_would_have_one_name_are_told_apart(tmp_path):
    save(tmp_path, *(record("grasp", 0, [metric("fd", "tail", 1.0, lower=True)], label=name) for name in "ab"))
    (board,) = read_boards(found_runs(tmp_path))
    assert board.names == {"a": "grasp", "b": "grasp · cfg (b)"}


def data(chart):
    return [row for each in chart.specification["datasets"].values() for row in each]


def test_class_curves_are_means_over_seeds_against_train_counts(charts):
    chart = charts["FD(digits-cnn) of single classes, by their training images"]
    assert [row for row in chart.rows if row[0] == "grasp"] == [
        ("grasp", "4", "quince", "26"),
        ("grasp", "20", PEAR, "6"),
        ("grasp", "100", "apple", "2"),
    ]
    drawn = data(chart)
    assert len({row["series"] for row in drawn if "series" in row}) == 4
    reference = [(row["x"], row["y"]) for row in drawn if "series" not in row]
    assert reference == [(4, 15), (20, 3), (100, 0.6)]


def test_classes_whose_train_count_differs_between_seeds_are_drawn_by_their_count(tmp_path):
    results = make_results(tmp_path, {"grasp": 90.0}, seeds=2)
    header = "class,group,train_images,metric,n,value,floor,low,high"
    for seed, (first, second) in enumerate([(100, 4), (4, 100)]):
        lines = [header, f"a,head,{first},fd,9,{first},1,0,9", f"b,tail,{second},fd,9,{second + 2},1,0,9"]
        (results / "digits-lt" / "method-0" / f"seed-{seed}" / "classes.csv").write_text("\n".join(lines))
    (board,) = read_boards(found_runs(results))
    (chart,) = (each for each in metric_charts(board, board.main[0]) if "single classes" in each.title)
    assert chart.rows == [("grasp", "4", "a, b", "5"), ("grasp", "100", "a, b", "101")]


def test_costs_name_the_front(charts):
    chart = charts["FD(digits-cnn) of the tail against its cost"]
    front = [(row[0], row[1]) for row in chart.rows if row[-1] == "yes"]
    assert front == [("grasp", cost) for cost in ("trainable parameters", "training seconds", "NFE per image")]
    assert {row["series"] for row in data(chart) if row["front"] == "yes"} == {"grasp"}


def test_groups_that_a_row_of_the_log_did_not_see_are_left_out(charts):
    chart = charts["Training loss by group"]
    assert {row[1] for row in chart.rows} == {"head"}
    assert ("grasp", "head", "0.02", "0.01") in chart.rows
    assert len({row["series"] for row in data(chart)}) == 4


def test_partition_and_experts_show_what_was_recorded(charts):
    partition = charts["Partition of grasp"]
    assert partition.columns == ("class", *CLUSTERS)
    assert partition.rows == [("apple", "100", "0"), (PEAR, "0", "20"), ("quince", "0", "4")]
    assert ("head", "expert 2", "0.750", "0.750") in charts["Use of the experts of moe"].rows


def test_neighbours_of_many_classes_are_averaged(tmp_path):
    results = make_results(tmp_path, {"grasp": 90.0}, seeds=1)
    lines = ["class,group,train_images,metric,n,value,floor,low,high"]
    lines += [f"c{number},head,{number + 1},fd,30,{number},,," for number in range(400)]
    (results / "digits-lt" / "method-0" / "seed-0" / "classes.csv").write_text("\n".join(lines))
    (board,) = read_boards(found_runs(results))
    (chart,) = (chart for chart in metric_charts(board, board.main[0]) if "single classes" in chart.title)
    assert [row[2] for row in chart.rows] == ["10 counts"] * 40
    assert chart.rows[0] == ("grasp", "5.5", "10 counts", "4.5")
    assert "averaged to 40 points" in chart.caption
