"""All metrics at equal counts: honest references, no number where n is too small, and no trace of any order."""

from dataclasses import replace

import numpy as np
import pytest

from grasp_bench.metrics import vendi_score
from grasp_bench.metrics.groups import require
from grasp_bench.metrics.labelled import LabelledFeatures
from grasp_bench.metrics.protocol import Protocol
from grasp_bench.metrics.registry import chosen
from grasp_bench.metrics.scoring import group_scores

NAMES = [str(number) for number in range(4)]
GROUPS = {"head": np.array([0, 1]), "tail": np.array([2, 3]), "all": np.arange(4)}
EVERY = chosen(["fd", "kid", "prdc", "vendi", "irs", "authenticity"])


def features(seed: int, counts: list[int], shift: float = 0.0) -> LabelledFeatures:
    labels = np.repeat(np.arange(len(counts)), counts)
    values = np.random.RandomState(seed).randn(len(labels), 6) + labels[:, None] + shift
    return LabelledFeatures(values, labels)


def by(scores, scope):
    return {(score.name, score.metric.name): score for score in scores if score.scope == scope}


def test_every_group_has_every_score_at_one_count():
    real, fake = features(0, [40, 30, 20, 20]), features(1, [20, 20, 12, 12], 0.3)
    scores = [s for s in group_scores(real, fake, NAMES, GROUPS, Protocol(EVERY, draws=3)) if s.scope == "group"]
    assert [(s.name, s.metric.name) for s in scores] == [(group, metric.name) for group in GROUPS for metric in EVERY]
    measured = [score for score in scores if score.metric.name != "authenticity"]
    assert {(s.n, s.draws) for s in measured} == {(20, 3)}
    assert all(s.low <= s.value <= s.high for s in measured)
    assert {s.value for s in scores if s.metric.name == "authenticity"} == {None}  # there are no training images


def test_draws_do_not_depend_on_the_order_of_images_classes_or_groups():
    real, fake, train = features(0, [40, 30, 20, 20]), features(1, [20, 20, 12, 12], 0.3), features(2, [20] * 4)
    sets = [
        replace(each, ids=[f"{seed}/{row:03}" for row in range(len(each.labels))])
        for seed, each in enumerate((real, fake, train))
    ]
    protocol = Protocol(EVERY, draws=3, resamples=5)
    expected = {(s.scope, s.name, s.metric.name): s for s in group_scores(*sets[:2], NAMES, GROUPS, protocol, sets[2])}

    turned = np.array([2, 0, 3, 1])  # new index of each class
    shuffled = []
    for seed, each in enumerate(sets):
        order = np.random.RandomState(seed).permutation(len(each.labels))
        ids = [each.ids[row] for row in order]
        shuffled.append(LabelledFeatures(each.features[order], turned[each.labels[order]], ids))
    names = [NAMES[int(np.flatnonzero(turned == index)[0])] for index in range(4)]
    members = {group: turned[GROUPS[group]] for group in ("tail", "all", "head")}
    for score in group_scores(*shuffled[:2], names, members, protocol, shuffled[2]):
        assert (
            score == pytest.approx(expected[score.scope, score.name, score.metric.name], abs=0)
            or score == expected[score.scope, score.name, score.metric.name]
        )


def test_real_images_in_place_of_generated_ones_score_about_the_real_reference():
    real, fake = features(0, [200] * 4), features(1, [100] * 4)
    for score in group_scores(real, fake, NAMES, GROUPS, Protocol(EVERY[:-1], draws=8)):
        if score.scope == "group":
            error = 3 * score.standard_error if score.metric.name == "kid" else 0.05
            assert score.value == pytest.approx(score.reference, rel=0.25, abs=error), score


def test_the_generated_sets_diversity_is_that_of_the_images_drawn():
    real, fake = features(0, [16] * 4), features(1, [8] * 4)
    score = by(group_scores(real, fake, NAMES, GROUPS, Protocol(chosen(["vendi"]), n=16, draws=2)), "group")[
        "tail", "vendi"
    ]
    assert score.value == pytest.approx(vendi_score(fake.features[16:]))  # every generated image, in every draw
    assert score.low == pytest.approx(score.high)


