import numpy as np
import pytest
from helpers.predictions import certain, doubtful
from scipy.stats import binomtest

from grasp_bench.metrics import classification_intervals as module
from grasp_bench.metrics.classification import class_scores, classification_scores
from grasp_bench.metrics.classification_intervals import FEWEST, classification_intervals
from grasp_bench.metrics.registry import classifier_metrics
from grasp_bench.metrics.resampling import Side, wilson
from grasp_bench.seeds import rng

GROUPS = np.array(["head", "head", "tail"])
METRICS = classifier_metrics()
SHARES = ("accuracy", "f1", "auroc", "average_precision")


def intervals(labels, probabilities, **chosen):
    values = class_scores(labels, probabilities, len(GROUPS), METRICS)
    return classification_intervals(labels, probabilities, values, GROUPS, METRICS, **{"key": (), **chosen})


def test_every_interval_holds_its_score():
    labels = np.repeat(np.arange(3), [40, 60, 20])
    probabilities = doubtful(labels, 1, classifiers=2)
    scores = classification_scores(labels, class_scores(labels, probabilities, 3, METRICS), GROUPS, METRICS)
    for group, found in intervals(labels, probabilities).items():
        assert list(found) == [metric.name for metric in METRICS]
        for score in SHARES:
            low, high = found[score]
            assert 0 <= low < scores[group].values[score] < high <= 1


def test_the_variance_is_that_of_a_share():
    """Wilson's interval of one class's recall needs no resampling: resampling must agree with it."""
    labels = np.repeat(np.arange(3), [40, 60, 50])
    predictions = labels.copy()
    predictions[100:115] = 0
    found = intervals(labels, certain(predictions), resamples=4000)["tail"]["accuracy"]
    assert found == pytest.approx(tuple(binomtest(35, 50).proportion_ci(method="wilson")), abs=0.01)


def test_wilson():
    for successes, n in ((0, 5), (3, 10), (49, 50), (50, 50)):
        expected = tuple(binomtest(successes, n).proportion_ci(method="wilson"))
        assert wilson(successes / n, n, 1.959964) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("images", [4, 10, 60])
def test_a_perfect_classifier_of_few_images_is_not_known_to_be_perfect(images):
    labels = np.repeat(np.arange(3), images)
    found = intervals(labels, certain(labels), resamples=50)
    for score in SHARES:
        low, high = found["tail"][score]
        assert (low < 1 - 1 / images, high) == (True, 1)
        assert found["all"][score][0] > low


def test_there_is_no_interval_of_too_few_images_nor_of_a_count_of_classes():
    labels = np.repeat(np.arange(3), [20, 20, FEWEST - 1])
    found = intervals(labels, doubtful(labels, 0), resamples=50)
    assert [found[group]["accuracy"] is None for group in ("head", "tail", "all")] == [False, True, True]
    assert found["head"]["nonzero_f1"] is None


def test_a_class_without_test_images_counts_in_no_interval(recwarn: pytest.WarningsRecorder):
    labels = np.repeat([0, 1], 10)
    found = intervals(labels, doubtful(labels, 0), resamples=50)
    assert set(found["tail"].values()) == {None}
    assert found["all"]["f1"] == found["head"]["f1"]
    assert not recwarn.list


@pytest.mark.parametrize("spanning", [False, True])
def test_images_of_few_patients_make_wider_intervals(spanning):
    labels = np.repeat(np.arange(3), 30)
    patients = np.array([f"p{row // 5}" for row in range(90)])
    sick = doubtful(labels, 2)
    if spanning:
        patients[[0, 89]] = "everywhere"
    sick[:, ::1] = sick[:, (np.arange(90) // 5) * 5]  # every patient's images are alike
    plain, clustered = (intervals(labels, sick, units=units)["all"] for units in (None, patients))
    for score in ("accuracy", "auroc"):
        assert np.diff(clustered[score]) > 1.5 * np.diff(plain[score])


def test_images_come_with_their_whole_patient_one_fewer_than_there_are_of_its_class():
    labels, patients = np.array([0, 0, 0, 0, 1, 1, 1]), np.array([1, 1, 2, 3, 4, 5, 5])
    (weights,) = module._weights(Side(labels, patients), 50, rng("test"))
    assert (weights[:, [0, 5]] == weights[:, [1, 6]]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 2).all()
    assert (weights[:, [4, 5]].sum(axis=1) == 1).all()


def test_the_interval_is_a_function_of_its_key_and_not_of_memory(monkeypatch: pytest.MonkeyPatch):
    labels = np.repeat(np.arange(3), 30)
    probabilities = doubtful(labels, 3)
    first = intervals(labels, probabilities, key=("run", 0), resamples=40)
    assert intervals(labels, probabilities, key=("run", 1), resamples=40) != first
    monkeypatch.setattr(module, "_CHUNK", 270)
    assert intervals(labels, probabilities, key=("run", 0), resamples=40) == first
