import pytest
from helpers.records import cost, metric, record

from grasp_bench.results.leaderboard import leaderboards


def test_mean_and_interval_over_seeds_are_students():
    values = [0.5, 0.6, 0.7]  # mean 0.6, deviation 0.1; t(0.975, 2) = 4.302653
    (board,) = leaderboards(
        record("grasp", seed, [metric("recall", "tail", value)]) for seed, value in enumerate(values)
    )
    cell = board.metrics[0].scores["grasp"]["tail"]
    half = 4.302653 * 0.1 / 3**0.5
    assert (cell.mean, cell.low, cell.high) == pytest.approx((0.6, 0.6 - half, 0.6 + half))
    assert (cell.n_seeds, cell.n) == (3, 30)
    assert board.rows[0].seeds == (0, 1, 2)
    assert not board.rows[0].provisional


def test_two_seeds_have_a_mean_without_an_interval_and_one_is_provisional():
    runs = [record("lora", seed, [metric("recall", "all", value)]) for seed, value in ((0, 0.2), (1, 0.4))]
    (board,) = leaderboards([*runs, record("grasp", 0, [metric("recall", "all", 0.3)])])
    cell = board.metrics[0].scores["lora"]["all"]
    assert cell.mean == pytest.approx(0.3)
    assert (cell.low, cell.high) == (None, None)
    assert {row.label: row.provisional for row in board.rows} == {"lora": False, "grasp": True}


def test_best_follows_the_direction_and_ties_are_shared():
    (board,) = leaderboards(
        record(method, 0, [metric("fd", "all", fd, lower=True), metric("recall", "all", recall)])
        for method, fd, recall in (("a", 1.0, 0.5), ("b", 2.0, 0.5), ("c", 3.0, 0.4))
    )
    best = {table.name: [m for m, cells in table.scores.items() if cells["all"].best] for table in board.metrics}
    assert best == {"fd": ["a"], "recall": ["a", "b"]}


@pytest.mark.parametrize("values", [{"a": 0.5}, {"a": 0.5, "b": 0.5}], ids=["one row", "all equal"])
def test_nothing_is_best_where_nothing_is_worse(values):
    (board,) = leaderboards(record(method, 0, [metric("recall", "all", value)]) for method, value in values.items())
    assert not any(cells["all"].best for cells in board.metrics[0].scores.values())


def test_metrics_and_groups_keep_the_order_of_the_records_and_all_comes_last():
    scores = [metric("vendi", group, 1.0) for group in ("all", "head", "medium", "tail")]
    (board,) = leaderboards([record("grasp", 0, [*scores, metric("fd", "all", 1.0, lower=True)])])
    assert [table.name for table in board.metrics] == ["vendi", "fd"]
    assert board.metrics[0].groups == ("head", "medium", "tail", "all")


def test_floors_are_means_over_the_runs():
    (board,) = leaderboards(
        record("grasp", seed, [metric("fd", "tail", 9.0, lower=True, floor=floor)])
        for seed, floor in ((0, 1.0), (1, 2.0))
    )
    assert board.metrics[0].floors == {"tail": 1.5}
    assert board.metrics[0].scores["grasp"]["tail"].floor == 1.5


def test_cost_is_the_mean_over_seeds():
    score = [metric("recall", "all", 0.5)]
    (board,) = leaderboards(record("grasp", seed, score, cost=cost(s)) for seed, s in ((0, 60.0), (1, 90.0)))
    assert board.rows[0].cost is not None
    assert board.rows[0].cost.train_seconds == 75.0
    assert board.rows[0].cost.trainable_parameters == 1234


def test_a_failed_seed_is_told_and_does_not_touch_the_mean():
    (board,) = leaderboards(
        [
            record("grasp", 0, [metric("recall", "all", 0.5)]),
            record("grasp", 1, [metric("recall", "all", 0.9)], status="failed", reason="loss is NaN at step 7"),
            record("moe", 0, status="skipped", reason="no feed-forwards"),
        ]
    )
    assert board.metrics[0].scores["grasp"]["all"].mean == 0.5
    assert [(p.label, p.seed, p.status, p.reason) for p in board.problems] == [
        ("grasp", 1, "failed", "loss is NaN at step 7"),
        ("moe", 0, "skipped", "no feed-forwards"),
    ]


def test_versions_of_a_method_are_rows_apart():
    (board,) = leaderboards(
        record("grasp", seed, [metric("recall", "all", 0.5)], version=version) for seed, version in ((0, "1"), (1, "2"))
    )
    assert [row.label.partition(" #")[0] for row in board.rows] == ["grasp", "grasp"]
    assert len({row.label for row in board.rows}) == 2


def test_versions_of_a_task_are_leaderboards_apart():
    runs = [record("grasp", 0, [metric("recall", "all", 0.5)], task_version=version) for version in ("1", "2")]
    assert sorted(board.task_version for board in leaderboards(runs)) == ["1", "2"]


def test_other_rules_or_extractors_are_leaderboards_apart():
    runs = [record("grasp", seed, [metric("fd", "all", 1.0)]) for seed in range(2)]
    changed = runs[1].model_copy(update={"protocol": {"rules": "1.1"}})
    assert [len(board.rows[0].seeds) for board in leaderboards([runs[0], changed])] == [1, 1]


def test_leaderboards_that_only_the_protocol_sets_apart_are_told_apart():
    runs = [record("grasp", seed, [metric("fd", "all", 1.0)]) for seed in range(2)]
    changed = runs[1].model_copy(update={"protocol": {"rules": "1.0", "score": "4"}})
    first, second = leaderboards([runs[0], changed])
    assert len({first.protocol, second.protocol, ""}) == 3
    assert [board.protocol for board in leaderboards(runs)] == [""]
