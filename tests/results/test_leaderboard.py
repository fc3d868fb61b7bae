import math

import numpy as np
import pytest
from helpers.records import boards, cell, cost, metric, record, reported

from grasp_bench.baselines.coral import Coral
from grasp_bench.baselines.oc import OrientedCalibration
from grasp_bench.results.tables import sections
from grasp_bench.stats import mean_interval


def test_mean_and_interval_over_seeds_are_students():
    values = [0.5, 0.6, 0.7]  # mean 0.6, deviation 0.1; t(0.975, 2) = 4.302653
    (board,) = boards(record("grasp", seed, [metric("recall", "tail", value)]) for seed, value in enumerate(values))
    found = cell(board, "grasp", "tail")
    half = 4.302653 * 0.1 / 3**0.5
    assert (found.mean, found.low, found.high) == pytest.approx((0.6, 0.6 - half, 0.6 + half))
    assert (found.n_seeds, found.n) == (3, 30)
    assert board.costs["seeds"].to_list() == [(0, 1, 2)]
    assert board.costs["provisional"].all()


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 30])
def test_each_interval_is_that_of_its_seeds_alone(seeds):
    values = np.random.default_rng(seeds).normal(100, 30, (2, 3, seeds))
    names = ("head", "tail", "all")
    runs = [
        record(m, seed, [metric("fd", g, values[i, j, seed], lower=True) for j, g in enumerate(names)])
        for i, m in enumerate("ab")
        for seed in reversed(range(seeds))
    ]
    (board,) = boards(runs)
    assert len(board.cells) == 6
    for i, j in np.ndindex(2, 3):
        found, expected = cell(board, "ab"[i], names[j]), mean_interval(values[i, j].tolist())
        assert (found.mean, found.n_seeds) == (pytest.approx(expected.mean), seeds)
        ends = (math.nan, math.nan) if expected.low is None else (expected.low, expected.high)
        assert (found.low, found.high) == pytest.approx(ends, nan_ok=True)


def test_one_seed_without_a_value_leaves_the_cell_without_a_mean():
    scores = [("a", 0, 0.5), ("a", 1, None), ("b", 0, 0.4)]
    (board,) = boards(record(m, seed, [metric("recall", "all", value)]) for m, seed, value in scores)
    found = cell(board, "a", "all")
    assert math.isnan(found.mean)
    assert (found.n_seeds, found.n) == (2, 30)
    assert not cell(board, "b", "all").best  # nothing is worse


def test_a_metric_of_another_version_is_another_table():
    newer = metric("recall", "all", 0.7).model_copy(update={"metric_version": "2"})
    runs = [record("a", 0, [metric("recall", "all", 0.5)]), record("b", 0, [newer])]
    (board,) = boards(runs)
    assert [table["label"].to_list() for table in board.tables] == [["a"], ["b"]]


def test_two_seeds_have_a_mean_without_an_interval_and_are_provisional():
    runs = [record("lora", seed, [metric("recall", "all", value)]) for seed, value in ((0, 0.2), (1, 0.4))]
    (board,) = boards([*runs, record("grasp", 0, [metric("recall", "all", 0.3)])])
    found = cell(board, "lora", "all")
    assert found.mean == pytest.approx(0.3)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert dict(zip(board.costs["label"], board.costs["provisional"], strict=True)) == {"lora": True, "grasp": True}


def test_best_follows_the_direction_and_ties_are_shared():
    (board,) = boards(
        record(method, 0, [metric("fd", "all", fd, lower=True), metric("recall", "all", recall)])
        for method, fd, recall in (("a", 1.0, 0.5), ("b", 2.0, 0.5), ("c", 3.0, 0.4))
    )
    best = board.cells[board.cells["best"]].groupby("metric", observed=True)["label"].agg(sorted)
    assert best.to_dict() == {"fd": ["a"], "recall": ["a", "b"]}


@pytest.mark.parametrize("values", [{"a": 0.5}, {"a": 0.5, "b": 0.5}], ids=["one row", "all equal"])
def test_nothing_is_best_where_nothing_is_worse(values):
    (board,) = boards(record(method, 0, [metric("recall", "all", value)]) for method, value in values.items())
    assert not board.cells["best"].any()


def test_metrics_and_groups_keep_the_order_of_the_records_and_all_comes_last():
    scores = [metric("vendi", group, 1.0) for group in ("all", "head", "medium", "tail")]
    (board,) = boards([record("grasp", 0, [*scores, metric("fd", "all", 1.0, lower=True)])])
    assert list(dict.fromkeys(board.cells["metric"])) == ["vendi", "fd"]
    assert board.tables[0]["group"].to_list() == ["head", "medium", "tail", "all"]


