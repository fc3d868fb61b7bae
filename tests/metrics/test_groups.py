import numpy as np
import pytest

from grasp_bench.metrics.groups import draw, equal_counts, group_members

NAMES = ("head", "medium", "tail")
CLASS_GROUPS = np.array(["head"] * 3 + ["medium"] * 3 + ["tail"] * 4)


def test_groups_come_in_the_order_asked_for_and_all_last():
    members = group_members(CLASS_GROUPS, ("tail", "head"))
    assert {group: classes.tolist() for group, classes in members.items()} == {
        "tail": [6, 7, 8, 9],
        "head": [0, 1, 2],
        "all": list(range(10)),
    }
    assert list(members) == ["tail", "head", "all"]
    assert list(group_members(CLASS_GROUPS)) == ["head", "medium", "tail", "all"]


def test_groups_without_classes_or_called_all_are_errors():
    with pytest.raises(ValueError, match="group 'rare' has no classes"):
        group_members(CLASS_GROUPS, ("head", "rare"))
    with pytest.raises(ValueError, match="stands for every class"):
        group_members(np.array(["head", "all"]))


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        ([30, 30, 30], 90),
        ([20, 20, 21, 21], 82),  # two of which give one more
        ([5, 9, 9], 17),  # 5 + 6 + 6
        ([0, 3], 1),
        ([0, 0], 0),
    ],
)
def test_equal_counts(available: list[int], expected: int):
    assert equal_counts(np.array(available)) == expected


def test_equal_counts_is_the_largest_that_can_be_drawn():
    state = np.random.default_rng(0)
    for _ in range(50):
        available = state.integers(0, 8, 4)
        labels, classes = np.repeat(np.arange(4), available), np.arange(4)
        n = equal_counts(available)
        for total in range(n + 1):
            assert len(draw(labels, classes, total, state)) == total
        with pytest.raises(ValueError, match="some class has too few"):
            draw(labels, classes, n + 1, state)


def test_a_draw_is_even_over_its_classes_and_without_replacement():
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(10), 12))
    classes = np.array([2, 5, 7])
    more = np.zeros(3)
    for seed in range(60):
        indices = draw(labels, classes, 20, np.random.default_rng(seed))
        counts = np.bincount(labels[indices], minlength=10)
        assert len(set(indices.tolist())) == 20 == counts[classes].sum()
        assert sorted(counts[classes]) == [6, 7, 7]
        more += counts[classes] - 6
    assert (more > 30).all()  # 40 each on average: no class is favoured
