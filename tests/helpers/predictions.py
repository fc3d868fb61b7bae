"""Probabilities that classifiers of three classes might predict."""

import numpy as np


def certain(predictions: np.ndarray) -> np.ndarray:
    """Probabilities (1, n, 3) of one classifier that knows no doubt."""
    return np.eye(3)[predictions][None]


def doubtful(labels: np.ndarray, seed: int, classifiers: int = 1) -> np.ndarray:
    """Probabilities (classifiers, n, 3) that are right more often than not."""
    state = np.random.RandomState(seed)
    raw = state.gamma(1, size=(classifiers, len(labels), 3)) + np.eye(3)[labels]
    return raw / raw.sum(axis=2, keepdims=True)
