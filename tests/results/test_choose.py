from pathlib import Path

import pytest
from helpers.records import boards, framed, metric, record

from grasp_bench.errors import UserError
from grasp_bench.results.options import Options, check_known, chosen

RESULTS = Path("results")


def runs():
    scores = [metric("recall", "all", 0.5), metric("fd", "all", 9.0, lower=True)]
    return framed(
        [
            record("grasp", 0, scores),
            record("grasp", 1, scores, label="grasp~rank=32"),
            record("lora", 0, scores, task="other"),
            record("moe", 0, status="failed"),
        ]
    )


def left(**options):
    return list(dict.fromkeys(chosen(runs(), Options(**options), RESULTS)["label"]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"task": ("other",)}, ["lora"]),
        ({"method": ("grasp",)}, ["grasp", "grasp~rank=32"]),
        ({"method": ("grasp~rank=32", "lora")}, ["grasp~rank=32", "lora"]),
        ({"method": ("grasp~*",)}, ["grasp~rank=32"]),
        ({"method": ("*r*", "moe")}, ["grasp", "grasp~rank=32", "lora", "moe"]),
        ({"guidance": ("cfg",)}, ["grasp", "grasp~rank=32", "lora", "moe"]),
        ({"status": ("failed",)}, ["moe"]),
        ({"status": ("finished", "failed"), "task": ("digits-lt",)}, ["grasp", "grasp~rank=32", "moe"]),
    ],
    ids=str,
)
def test_filters(options, expected):
    assert left(**options) == expected


def test_metrics_are_chosen():
    found = chosen(runs(), Options(metric=("fd",)), RESULTS)
    assert found["label"].to_list() == ["grasp", "grasp~rank=32", "lora", "moe"]
    assert found["metric"].dropna().to_list() == ["fd"] * 3


def test_sources_and_test_sets_are_chosen():
    names = ("fd", "f1_generated", "f1_real", "f1_real_balanced")
    run = framed([record("grasp", 0, [metric(name, "all", 0.5) for name in names])])

    def kept(**options):
        found = chosen(run, Options(**options), RESULTS)
        return found[["metric", "source", "test_set"]].to_numpy().tolist()

    real, balanced = ["f1", "real", "test"], ["f1", "real", "balanced-test"]
    assert kept(source=("real",)) == [real, balanced]
    assert kept(metric=("f1",), source=("real",), test_set=("balanced-test",)) == [balanced]
    with pytest.raises(UserError, match="--source topped-up: no run has it"):
        kept(source=("topped-up",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": ("gras",)}, "--method gras: no run has it. Did you mean 'grasp'?"),
        ({"method": ("grasp+*",)}, "--method grasp+*: no run has it."),
        ({"guidance": ("apg",)}, "--guidance apg: no run has it. There are: cfg."),
        ({"metric": ("recal",)}, "--metric recal: no run has it. Did you mean 'recall'? There are: recall, fd."),
        ({"task": ("faces",)}, "no run of task 'faces' is recorded there. There are runs of: digits-lt, other."),
        ({"task": ("other",), "method": ("moe",)}, "results: no run is all of --task other, --method moe."),
    ],
    ids=str,
)
def test_what_no_run_has_is_named(options, message):
    with pytest.raises(UserError) as caught:
        left(**options)
    assert message in str(caught.value)


def test_of_many_names_the_nearest_are_listed():
    known = [f"lora~rank={rank}" for rank in range(1, 31)]
    with pytest.raises(UserError) as caught:
        check_known("--method", ["lora~rank=3*"], known)
    assert "There are: lora~rank=3," in str(caught.value)
    assert str(caught.value).endswith(" and 20 more.")


def board(**values):
    """The runs of one leaderboard: method → (fd of head, fd of tail, recall of tail)."""
    names = (("fd", "head", True), ("fd", "tail", True), ("recall", "tail", False))
    return [
        record(m, 0, [metric(n, g, v, lower=low) for (n, g, low), v in zip(names, each, strict=True) if v is not None])
        for m, each in values.items()
    ]


def order(runs, key=None):
    return boards(runs, sort=key)[0].costs["label"].to_list()


def test_rows_are_sorted_by_the_first_metric_in_the_tail_best_first():
    (found,) = boards(board(a=(1, 3, 0.1), b=(2, 2, 0.3), c=(3, 1, 0.2)))
    assert found.costs["label"].to_list() == ["c", "b", "a"]
    assert [list(dict.fromkeys(table["label"])) for table in found.tables] == [["c", "b", "a"]] * 2
    assert found.sorted_by == "FD(digits-cnn), tail: lowest first"


def test_rows_are_sorted_by_what_is_asked_for():
    runs = board(a=(1, 3, 0.1), b=(2, 2, 0.3), c=(3, 1, 0.2))
    assert order(runs, "fd:head") == ["a", "b", "c"]
    assert order(runs, "recall") == ["b", "c", "a"]


def test_rows_without_the_score_come_last_and_ties_by_name():
    assert order(board(d=(1, None, 0.1), c=(1, 2, 0.1), b=(1, 2, 0.1), a=(1, None, 0.1))) == ["b", "c", "a", "d"]


@pytest.mark.parametrize(
    ("key", "message"),
    [("kid", "--sort kid: no run has it."), ("fd:tial", "--sort fd:tial: no run has it. Did you mean 'fd:tail'?")],
)
def test_sorting_by_what_is_not_there(key, message):
    with pytest.raises(UserError) as caught:
        order(board(a=(1, 1, 1)), key)
    assert message in str(caught.value)
