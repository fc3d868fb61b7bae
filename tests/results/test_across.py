import pytest
from helpers.records import boards, metric, record, reported
from scipy.stats import friedmanchisquare

from grasp_bench.results.across import across_tasks
from grasp_bench.results.formats import terminal
from grasp_bench.results.tables import sections

VALUES = {"a": (0.9, 0.8, 0.7, 0.9), "b": (0.5, 0.6, 0.9, 0.4), "c": (0.1, 0.7, 0.2, 0.3)}


def runs(tasks=4, methods="abc", seeds=3, **scores):
    return [
        record(
            m,
            seed,
            [metric("recall", "tail", VALUES[m][task] + 0.001 * seed, **scores)],
            task=f"task-{task}",
        )
        for task in range(tasks)
        for m in methods
        for seed in range(seeds)
    ]


def test_ranks_are_those_of_friedman():
    found = across_tasks(boards(runs()), None)
    assert [(each.label, each.mean_rank) for each in found.methods] == [("a", 1.25), ("b", 2.0), ("c", 2.75)]
    expected = friedmanchisquare(*VALUES.values())
    assert (found.chi2, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.tasks == ("task-0", "task-1", "task-2", "task-3")
    assert found.critical_difference == pytest.approx(2.343 * (3 * 4 / (6 * 4)) ** 0.5, rel=1e-3)
    assert found.cliques == (("a", "b", "c"),)


def test_scores_without_a_floor_are_aggregated_as_they_are():
    found = across_tasks(boards(runs()), None)
    best = next(each.aggregate for each in found.methods if each.label == "a")
    assert best.value == pytest.approx(0.85, abs=0.01)  # of four tasks the middle two
    assert best.low <= best.value <= best.high
    assert "as they are" in found.normalised


@pytest.mark.parametrize(("lower", "expected"), [(False, 0.85 / 0.5), (True, 0.5 / 0.85)])
def test_scores_are_normalised_by_the_floor(lower, expected):
    found = across_tasks(boards(runs(lower=lower, floor=0.5)), None)
    aggregate = next(each.aggregate for each in found.methods if each.label == "a")
    assert aggregate.value == pytest.approx(expected, rel=0.02)


def test_a_floor_of_zero_normalises_nothing():
    found = across_tasks(boards(runs(floor=0.0)), None)
    assert all(each.aggregate is None for each in found.methods)
    assert found.normalised.startswith("No interquartile mean")
    assert len(found.methods) == 3  # ranks need no scale


@pytest.mark.parametrize(
    ("few", "reason"),
    [
        ({"tasks": 2}, "it takes 3 tasks with the same 3 methods, and 2 share 3"),
        ({"methods": "ab"}, "it takes 3 tasks with the same 3 methods, and 4 share 2"),
    ],
    ids=["tasks", "methods"],
)
def test_too_little_to_compare_is_told(few, reason):
    report = reported(runs(**few))
    assert reason in report.across_tasks.reason
    assert reason in " ".join(terminal(sections(report), 200).split())


def test_one_task_is_not_spoken_of():
    assert across_tasks(boards(runs(tasks=1)), None) is None


def test_a_task_counts_once_however_many_budgets_it_has():
    smoke = [record("a", 0, [metric("recall", "tail", 0.1)], task="task-0", task_version="2")]
    assert across_tasks(boards(runs() + smoke), None).tasks == ("task-0", "task-1", "task-2", "task-3")


def test_it_is_of_the_score_that_rows_are_sorted_by():
    more = [
        each.model_copy(update={"scores": [*each.scores, metric("fd", "all", 1.0 + each.spec.seed, lower=True)]})
        for each in runs()
    ]
    found = across_tasks(boards(more), "fd:all")
    assert (found.metric, found.group, found.direction) == ("FD(digits-cnn)", "all", "lower")


def test_it_is_printed():
    text = terminal(sections(reported(runs())), 200)
    assert "recall ↑ of tail, over 4 tasks" in text
    assert "Friedman's test: χ² = 4.50, p = 0.1054" in text
    assert "Nemenyi's critical difference: a, b, c." in text
