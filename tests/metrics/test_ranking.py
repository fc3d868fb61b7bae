import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from grasp_bench.metrics.classifiers import ranking


@pytest.mark.parametrize("digits", [1, 8])  # one digit: most scores are tied
def test_agrees_with_scikit_learn_for_any_weights(digits: int):
    state = np.random.RandomState(digits)
    positive, scores = state.rand(60) < 0.3, state.rand(60).round(digits)
    weights = state.poisson(1, (5, 60)).astype(float)
    expected = [
        (roc_auc_score(positive, scores, sample_weight=w), average_precision_score(positive, scores, sample_weight=w))
        for w in weights
    ]
    found = np.stack(ranking(positive, scores, weights.T), axis=1)
    assert found == pytest.approx(np.array(expected))


def test_a_class_of_no_weight_has_no_value():
    positive, scores = np.array([True, False, False]), np.array([0.5, 0.2, 0.9])
    weights = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    area, precision = ranking(positive, scores, weights.T)
    assert area == pytest.approx([np.nan, np.nan, 0.5], nan_ok=True)
    assert precision == pytest.approx([np.nan, 1, 0.5], nan_ok=True)
