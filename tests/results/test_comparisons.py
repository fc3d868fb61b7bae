import numpy as np
import pytest
from helpers.records import boards, metric, record, reported, separated

from grasp_bench.results.comparisons import differences
from grasp_bench.results.formats import rendered
from grasp_bench.results.judging import Column, is_distance, judge


def ranked(board, group="tail"):
    cells = board.cells[(board.cells["group"] == group) & board.cells["primary"]]
    return {each.label: (each.rank_low, each.rank_high, bool(each.could_be_best)) for each in cells.itertuples()}


def runs(name="coverage", seeds=range(5), methods=(("a", 0.8), ("b", 0.7), ("c", 0.3)), groups=("tail",)):
    noise = (0.01, -0.02, 0.015, 0.0, -0.005, 0.02, -0.01, 0.005, 0.012)
    return [
        record(
            m,
            seed,
            [
                metric(name, group, value + noise[(seed + 2 * at) % 9] + 0.02 * seed, lower=name == "fd")
                for group in groups
            ],
        )
        for at, (m, value) in enumerate(methods)
        for seed in seeds
    ]


def test_five_seeds_rank_the_rows_of_a_primary_metric():
    (board,) = boards(runs())
    assert ranked(board) == {"a": (1, 1, True), "b": (2, 2, False), "c": (3, 3, False)}
    assert board.said[0].startswith("Primary metric coverage, tail: rows differ (F(")
    assert "1 of 3 could be best: a." in board.said[0]


def test_other_groups_and_metrics_have_no_ranks_and_are_judged_together():
    (board,) = boards(runs(groups=("head", "tail")))
    assert ranked(board, "head") == {}
    judged = board.judged.set_index("group")
    assert judged["primary"].to_dict() == {"head": False, "tail": True}
    assert any(
        "false discovery rate of 5% over 1 columns" in each and "rows differ in all." in each for each in board.said
    )


def test_distances_are_compared_on_a_log_scale():
    (board,) = boards(runs("fd", methods=(("a", 20.0), ("b", 40.0))))
    assert board.judged["scale"].tolist() == ["log"]
    assert [is_distance(name) for name in ("fd", "kid", "coverage", "vendi", "not-installed")] == [True, *[False] * 4]
    (board,) = boards(runs("fd", methods=(("a", 0.0), ("b", 40.0))))  # no logarithm
    assert board.judged["scale"].tolist() == ["linear"]


def test_rows_with_fewer_than_three_seeds_are_named():
    (board,) = boards([*runs(), record("few", 0, [metric("coverage", "tail", 0.5)])])
    assert "few" not in ranked(board)
    assert "Not compared, with fewer than three seeds: few." in board.said


def test_a_missing_seed_does_not_keep_a_row_from_being_compared():
    (board,) = boards([each for each in runs() if (each.label, each.spec.seed) != ("b", 0)])
    assert ranked(board)["b"] == (2, 2, False)


def test_the_permutation_test_says_that_so_few_seeds_can_show_nothing():
    (board,) = boards(runs(), test="permutation")
    assert ranked(board) == dict.fromkeys("abc", (1, 3, True))
    assert "rows cannot differ: the least p of so many seeds and pairs is 0.188." in board.said[0]
    (board,) = boards(runs(seeds=range(9)), test="permutation")
    assert ranked(board) == {"a": (1, 1, True), "b": (2, 2, False), "c": (3, 3, False)}


def test_one_row_is_not_compared():
    (board,) = boards([record("a", seed, [metric("coverage", "tail", 0.5)]) for seed in range(5)])
    assert (board.said, board.judged) == ((), None)


def test_rows_without_seeds_in_common_are_not_ranked():
    apart = [
        record(m, seed, [metric("coverage", "tail", 0.1 * seed)])
        for m, at in (("a", 0), ("b", 8))
        for seed in range(at, at + 3)
    ]
    (board,) = boards(apart)
    assert not board.cells["primary"].any()


