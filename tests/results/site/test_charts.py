import re
import xml.etree.ElementTree as ElementTree

import pytest
from helpers.records import found_runs

from grasp_bench.results.site.boards import read_boards
from grasp_bench.results.site.charts import metric_charts, pareto_front, training_chart
from grasp_bench.results.site.routing import routing_charts
from grasp_bench.results.site.svg import Scale, element, short, spanning
from results.site.results import CLUSTERS, HOSTILE, PEAR, make_results


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    (found,) = read_boards(found_runs(make_results(tmp_path_factory.mktemp("results"))))
    return found


@pytest.fixture(scope="module")
def charts(board):
    every = [*(chart for metric in board.main for chart in metric_charts(board, metric))]
    return {chart.title: chart for chart in [*every, *training_chart(board), *routing_charts(board)]}


def marks(chart, path):
    return ElementTree.fromstring(chart.picture).findall(path)


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


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(0, 10, 0, 100), [0, 2, 4, 6, 8, 10]),
        (Scale(-0.3, 0.31, 0, 100), [-0.2, 0, 0.2]),
        (Scale(4, 80, 0, 100, log=True), [5, 10, 20, 50]),
        (Scale(1, 1e9, 0, 100, log=True), [1, 1e2, 1e4, 1e6, 1e8]),
    ],
)
def test_ticks_are_round_and_inside(scale, ticks):
    assert scale.ticks() == pytest.approx(ticks)


@pytest.mark.parametrize("values", [[5.0], [0.0, 0.0], [-3.0, -1.0], [1e-9, 1e9]])
@pytest.mark.parametrize("from_zero", [False, True])
def test_every_value_lies_between_the_ends(values, from_zero):
    scale = spanning(values, 0, 100, from_zero=from_zero)
    assert all(0 <= scale(value) <= 100 for value in values)
    assert scale.low < scale.high


def test_a_logarithmic_scale_gives_equal_ratios_equal_room():
    scale = Scale(1, 100, 0, 200, log=True)
    assert [scale(value) for value in (1, 10, 100)] == pytest.approx([0, 100, 200])


@pytest.mark.parametrize(
    ("value", "written"), [(43008, "43k"), (585604, "586k"), (1.5e6, "1.5M"), (0.25, "0.25"), (-2e9, "-2G"), (40, "40")]
)
def test_short_numbers(value, written):
    assert short(value) == written


def test_text_and_attributes_are_escaped():
    assert element("text", HOSTILE, data_x='"<') == (
        '<text data-x="&#34;&lt;">&lt;img src=&#34;https://evil.example/x.png&#34; '
        "onerror=&#34;document.title=&#39;owned&#39;&#34;&gt;</text>"
    )


def test_every_picture_is_well_formed_and_described(charts):
    for chart in charts.values():
        root = ElementTree.fromstring(chart.picture)
        assert [each.tag for each in root[:2]] == ["title", "desc"]
        assert root[0].text == chart.title
        assert root[1].text
        assert not re.search("nan|inf", "".join(str(each.attrib) for each in root.iter() if "d" in each.attrib))


def test_bars_are_as_long_as_the_means_and_the_real_reference_is_drawn(charts, board):
    chart = charts["FD(digits-cnn) by group"]
    bars = {
        each.find("title").text: float(each.find("rect").get("width")) for each in marks(chart, ".//g[@data-method]")
    }
    assert len(bars) == 4 * 4
    lengths = {name.rsplit(": ", 1)[1].split(" ")[0]: width for name, width in bars.items()}
    ratios = [width / float(mean) for mean, width in lengths.items()]
    assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-3)
    floors = [each.text for each in marks(chart, ".//g/title") if each.text.startswith("real reference")]
    assert floors == [
        f"real reference, {group}: {20 + rank}" for rank, group in enumerate(("head", "medium", "tail", "all"))
    ]
    assert ("grasp", "tail", "105.5", *(f"{105.5 + sign * 4.30265 / 3**0.5:.4g}" for sign in (-1, 1))) in chart.rows


def ends(drawn):
    """Leftmost and rightmost position of a path."""
    x = [float(each.split()[0]) for each in drawn.get("d")[1:].split("L")]
    return min(x), max(x)


def test_whiskers_reach_over_the_interval(charts, tmp_path):
    bars = marks(charts["FD(digits-cnn) by group"], ".//g[@data-method]")
    whiskers = [bar.find("path[@class='whisker']") for bar in bars]
    assert len(whiskers) == 4 * 4
    half = 4.30265 / 3**0.5  # of the three seeds' 0, 1 and 2
    for bar, whisker in zip(bars, whiskers, strict=True):
        mean = float(bar.find("title").text.rsplit(": ", 1)[1].split(" ")[0])
        length = float(bar.find("rect").get("width"))
        end = float(bar.find("rect").get("x")) + length
        reach = length * half / mean
        assert ends(whisker) == pytest.approx((end - reach, end + reach), abs=0.05)
    (board,) = read_boards(found_runs(make_results(tmp_path, seeds=2)))
    assert not marks(next(metric_charts(board, board.main[0])), ".//path[@class='whisker']")


def test_class_curves_are_means_over_seeds_against_train_counts(charts):
    chart = charts["FD(digits-cnn) of every class, by its training images"]
    assert [row for row in chart.rows if row[0] == "grasp"] == [
        ("grasp", "quince", "4", "26"),
        ("grasp", PEAR, "20", "6"),
        ("grasp", "apple", "100", "2"),
    ]
    methods = marks(chart, ".//g[@data-method]")
    assert len(methods) == 4
    for method in methods:
        rare, middle, frequent = (float(mark.get("cx")) for mark in method.findall(".//circle"))
        assert frequent - middle == pytest.approx(middle - rare, abs=0.02)  # 4, 20 and 100 images
        assert middle - rare > 100
        assert [ends(line) for line in method.findall("path[@class='line']")] == [(rare, frequent)]
    (floor,) = marks(chart, ".//path[@class='reference']")
    assert ends(floor) == (rare, frequent)


def test_costs_name_the_front(charts):
    chart = charts["FD(digits-cnn) of the tail against its cost"]
    front = [(row[0], row[1]) for row in chart.rows if row[-1] == "yes"]
    assert front == [("grasp", cost) for cost in ("trainable parameters", "training seconds", "NFE per image")]
    assert [each.text for each in marks(chart, ".//text[@class='label']")] == ["grasp"] * 3


def test_groups_that_a_row_of_the_log_did_not_see_are_left_out(charts):
    chart = charts["Training loss by group"]
    assert {row[1] for row in chart.rows} == {"head"}
    assert ("grasp", "head", "0.02", "0.01") in chart.rows
    assert len(marks(chart, ".//path[@class='line']")) == 4


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
    (chart,) = (chart for chart in metric_charts(board, board.main[0]) if "every class" in chart.title)
    assert [row[1] for row in chart.rows] == ["10 classes"] * 40
    assert chart.rows[0] == ("grasp", "10 classes", "5.5", "4.5")
    assert "averaged to 40 points" in chart.caption
