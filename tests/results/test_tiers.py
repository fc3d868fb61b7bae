import numpy as np
import pytest
from helpers.records import boards, metric, record, separated

from grasp_bench.results.comparisons import _can_separate, _compared, with_tiers
from grasp_bench.stats import tiers


def tier(board, group="tail"):
    cells = board.cells[board.cells["group"] == group]
    return {label: None if tier != tier else tier for label, tier in zip(cells["label"], cells["tier"], strict=True)}


def test_methods_that_cannot_be_told_apart_share_a_tier():
    (board,) = boards(separated(8))
    assert tier(board) == {"alike": 1, "best": 1, "last": 2}
    assert "exact permutation test" in board.tiers


def test_where_no_p_could_be_low_enough_there_are_no_tiers_and_a_word_says_why():
    (board,) = boards(separated(5))  # 3 pairs · 2 / 2⁵ = 0.1875
    assert tier(board) == {"alike": None, "best": None, "last": None}
    assert board.tiers == (
        "No tiers: the least p that the exact permutation test can give for 5 paired seeds is 0.0625, 0.188 after "
        "Holm's correction over 3 pairs of methods; 7 seeds could separate at 0.05."
    )


@pytest.mark.parametrize(("seeds", "can"), [(6, False), (7, True)])
def test_the_seeds_that_are_said_to_be_needed_are(seeds, can):
    (board,) = boards(separated(seeds))
    assert (tier(board)["best"] is not None) == can


def test_the_t_test_separates_with_fewer_seeds():
    (board,) = boards(separated(3), test="t")
    assert tier(board) == {"alike": 1, "best": 1, "last": 2}
    assert "paired t test" in board.tiers


def test_where_nothing_differs_all_share_the_first_tier():
    runs = [record(m, seed, [metric("recall", "tail", 0.5 + seed / 10)]) for m in ("a", "b") for seed in range(8)]
    (board,) = boards(runs)
    assert tier(board) == {"a": 1, "b": 1}


def test_one_method_has_no_tier_and_nothing_to_say():
    (board,) = boards([record("a", seed, [metric("recall", "tail", 0.5)]) for seed in range(8)])
    assert tier(board) == {"a": None}
    assert board.tiers == ""


def test_methods_without_seeds_in_common_are_told_of():
    runs = [record(m, seed, [metric("recall", "tail", 0.5)]) for m, at in (("a", 0), ("b", 8)) for seed in (at, at + 1)]
    assert boards(runs)[0].tiers == "No tiers: no two methods share three seeds."


@pytest.mark.parametrize("sizes", [(7, 7), (6, 6), (8, 8, 3), (5, 5, 5, 5), (9, 2, 2), (3, 3)])
def test_what_is_not_compared_could_not_have_been_separated(sizes):
    values = {f"m{at}": {seed: at + seed / 10 for seed in range(size)} for at, size in enumerate(sizes)}
    there = np.array([[seed < size for seed in range(max(sizes))] for size in sizes])
    assert _can_separate(*_compared(there), "permutation") == tiers(values, "higher").can_separate


def test_tiers_are_per_metric_and_group():
    runs = separated(8)
    more = [
        each.model_copy(update={"scores": [*each.scores, metric("recall", "head", 0.5)]})
        for each in runs
        if each.spec.seed < 4
    ] + [each for each in runs if each.spec.seed >= 4]
    (board,) = boards(more)
    assert tier(board, "tail")["last"] == 2
    assert tier(board, "head") == {"alike": None, "best": None, "last": None}  # four seeds
    assert with_tiers(board, "permutation").cells.equals(board.cells)