def test_a_group_that_is_too_small_has_no_number_and_holds_nobody_back():
    real, fake = features(0, [40, 40, 4, 4]), features(1, [30, 30, 30, 0])
    found = by(group_scores(real, fake, NAMES, GROUPS, Protocol(chosen(["fd", "prdc"]), draws=2)), "group")
    assert (found["tail", "fd"].value, found["tail", "fd"].n) == (None, 1)
    assert (found["head", "recall"].n, found["all", "recall"].n) == (40, 3)
    assert found["all", "recall"].value is None


def test_infinite_counts_need_more_images():
    real, fake = features(0, [60] * 4), features(1, [60] * 4, 1.0)
    found = by(group_scores(real, fake, NAMES, GROUPS, Protocol(chosen(["fd", "fd_inf"]), draws=2)), "group")
    assert found["all", "fd_inf"].value < found["all", "fd"].value
    small = by(group_scores(features(0, [40] * 4), fake, NAMES, GROUPS, Protocol(chosen(["fd_inf"]), draws=2)), "class")
    assert (small["0", "fd_inf"].value, small["0", "fd_inf"].n) == (None, 20)


def test_irs_is_adjusted_by_held_out_images_and_has_an_interval_of_its_own():
    real, fake, train = features(0, [40] * 4), features(1, [20] * 4), features(2, [30] * 4)
    fake.features[:] = fake.features[fake.labels * 20]  # one image per class
    found = by(group_scores(real, fake, NAMES, GROUPS, Protocol(chosen(["irs"]), draws=3), train), "group")
    score, adjusted = found["all", "irs"], found["all", "irs_adjusted"]
    assert score.exact[0] <= score.value <= score.exact[1] < score.reference
    assert adjusted.reference == 1
    assert adjusted.value < 0.2
    assert adjusted.exact is None


def test_references_do_not_depend_on_what_was_generated():
    real = features(0, [40, 30, 20, 20])
    scores = [
        group_scores(real, features(seed, [12] * 4, shift), NAMES, GROUPS, Protocol(EVERY, draws=2))
        for seed, shift in ((1, 0.0), (2, 3.0))
    ]
    for kind in ("group", "class mean", "class"):
        references = [{key: score.reference for key, score in by(each, kind).items()} for each in scores]
        assert references[0] == references[1]
    far = by(scores[1], "group")["all", "fd"]
    assert far.excess == far.value - far.reference > 10


def test_classes_that_are_too_small_have_no_number_but_a_row():
    real, fake = features(0, [40, 30, 20, 6]), features(1, [20, 20, 12, 9])
    scores = group_scores(real, fake, NAMES, GROUPS, Protocol(EVERY, draws=2, k=3))
    classes, means, worst = (by(scores, kind) for kind in ("class", "class mean", "worst class"))
    assert classes["3", "fd"].value is None
    assert classes["3", "fd"].n == 3
    assert classes["0", "fd"].n == classes["2", "fd"].n == 10
    assert means["tail", "fd"].value == worst["tail", "fd"].value == classes["2", "fd"].value
    assert worst["tail", "fd"].worst == "2"
    assert (means["all", "fd"].classes_scored, means["all", "fd"].classes) == (3, 4)
    assert means["all", "kid"].value == pytest.approx(np.mean([classes[str(c), "kid"].value for c in range(3)]))
    tail = [
        s
        for s in group_scores(real, fake, NAMES, {"t": np.array([3]), **GROUPS}, Protocol(chosen(["fd"])))
        if s.name == "t"
    ]
    assert [s.value is None for s in tail] == [False] * 3  # Fréchet distance alone needs two images


def test_a_group_without_a_class_that_is_large_enough():
    real, fake = features(0, [40, 40, 8, 8]), features(1, [20, 20, 9, 9])
    (row,) = [
        s
        for s in group_scores(real, fake, NAMES, GROUPS, Protocol(chosen(["prdc"]), draws=1))
        if (s.scope, s.name, s.metric.name) == ("class mean", "tail", "recall")
    ]
    assert (row.value, row.n, row.classes_scored) == (None, 4, 0)


def test_the_worst_class_is_the_one_that_is_furthest_from_its_real_reference():
    real, fake = features(0, [30] * 4), features(1, [15] * 4)
    fake.features[fake.labels == 2] += 4
    worst = by(group_scores(real, fake, NAMES, GROUPS, Protocol(chosen(["fd", "prdc"]), draws=2)), "worst class")
    assert {worst["all", metric].worst for metric in ("fd", "coverage")} == {"2"}


