"""From features and predictions to the metrics of a record."""

from __future__ import annotations

import functools

import numpy as np

from grasp_bench.metrics.classification import accuracy_interval, classification_scores
from grasp_bench.metrics.groups import group_scores
from grasp_bench.record import Interval, Metric
from grasp_bench.task import Task, TaskSettings

TITLES = {"recall": "Recall", "coverage": "Coverage", "vendi": "Vendi score"}
TRAINED_ON = {"generated": "generated images", "real": "real images", "both": "both"}
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
        intervals = accuracy_interval(labels, predicted, task.class_groups(), key=(name, source))
        title = f"trained on {TRAINED_ON[source]}"
        for group, score in scores.items():
            metric = functools.partial(Metric, group=group, direction="higher", n=score.n)
            low, high = intervals[group]
            interval = Interval(low=low, high=high, unit="image", units=score.n)
            metrics += [
                metric(
                    name=f"accuracy_{source}",
                    label=f"Balanced accuracy, {title}",
                    value=score.balanced_accuracy,
                    interval=interval,
                ),
                metric(name=f"f1_{source}", label=f"Macro F1, {title}", value=score.macro_f1),
                metric(name=f"nonzero_f1_{source}", label=f"Classes with nonzero F1, {title}", value=score.nonzero_f1),
            ]
    return metrics
