import numpy as np
import pytest
from helpers.predictions import certain, doubtful
from sklearn.metrics import average_precision_score, roc_auc_score

from grasp_bench.metrics.classification import (
    ClassificationScores,
    class_scores,
    classification_scores,
)
from grasp_bench.metrics.registry import classifier_metrics

GROUPS = np.array(["head", "head", "tail"])
METRICS = classifier_metrics()


def scored(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, ClassificationScores]:
    values = class_scores(labels, probabilities, len(GROUPS), METRICS)
    return classification_scores(labels, values, GROUPS, METRICS)


def test_a_case_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    predictions = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    f1 = [2 * 3 / (4 + 5), 2 * 2 / (2 + 3), 0.0]
    scores = scored(labels, certain(predictions))
    assert list(scores) == ["head", "tail", "all"]
    head, tail, everything = scores.values()
    assert (head.values["accuracy"], head.values["f1"]) == pytest.approx((7 / 8, (f1[0] + f1[1]) / 2))
    assert (head.values["nonzero_f1"], head.n) == (2, 6)
    assert (tail.values["accuracy"], tail.values["f1"], tail.values["nonzero_f1"], tail.n) == (0, 0, 0, 2)
    assert everything.values["accuracy"] == pytest.approx(1.75 / 3)
    assert everything.values["f1"] == pytest.approx(sum(f1) / 3)
    # of class 0 three of four images and two of four others are claimed; of class 1 two of two and one of six
    assert head.values["auroc"] == pytest.approx(((0.75 + 1 - 2 / 4) / 2 + (1 + 1 - 1 / 6) / 2) / 2)
    assert tail.values["auroc"] == 0.5
    assert tail.values["average_precision"] == pytest.approx(2 / 8)


def test_ranking_scores_are_scikit_learns_and_several_classifiers_are_averaged():
    labels = np.repeat(np.arange(3), [20, 10, 5])
    probabilities = doubtful(labels, 0, classifiers=2)
    scores = scored(labels, probabilities)
    expected = np.array(
        [
            [
                (roc_auc_score(labels == c, each[:, c]), average_precision_score(labels == c, each[:, c]))
                for c in range(3)
            ]
            for each in probabilities
        ]
    )
    assert scores["tail"].values["auroc"] == pytest.approx(expected[:, 2, 0].mean())
    assert scores["all"].values["average_precision"] == pytest.approx(expected[:, :, 1].mean())
    single = [scored(labels, each[None])["all"].values["f1"] for each in probabilities]
    assert scores["all"].values["f1"] == pytest.approx(np.mean(single))


def test_a_class_that_is_never_predicted_scores_zero_without_a_warning(recwarn: pytest.WarningsRecorder):
    labels = np.array([0, 1, 2])
    assert scored(labels, certain(np.array([0, 1, 1])))["tail"].values["f1"] == 0
    assert not recwarn.list


def test_a_class_without_test_images_counts_in_no_mean(recwarn: pytest.WarningsRecorder):
    labels, predictions = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    scores = scored(labels, certain(predictions))
    assert (scores["tail"].values["auroc"], scores["tail"].values["nonzero_f1"], scores["tail"].n) == (None, None, 0)
    assert scores["all"].values["accuracy"] == scores["head"].values["accuracy"] == 0.75
    assert not recwarn.list


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1, 2], np.ones((3, 3)), r"probabilities: expected shape \(classifiers, 3, 3\), got \(3, 3\)"),
        ([0, 1, 2], np.ones((1, 3, 2)), r"got \(1, 3, 2\)"),
        ([0, 1, 2], np.full((1, 3, 3), np.nan), "probabilities: NaN"),
        ([-1, 1, 2], np.ones((1, 3, 3)), r"labels: indices span \[-1, 2\]"),
        ([0.0, 1.0, 2.0], np.ones((1, 3, 3)), "labels: expected integer"),
    ],
)
def test_bad_input(labels: list[int], probabilities: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        scored(np.array(labels), probabilities)