def test_training_images_are_what_is_retrieved_and_copied():
    real, fake = features(0, [30] * 4), features(1, [15] * 4)
    train = features(2, [50] * 4)
    fake.features[fake.labels == 1] = train.features[train.labels == 1][:15]
    protocol = Protocol(chosen(["irs", "authenticity"]), draws=2)
    classes = by(group_scores(real, fake, NAMES, GROUPS, protocol, train), "class")
    assert classes["1", "authenticity"].value == 0
    assert classes["0", "authenticity"].value > 0.2
    assert classes["0", "authenticity"].reference > 0.2


def test_an_interval_holds_the_value_and_clusters_widen_it():
    real, fake = features(0, [40]), features(1, [20])
    protocol = Protocol(chosen(["fd", "kid", "prdc", "vendi", "irs"]), draws=2, resamples=60)
    units = np.arange(40) % 8
    clustered = LabelledFeatures(
        real.features + np.random.RandomState(3).randn(8, 6)[units] * 3, real.labels, units=units
    )
    plain = LabelledFeatures(clustered.features, real.labels)
    widths = []
    for each in (plain, clustered):
        scores = by(group_scores(each, fake, ["all"], {"all": np.arange(1)}, protocol), "group")
        assert scores["all", "irs"].bootstrap is None
        assert (scores["all", "kid"].standard_error is None) == (each is clustered)
        for metric in ("fd", "kid", "recall", "vendi"):
            score = scores["all", metric]
            assert score.bootstrap.low <= score.value <= score.bootstrap.high
        found = scores["all", "fd"].bootstrap
        widths.append(found.high - found.low)
    assert found.real_units == 8
    assert found.fake_units == 20
    assert widths[1] > widths[0]


def test_classes_their_mean_and_the_worst_are_resampled_too():
    real, fake = features(0, [30] * 4), features(1, [20] * 4)
    fake.features[fake.labels == 2] += 2
    scores = group_scores(real, fake, NAMES, GROUPS, Protocol(chosen(["fd", "irs"]), draws=2, resamples=40))
    classes, mean, worst = (by(scores, kind) for kind in ("class", "class mean", "worst class"))
    assert worst["all", "fd"].bootstrap == classes["2", "fd"].bootstrap
    for score in (*classes.values(), *mean.values()):
        if score.metric.name == "fd":
            assert score.bootstrap.low < score.value < score.bootstrap.high
    found = mean["all", "fd"].bootstrap
    assert (found.real_units, found.fake_units) == (120, 80)  # all of four classes
    widths = [classes[name, "fd"].bootstrap.high - classes[name, "fd"].bootstrap.low for name in NAMES]
    assert found.high - found.low < np.mean(widths)
    assert mean["all", "irs"].bootstrap is None


def test_an_interval_of_one_unit_says_why_there_is_none():
    real, fake = features(0, [40]), features(1, [20])
    one = LabelledFeatures(real.features, real.labels, units=np.zeros(40, dtype=int))
    scores = group_scores(one, fake, ["all"], {"all": np.arange(1)}, Protocol(chosen(["fd"]), draws=1, resamples=10))
    assert scores[0].bootstrap.low is None
    assert "1 units, at least 5" in scores[0].bootstrap.reason


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
    protocol = Protocol(chosen(["fd", "prdc"]), **options)
    with pytest.raises(ValueError, match=message):
        require(np.array(real), np.array(fake), NAMES, GROUPS, protocol)


def test_bad_input():
    real = features(0, [8] * 4)
    with pytest.raises(ValueError, match="fake labels: indices span"):
        group_scores(real, replace(real, labels=real.labels + 1), NAMES, GROUPS, Protocol(chosen(["fd"])))
    with pytest.raises(ValueError, match=r"real labels: expected shape \(32,\)"):
        group_scores(replace(real, labels=real.labels[1:]), real, NAMES, GROUPS, Protocol(chosen(["fd"])))
    with pytest.raises(ValueError, match="real has width 6 and fake 5"):
        group_scores(real, replace(real, features=real.features[:, 1:]), NAMES, GROUPS, Protocol(chosen(["fd"])))
