"""All metrics at equal counts: the same numbers as the harness, honest floors, and nothing where n is too small."""

import numpy as np
import pytest

from grasp_bench.metrics import LabelledFeatures, Protocol, group_scores, plan_counts, score_sets

NAMES = [str(number) for number in range(4)]
GROUPS = {"head": np.array([0, 1]), "tail": np.array([2, 3]), "all": np.arange(4)}
EVERY = ("fd", "kid", "prdc", "vendi", "irs", "authenticity")


def features(seed: int, counts: list[int], shift: float = 0.0) -> LabelledFeatures:
    labels = np.repeat(np.arange(len(counts)), counts)
    values = np.random.RandomState(seed).randn(len(labels), 6) + labels[:, None] + shift
    return LabelledFeatures(values, labels)


def by(scores, kind):
    return {(score.name, score.metric): score for score in scores if score.kind == kind}


def test_groups_score_as_in_the_harness():
    real, fake = features(0, [40, 30, 20, 20]), features(1, [20, 20, 12, 12], 0.3)
    class_groups = np.array(["head", "head", "tail", "tail"])
    expected = group_scores(
        real.features,
        fake.features,
        real.labels,
        fake.labels,
        class_groups,
        ("head", "tail"),
        draws=3,
        key=(0,),
    )
    found = by(score_sets(real, fake, NAMES, GROUPS, Protocol(EVERY, draws=3)), "group")
    for score in expected:
        mine = found[score.group, score.metric]
        assert (mine.value, mine.floor, mine.n) == (score.value, score.floor, score.n)
        assert (mine.low, mine.high, mine.draws) == (score.low, score.high, score.draws)


def test_floors_do_not_depend_on_what_was_generated():
    real = features(0, [40, 30, 20, 20])
    scores = [
        score_sets(real, features(seed, [12] * 4, shift), NAMES, GROUPS, Protocol(EVERY, draws=2))
        for seed, shift in ((1, 0.0), (2, 3.0))
    ]
    for kind in ("group", "class mean", "class"):
        floors = [{key: score.floor for key, score in by(each, kind).items()} for each in scores]
        assert floors[0] == floors[1]
    far = by(scores[1], "group")["all", "fd"]
    assert far.excess == far.value - far.floor > 10


def test_classes_that_are_too_small_have_no_number_but_a_row():
    real, fake = features(0, [40, 30, 20, 6]), features(1, [20, 20, 12, 9])
    scores = score_sets(real, fake, NAMES, GROUPS, Protocol(EVERY, draws=2, k=3))
    classes, means, worst = (by(scores, kind) for kind in ("class", "class mean", "worst class"))
    assert classes["3", "fd"].value is None
    assert classes["3", "fd"].n == 3
    assert classes["0", "fd"].n == classes["2", "fd"].n == 10
    assert means["tail", "fd"].value == worst["tail", "fd"].value == classes["2", "fd"].value
    assert worst["tail", "fd"].worst == "2"
    assert (means["all", "fd"].classes_scored, means["all", "fd"].classes) == (3, 4)
    assert means["all", "kid"].value == pytest.approx(np.mean([classes[str(c), "kid"].value for c in range(3)]))
    tail = [
        s for s in score_sets(real, fake, NAMES, {"t": np.array([3]), **GROUPS}, Protocol(("fd",))) if s.name == "t"
    ]
    assert [s.value is None for s in tail] == [False] * 3  # Fréchet distance alone needs two images


def test_a_group_without_a_class_that_is_large_enough():
    real, fake = features(0, [40, 40, 8, 8]), features(1, [20, 20, 9, 9])
    (row,) = [
        s
        for s in score_sets(real, fake, NAMES, GROUPS, Protocol(("prdc",), draws=1))
        if (s.kind, s.name, s.metric) == ("class mean", "tail", "recall")
    ]
    assert (row.value, row.n, row.classes_scored) == (None, 4, 0)


def test_the_worst_class_is_the_one_that_is_furthest_from_its_floor():
    real, fake = features(0, [30] * 4), features(1, [15] * 4)
    fake.features[fake.labels == 2] += 4
    worst = by(score_sets(real, fake, NAMES, GROUPS, Protocol(("fd", "prdc"), draws=2)), "worst class")
    assert {worst["all", metric].worst for metric in ("fd", "coverage")} == {"2"}


def test_training_images_are_what_is_retrieved_and_copied():
    real, fake = features(0, [30] * 4), features(1, [15] * 4)
    train = features(2, [50] * 4)
    fake.features[fake.labels == 1] = train.features[train.labels == 1][:15]
    protocol = Protocol(("irs", "authenticity"), draws=2)
    classes = by(score_sets(real, fake, NAMES, GROUPS, protocol, train), "class")
    assert classes["1", "authenticity"].value == 0
    assert classes["0", "authenticity"].value > 0.2
    assert classes["0", "authenticity"].floor > 0.2


def test_bootstrap_holds_the_value_and_clusters_widen_it():
    real, fake = features(0, [40]), features(1, [20])
    protocol = Protocol(("fd", "kid", "prdc", "vendi", "irs"), draws=2, resamples=60)
    units = np.arange(40) % 8
    clustered = LabelledFeatures(real.features + np.random.RandomState(3).randn(8, 6)[units] * 3, real.labels, units)
    plain = LabelledFeatures(clustered.features, real.labels)
    widths = []
    for each in (plain, clustered):
        scores = by(score_sets(each, fake, ["all"], {"all": np.arange(1)}, protocol), "group")
        assert scores["all", "irs"].bootstrap is None
        for metric in ("fd", "kid", "recall", "vendi"):
            score = scores["all", metric]
            assert score.bootstrap.low <= score.value <= score.bootstrap.high
        found = scores["all", "fd"].bootstrap
        widths.append(found.high - found.low)
    assert found.real_units <= 8
    assert found.fake_units == 20
    assert widths[1] > widths[0]


def test_a_bootstrap_of_one_unit_says_why_there_is_none():
    real, fake = features(0, [40]), features(1, [20])
    one = LabelledFeatures(real.features, real.labels, np.zeros(40, dtype=int))
    scores = score_sets(one, fake, ["all"], {"all": np.arange(1)}, Protocol(("fd",), draws=1, resamples=10))
    assert scores[0].bootstrap.low is None
    assert "1 unit" in scores[0].bootstrap.reason


@pytest.mark.parametrize(
    ("real", "fake", "options", "message"),
    [
        ([10, 10, 1, 10], [9] * 4, {}, "class '2' has 1 real and 9 generated"),
        ([10, 10, 10, 10], [9, 9, 9, 0], {}, "class '3' has 10 real and 0 generated"),
        ([10, 10, 4, 4], [9] * 4, {"k": 5}, "class '2' has 4 real and 9 generated"),
        ([10, 10, 10, 10], [9] * 4, {"n": 11}, "can give n = 10 of each kind and n = 11"),
        ([10, 10, 10, 10], [9] * 4, {"n": 4}, "for k = 5 neighbours"),
    ],
)
def test_too_few_images_name_the_class_and_its_numbers(real, fake, options, message):
    with pytest.raises(ValueError, match=message):
        plan_counts(np.array(real), np.array(fake), NAMES, GROUPS, Protocol(("fd", "prdc"), **options))
