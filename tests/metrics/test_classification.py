import numpy as np
import pytest

from grasp_bench.metrics import ClassificationScores, classification_intervals, classification_scores

GROUPS = np.array(["head", "head", "tail"])


def test_a_case_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    predictions = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    f1 = [2 * 3 / (4 + 5), 2 * 2 / (2 + 3), 0.0]
    scores = classification_scores(labels, predictions, GROUPS)
    assert list(scores) == ["head", "tail", "all"]
    assert scores["head"] == ClassificationScores(
        balanced_accuracy=pytest.approx(7 / 8), macro_f1=pytest.approx((f1[0] + f1[1]) / 2), nonzero_f1=2, n=6
    )
    assert scores["tail"] == ClassificationScores(balanced_accuracy=0, macro_f1=0, nonzero_f1=0, n=2)
    assert scores["all"] == ClassificationScores(
        balanced_accuracy=pytest.approx(1.75 / 3), macro_f1=pytest.approx(sum(f1) / 3), nonzero_f1=2, n=8
    )


def test_a_class_that_is_never_predicted_scores_zero_without_a_warning(recwarn: pytest.WarningsRecorder):
    labels = np.array([0, 1, 2])
    assert classification_scores(labels, np.array([0, 1, 1]), GROUPS)["tail"].macro_f1 == 0
    assert not recwarn.list


def test_the_interval_holds_the_score_and_matches_resampled_images():
    state = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), [40, 60, 20])
    predictions = np.where(state.random(120) < 0.7, labels, (labels + 1) % 3)
    intervals = classification_intervals(labels, predictions, GROUPS, key=("t", 0))
    scores = classification_scores(labels, predictions, GROUPS)
    for group, found in intervals.items():
        for score, (low, high) in found.items():
            assert low <= getattr(scores[group], score) <= high

    resampled = []
    for _ in range(1000):
        redrawn = np.concatenate(
            [state.choice(np.flatnonzero(labels == label), n) for label, n in enumerate([40, 60, 20])]
        )
        resampled.append(classification_scores(labels[redrawn], predictions[redrawn], GROUPS))
    for group in ("tail", "all"):
        for score in ("balanced_accuracy", "macro_f1"):
            expected = np.percentile([getattr(each[group], score) for each in resampled], [2.5, 97.5])
            assert intervals[group][score] == pytest.approx(tuple(expected), abs=0.03)


def test_the_interval_is_a_function_of_its_key():
    labels = np.repeat(np.arange(3), 30)
    predictions = np.where(np.arange(90) % 3 == 0, 0, labels)
    first = classification_intervals(labels, predictions, GROUPS, key=("run", 0))
    assert classification_intervals(labels, predictions, GROUPS, key=("run", 0)) == first
    assert classification_intervals(labels, predictions, GROUPS, key=("run", 1)) != first


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 1, 1], [0, 1, 1], "class 2 has no test images"),
        ([0, 1, 2], [0, 1], r"predictions: expected shape \(3,\)"),
        ([0, 1, 2], [0, 1, 3], r"predictions: indices span \[0, 3\], there are 3 classes"),
        ([-1, 1, 2], [0, 1, 2], r"labels: indices span \[-1, 2\]"),
        ([0.0, 1.0, 2.0], [0, 1, 2], "labels: expected integer"),
    ],
)
def test_bad_input(labels: list[int], predictions: list[int], message: str):
    with pytest.raises(ValueError, match=message):
        classification_scores(np.array(labels), np.array(predictions), GROUPS)
    with pytest.raises(ValueError, match=message):
        classification_intervals(np.array(labels), np.array(predictions), GROUPS, key=())