def test_real_references_are_means_over_the_runs():
    (board,) = boards(
        record("grasp", seed, [metric("fd", "tail", 9.0, lower=True, floor=floor)])
        for seed, floor in ((0, 1.0), (1, 2.0))
    )
    assert board.references[["group", "reference"]].to_numpy().tolist() == [["tail", 1.5]]
    assert cell(board, "grasp", "tail").reference == 1.5


def test_cost_is_the_mean_over_seeds():
    score = [metric("recall", "all", 0.5)]
    (board,) = boards(record("grasp", seed, score, cost=cost(s)) for seed, s in ((0, 60.0), (1, 90.0)))
    assert board.costs["train_seconds"].to_list() == [75.0]
    assert board.costs["trainable_parameters"].to_list() == [1234]


def test_a_failed_seed_is_told_and_does_not_touch_the_mean():
    (board,) = boards(
        [
            record("grasp", 0, [metric("recall", "all", 0.5)]),
            record("grasp", 1, [metric("recall", "all", 0.9)], status="failed", reason="loss is NaN at step 7"),
            record("moe", 0, status="skipped", reason="no feed-forwards"),
        ]
    )
    assert cell(board, "grasp", "all").mean == 0.5
    assert board.problems[["label", "seed", "status", "reason"]].to_numpy().tolist() == [
        ["grasp", 1, "failed", "loss is NaN at step 7"],
        ["moe", 0, "skipped", "no feed-forwards"],
    ]


def test_versions_of_a_method_are_rows_apart():
    (board,) = boards(
        record("grasp", seed, [metric("recall", "all", 0.5)], version=version) for seed, version in ((0, "1"), (1, "2"))
    )
    assert [label.partition(" #")[0] for label in board.costs["label"]] == ["grasp", "grasp"]
    assert board.costs["label"].nunique() == 2


def test_runs_of_a_version_that_is_not_installed_say_so(monkeypatch):
    monkeypatch.setattr(OrientedCalibration, "version", "7")
    runs = [record("oc", 0, [metric("recall", "all", 0.5)], version="6", changed={"method": {"flattening": 0.5}})]
    runs += [record("coral", 0, [metric("recall", "all", 0.5)], version=Coral.version)]
    runs += [record("not-installed", 0, [metric("recall", "all", 0.5)])]
    runs += [record("oc", 1, [metric("recall", "all", 0.5)], version="7", label="oc again")]
    report = reported(runs, all=True)
    (board,) = report.leaderboards
    assert board.costs.set_index("label")["versions"].to_dict() == {
        "coral": "",
        "not-installed": "",
        "oc": "version 6 of oc",
        "oc again": "",
    }
    (grid, *_) = [each for each in sections(report)[0].grids if "recall" in each.title]
    assert [row[2].text for row in grid.rows if row[0].text == "oc"] == ["flattening=0.5, version 6 of oc", ""]


def test_versions_of_a_task_are_leaderboards_apart():
    runs = [record("grasp", 0, [metric("recall", "all", 0.5)], task_version=version) for version in ("1", "2")]
    assert sorted(board.task_version for board in boards(runs)) == ["1", "2"]


def test_other_rules_or_extractors_are_leaderboards_apart():
    runs = [record("grasp", seed, [metric("fd", "all", 1.0)]) for seed in range(2)]
    changed = runs[1].model_copy(update={"protocol": {"rules": "1.1"}})
    assert [board.costs["seeds"].map(len).to_list() for board in boards([runs[0], changed])] == [[1], [1]]


def test_leaderboards_that_only_the_protocol_sets_apart_are_told_apart():
    runs = [record("grasp", seed, [metric("fd", "all", 1.0)]) for seed in range(2)]
    changed = runs[1].model_copy(update={"protocol": {"rules": "1.0", "score": "4"}})
    first, second = boards([runs[0], changed])
    assert len({first.protocol, second.protocol, ""}) == 3
    assert [board.protocol for board in boards(runs)] == [""]


def test_groups_are_in_one_order_whichever_class_came_first():
    names = ["tail", "all", "head", "rare", "medium"]
    (board,) = boards([record("grasp", 0, [metric("recall", name, 0.5) for name in names])])
    assert board.cells["group"].tolist() == ["head", "medium", "tail", "rare", "all"]
