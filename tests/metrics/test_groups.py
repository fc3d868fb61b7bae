import numpy as np
import pytest

from grasp_bench.metrics import GroupScore, draw, equal_counts, group_members, group_scores, vendi_score

NAMES = ("head", "medium", "tail")
CLASS_GROUPS = np.array(["head"] * 3 + ["medium"] * 3 + ["tail"] * 4)


def features(seed: int, per_class: int, d: int = 8, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of ``per_class`` images of each class, in random order."""
    state = np.random.RandomState(seed)
    labels = state.permutation(np.repeat(np.arange(classes), per_class))
    return state.randn(len(labels), d) + labels[:, None], labels


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
        ([30] * 10, 90),  # three classes of 30
        ([30, 30, 30, 30, 30, 30, 20, 20, 20, 20], 80),  # four classes of 20
        ([30, 30, 30, 30, 30, 30, 20, 20, 21, 21], 82),  # two of which give one more
        ([5, 9, 9, 30, 30, 30, 30, 30, 30, 30], 17),  # 5 + 6 + 6
        ([0] * 10, 0),
    ],
)
def test_equal_counts(available: list[int], expected: int):
    assert equal_counts(CLASS_GROUPS, np.array(available), NAMES) == expected


def test_equal_counts_is_the_largest_that_can_be_drawn():
    state = np.random.default_rng(0)
    for _ in range(50):
        available = state.integers(0, 8, 10)
        labels = np.repeat(np.arange(10), available)
        n = equal_counts(CLASS_GROUPS, available, NAMES)
        members = group_members(CLASS_GROUPS, NAMES).values()
        for classes in members:
            for total in range(n + 1):
                assert len(draw(labels, classes, total, state)) == total
        with pytest.raises(ValueError, match="some class has too few"):
            [draw(labels, classes, n + 1, state) for classes in members]


def test_a_draw_is_even_over_its_classes_and_without_replacement():
    _, labels = features(0, 12)
    classes = np.array([2, 5, 7])
    more = np.zeros(3)
    for seed in range(60):
        indices = draw(labels, classes, 20, np.random.default_rng(seed))
        counts = np.bincount(labels[indices], minlength=10)
        assert len(set(indices.tolist())) == 20 == counts[classes].sum()
        assert sorted(counts[classes]) == [6, 7, 7]
        more += counts[classes] - 6
    assert (more > 30).all()  # 40 each on average: no class is favoured


def test_floors_do_not_depend_on_the_generated_images():
    real, labels = features(0, 40)

    def scores(fake_seed: int, key: int) -> list[GroupScore]:
        fake, fake_labels = features(fake_seed, 30)
        return group_scores(real, fake, labels, fake_labels, CLASS_GROUPS, NAMES, key=("task", key), draws=4)

    first, second, other_key = scores(1, key=0), scores(2, key=0), scores(1, key=1)
    assert first == scores(1, key=0)
    assert [(s.metric, s.group, s.n, s.floor) for s in first] == [(s.metric, s.group, s.n, s.floor) for s in second]
    continuous = [i for i, score in enumerate(first) if score.metric in ("fd", "vendi")]
    assert all(first[i].value != second[i].value for i in continuous)
    assert all(first[i].floor != other_key[i].floor for i in continuous)


def test_every_group_has_every_metric_at_one_count():
    real, labels = features(0, 40)
    fake, fake_labels = features(1, 30)
    scores = group_scores(real, fake, labels, fake_labels, CLASS_GROUPS, NAMES, key=(), draws=3)
    assert [(s.group, s.metric) for s in scores] == [
        (group, metric) for group in (*NAMES, "all") for metric in ("fd", "recall", "coverage", "vendi")
    ]
    assert {(s.n, s.draws) for s in scores} == {(60, 3)}
    assert all(s.low <= s.value <= s.high for s in scores)


def test_real_images_in_place_of_generated_ones_score_about_the_floor():
    real, labels = features(0, 200)
    fake, fake_labels = features(1, 100)
    for score in group_scores(real, fake, labels, fake_labels, CLASS_GROUPS, NAMES, key=(), draws=8):
        assert score.value == pytest.approx(score.floor, rel=0.25, abs=0.05), score


def test_collapsed_images_score_worse_than_the_floor():
    real, labels = features(0, 60)
    fake, fake_labels = features(1, 1)  # one image a class, thirty times with a little noise
    fake, fake_labels = fake.repeat(30, axis=0), fake_labels.repeat(30)
    fake += 1e-3 * np.random.RandomState(2).randn(*fake.shape)
    for score in group_scores(real, fake, labels, fake_labels, CLASS_GROUPS, NAMES, key=()):
        assert (score.value > score.floor) if score.metric == "fd" else (score.value < score.floor), score


def test_the_generated_sets_diversity_is_that_of_the_images_drawn():
    real, labels = features(0, 8)
    fake, fake_labels = features(1, 4)
    scores = group_scores(real, fake, labels, fake_labels, np.array(["one"] * 10), ("one",), key=())
    score = next(s for s in scores if s.metric == "vendi" and s.group == "all")
    assert score.n == 40  # every generated image, in every draw
    assert score.value == pytest.approx(vendi_score(fake))
    assert score.low == pytest.approx(score.high)


def test_few_images_leave_metrics_out():
    real, labels = features(0, 4)
    fake, fake_labels = features(1, 30)
    scores = group_scores(real, fake, labels, fake_labels, CLASS_GROUPS, NAMES, key=(), draws=2)
    assert {s.metric for s in scores} == {"fd", "vendi"}  # N = 6 < k + 2
    assert {s.n for s in scores} == {6}
    scores = group_scores(real, fake, labels, fake_labels, CLASS_GROUPS, NAMES, key=(), draws=2, k=4)
    assert {s.metric for s in scores} == {"fd", "recall", "coverage", "vendi"}
    present = fake_labels > 2  # the head has no generated image
    assert group_scores(real, fake[present], labels, fake_labels[present], CLASS_GROUPS, NAMES, key=()) == []


def test_bad_input():
    real, labels = features(0, 8)
    with pytest.raises(ValueError, match="fake_labels: indices span"):
        group_scores(real, real, labels, labels + 1, CLASS_GROUPS, NAMES, key=())
    with pytest.raises(ValueError, match=r"real_labels: expected shape \(80,\)"):
        group_scores(real, real, labels[1:], labels, CLASS_GROUPS, NAMES, key=())
    with pytest.raises(ValueError, match="real has width 8 and fake 7"):
        group_scores(real, real[:, 1:], labels, labels, CLASS_GROUPS, NAMES, key=())
