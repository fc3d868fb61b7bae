"""Scores of labels: against scikit-learn, against a single label, and without an image that is there twice."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from grasp_bench.downstream.label_sets import thresholds
from grasp_bench.metrics.classification import class_scores, classification_scores
from grasp_bench.metrics.classification_intervals import classification_intervals
from grasp_bench.metrics.groups import group_members
from grasp_bench.metrics.labelled import LabelledFeatures
from grasp_bench.metrics.protocol import Protocol
from grasp_bench.metrics.registry import classifier_metrics, feature_metrics
from grasp_bench.metrics.scoring import _Sets, group_scores

METRICS = [each for each in classifier_metrics() if each.of_sets]
GROUPS = np.array(["head", "head", "tail"])


def drawn(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sets of three labels, none of them empty, and probabilities of two classifiers that say something of them."""
    random = np.random.default_rng(seed)
    sets = random.random((n, 3)) < (0.6, 0.3, 0.15)
    sets[~sets.any(axis=1), 0] = True
    noise = random.normal(size=(2, n, 3))
    return sets, 1 / (1 + np.exp(-(2 * sets - 1 + noise)))


def test_scores_are_scikit_learns() -> None:
    sets, probabilities = drawn()
    values = class_scores(sets, probabilities, 3, METRICS)
    assert set(values) == {"f1", "nonzero_f1", "auroc", "average_precision"}
    for number, each in enumerate(probabilities):
        assert values["average_precision"][number] == pytest.approx(average_precision_score(sets, each, average=None))
        assert values["auroc"][number] == pytest.approx(roc_auc_score(sets, each, average=None))
        assert values["f1"][number] == pytest.approx(f1_score(sets, each >= 0.5, average=None))
    by_group = classification_scores(sets, values, GROUPS, METRICS)
    mean_average_precision = np.mean([average_precision_score(sets, each, average="macro") for each in probabilities])
    assert by_group["all"].values["average_precision"] == pytest.approx(mean_average_precision)
    assert by_group["head"].n == sets[:, :2].any(axis=1).sum()
    assert by_group["tail"].n == sets[:, 2].sum()


def test_resamples_of_one_copy_each_give_the_value() -> None:
    from grasp_bench.contracts.metric import Predictions

    sets, probabilities = drawn()
    for metric in METRICS:
        once = metric.weighted(Predictions(sets, probabilities[0], np.ones((1, len(sets)))))
        assert once[0] == pytest.approx(metric.value(Predictions(sets, probabilities[0])).astype(float))


def test_intervals_resample_patients_who_widen_them() -> None:
    sets, probabilities = drawn(30)
    sets, probabilities = np.repeat(sets, 4, axis=0), np.repeat(probabilities, 4, axis=1)  # each image four times
    values = class_scores(sets, probabilities, 3, METRICS)

    def width(units: np.ndarray | None) -> float:
        found = classification_intervals(
            sets, probabilities, values, GROUPS, METRICS, key=("x",), units=units, resamples=200
        )
        low, high = found["all"]["average_precision"] or (np.nan, np.nan)
        return high - low

    patients = np.repeat(np.arange(30), 4).astype(str)
    assert width(patients) > 1.5 * width(None)
    found = classification_intervals(sets, probabilities, values, GROUPS, METRICS, key=("x",), units=patients)
    assert found["all"]["nonzero_f1"] is None


def test_thresholds_have_the_best_f1_on_validation_images() -> None:
    sets, probabilities = drawn(200)
    logits = np.log(probabilities[0] / (1 - probabilities[0]))
    found = thresholds(sets, logits)
    for index in range(3):
        reached = f1_score(sets[:, index], logits[:, index] >= found[index])
        assert reached == max(f1_score(sets[:, index], logits[:, index] >= cut) for cut in logits[:, index])
    assert thresholds(np.zeros((5, 2), bool), np.ones((5, 2))).tolist() == [0, 0]


def features(shown: np.ndarray, seed: int, **more) -> LabelledFeatures:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(len(shown), 4)) + 3 * shown @ np.eye(3, 4)
    return LabelledFeatures(rows, shown.argmax(axis=1), [f"{seed}/{row:04}" for row in range(len(shown))], **more)


def test_an_image_counts_once_for_the_rarest_of_the_labels_that_are_asked_for() -> None:
    sets = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0], [1, 1, 1]], bool)
    given = LabelledFeatures(np.zeros((4, 1)), np.array([0, 0, 1, 0]), sets=sets, commonest_first=[0, 1, 2])
    assert given.among([0, 1, 2]).tolist() == [1, 2, 1, 2]
    assert given.among([1, 0]).tolist() == [1, 0, 1, 1]
    assert given.among([0]).tolist() == [0, 0, -1, 0]
    in_focus = LabelledFeatures(np.zeros((4, 1)), given.labels, None, None, sets, [0, 1, 2], True)
    assert in_focus.among([0]).tolist() == [0, 0, -1, 0]
    assert in_focus.among([0, 2]).tolist() == [0, -1, -1, -1]


def test_halves_share_no_image_and_draws_hold_none_twice() -> None:
    sets, _ = drawn(120)
    real, fake = (features(sets, seed, sets=sets, commonest_first=[0, 1, 2]) for seed in (0, 1))
    given = _Sets(real.ordered(), fake.ordered(), None, list("abc"), Protocol(tuple(feature_metrics()), draws=5))
    for classes in ([0], [1], [2], [0, 1], [0, 1, 2]):
        n = int(given.available(classes).min()) * len(classes)
        assert n > 0
        for number in range(5):
            reference, held_out, made = given.rows(number, classes, ("x",), n)
            assert len(set(reference) | set(held_out)) == 2 * n
            assert len(set(made)) == n
            assert sets[reference][:, classes].any(axis=1).all()


def test_sets_of_one_label_score_as_labels_do() -> None:
    sets = np.repeat(np.eye(3, dtype=bool), (30, 24, 16), axis=0)
    members, protocol = group_members(GROUPS), Protocol(tuple(feature_metrics(["fd", "coverage"])), draws=3)

    def scores(**more) -> list[float | None]:
        real, fake, train = (features(sets, seed, **more) for seed in (0, 1, 2))
        return [each.value for each in group_scores(real, fake, list("abc"), members, protocol, train)]

    assert scores() == scores(sets=sets, commonest_first=[0, 1, 2])


def test_features_of_the_right_sets_score_better_than_of_others() -> None:
    sets, _ = drawn(200)
    real, good = (features(sets, seed, sets=sets, commonest_first=[0, 1, 2]) for seed in (0, 1))
    swapped = LabelledFeatures(good.features[:, [1, 2, 0, 3]], good.labels, good.ids, None, sets, [0, 1, 2])
    members, protocol = group_members(GROUPS), Protocol(tuple(feature_metrics(["fd"])), draws=3)
    fd = [
        {(each.scope, each.name): each.value for each in group_scores(real, fake, list("abc"), members, protocol)}
        for fake in (good, swapped)
    ]
    for place in (("class", "a"), ("class", "c"), ("group", "head"), ("group", "tail"), ("class mean", "all")):
        assert fd[0][place] < fd[1][place] / 3
