"""From features and predictions to the metrics of a record."""

from __future__ import annotations

import itertools

import numpy as np

from grasp_bench.metrics.classification import classification_intervals, classification_scores
from grasp_bench.metrics.groups import group_scores
from grasp_bench.record import Interval, Metric
from grasp_bench.task import Task, TaskSettings

TITLES = {"recall": "Recall", "coverage": "Coverage", "vendi": "Vendi score"}
TRAINED_ON = {"generated": "generated images", "real": "real images", "both": "both"}
CLASSIFIER_SCORES = (
    ("balanced_accuracy", "accuracy", "Balanced accuracy"),
    ("macro_f1", "f1", "Macro F1"),
    ("nonzero_f1", "nonzero_f1", "Classes with nonzero F1"),
)
"""Score, key of the metric, title."""
K = 5  # nearest neighbours of recall and coverage


def fidelity_and_diversity(
    task: Task[TaskSettings],
    name: str,
    real: np.ndarray,
    fake: np.ndarray,
    real_labels: np.ndarray,
    fake_labels: np.ndarray,
) -> list[Metric]:
    """Fréchet distance, recall, coverage and Vendi score per group, from features (n, d) and (m, d)."""
    scores = group_scores(
        real, fake, real_labels, fake_labels, task.class_groups(), task.groups, k=K, key=(name, "test")
    )
    return [
        Metric(
            name=score.metric,
            label=TITLES.get(score.metric, f"FD({task.extractor})"),
            group=score.group,
            value=score.value,
            direction="lower" if score.metric == "fd" else "higher",
            n=score.n,
            interval=Interval(low=score.low, high=score.high, unit="equal-count draw", units=score.draws),
            floor=score.floor,
        )
        for score in scores
    ]


def downstream(
    task: Task[TaskSettings], name: str, labels: np.ndarray, predictions: dict[str, np.ndarray]
) -> list[Metric]:
    """Scores on real test images of classifiers trained on generated images, real ones and both."""
    metrics = []
    for source, predicted in predictions.items():
        scores = classification_scores(labels, predicted, task.class_groups())
        intervals = classification_intervals(labels, predicted, task.class_groups(), key=(name, source))
        for (score, short, title), group in itertools.product(CLASSIFIER_SCORES, scores):
            low, high = intervals[group][score]
            metrics.append(
                Metric(
                    name=f"{short}_{source}",
                    label=f"{title}, trained on {TRAINED_ON[source]}",
                    group=group,
                    value=getattr(scores[group], score),
                    direction="higher",
                    n=scores[group].n,
                    interval=Interval(low=low, high=high, unit="image", units=scores[group].n),
                )
            )
    return metrics