def test_means_over_classes_are_shown_where_a_metric_has_them():
    pooled = metric("coverage", "tail", 0.9)
    mean = pooled.model_copy(update={"scope": "class mean", "value": 0.6})
    (board,) = boards([record("a", 0, [pooled, mean, metric("accuracy", "tail", 0.7)])])
    assert board.cells[["metric", "mean", "scope"]].astype(object).to_numpy().tolist() == [
        ["coverage", pytest.approx(0.6), "class mean"],
        ["accuracy", pytest.approx(0.7), "group"],
    ]


def test_what_is_separated_by_a_wide_margin_is_not_best():
    (board,) = boards(separated(5))
    assert board.judged["p_adjusted"].max() < 0.05


def test_rows_without_shared_seeds_have_no_model_and_other_faults_are_not_hidden():
    def column(**rows):
        every = {name: np.array(each) for name, each in rows.items()}
        return Column(("fd",), "FD", "lower", True, "linear", every)

    absent = np.nan
    apart = column(a=[1.0, 2.0, 4.0, absent, absent, absent], b=[absent, absent, absent, 1.0, 2.0, 5.0])
    assert apart.model is None
    assert column(a=[1.0, 2.0, 4.0, 3.0], b=[2.0, 1.0, 5.0, 3.0]).model is not None
    with pytest.raises(ValueError, match="expected finite values"):
        column(a=[1.0, 2.0, 4.0, np.inf], b=[2.0, 1.0, 5.0, 3.0]).model  # noqa: B018


def sampled(guidances, trained="m", **fields):
    """Runs of samplings of the same weights: one training at each seed."""
    made = runs(methods=[(f"{trained}+{each}", value) for each, value in guidances.items()], **fields)
    stages = [{"train": f"{trained}, seed {each.spec.seed}"} for each in made]
    return [each.model_copy(update={"stages": of}) for each, of in zip(made, stages, strict=True)]


def test_rows_of_the_same_weights_are_compared_by_paired_tests_beside_rows_of_others():
    """Their errors go together, which the model of methods and seeds does not know."""
    one, other = sampled({"none": 0.8, "cfg": 0.7}), sampled({"none": 0.6}, trained="n")
    (mixed,) = boards([*one, *other])
    assert mixed.mixed
    assert mixed.said[0].startswith("Some rows sample the same trained weights")
    assert "smallest corrected p of all pairs" in mixed.said[1]
    (found,) = differences([mixed], "m+none", "model")
    assert found.test == "t"
    assert "paired t test" in found.notes[0]
    for view in ("tables", "summary", "findings"):
        text = rendered(reported([*one, *other], baseline="m+none", view=view), "markdown").decode()
        assert text.count("Some rows sample the same trained weights") == 1, view
    (asked,) = boards([*one, *other], "permutation")
    assert "permutation" in " ".join(asked.said)
    assert not any("same trained weights" in each for each in asked.said)


def test_rows_that_all_sample_the_same_weights_or_all_other_ones_have_the_model():
    """What a training adds at a seed is then the same for all rows, or one row's own."""
    for made in (sampled({"none": 0.8, "cfg": 0.7, "apg": 0.6}), runs(), [*sampled({"a": 1.0}), *runs()]):
        (board,) = boards(made)
        assert not board.mixed
        assert "(F(" in board.said[0]


def test_samplings_of_two_trainings_are_told_apart_by_chance_no_more_often_than_said():
    stream = np.random.default_rng(0)
    found = {"model": [], "t": []}
    for _ in range(300):
        trainings = stream.normal(size=(2, 5)).repeat(3, axis=0)
        every = {str(row): each for row, each in enumerate(trainings + 0.3 * stream.normal(size=(6, 5)))}
        column = Column(("coverage", "1", "generated", "test", "", "tail"), "", "higher", True, "linear", every)
        for procedure, p in found.items():
            p.append(judge(column, procedure).line["p"])
    assert np.mean(np.less(found["model"], 0.05)) > 0.1
    assert np.mean(np.less(found["t"], 0.05)) < 0.06
