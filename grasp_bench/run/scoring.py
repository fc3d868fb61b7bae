"""From features and a classifier's probabilities to the metrics of a record."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from grasp_bench.contracts.record import Interval, Metric
from grasp_bench.contracts.task import ClassInfo, Split, Task, TaskSettings
from grasp_bench.metrics.classification import SCORES, classification_intervals, classification_scores
from grasp_bench.metrics.groups import group_members
from grasp_bench.metrics.memorisation import NEAR, near_duplicates
from grasp_bench.metrics.protocol import LOWER_IS_BETTER, METRICS, Protocol
from grasp_bench.metrics.score import Score
from grasp_bench.metrics.scoring import LabelledFeatures, group_scores

PROTOCOL = Protocol(tuple(metric for metric in METRICS if metric != "fd_inf"))
"""What every run is scored by: the defaults of ``grasp-bench score``, so that the two agree."""
TITLES = {
    "precision": "Precision",
    "recall": "Recall",
    "density": "Density",
    "coverage": "Coverage",
    "vendi": "Vendi score",
    "irs": "IRS",
    "irs_adjusted": "IRS, adjusted",
    "authenticity": "Authenticity",
}
TRAINED_ON = {
    "generated": "generated images",
    "real": "real images",
    "topped-up": "real images topped up with generated ones",
}
TESTED_ON = {"test": ("", ""), "balanced-test": ("_balanced", ", balanced test set")}
"""Test set → what it adds to a metric's key and title."""
CLASSIFIER_SCORES = {
    "balanced_accuracy": ("accuracy", "Balanced accuracy"),
    "macro_f1": ("f1", "Macro F1"),
    "nonzero_f1": ("nonzero_f1", "Classes with nonzero F1"),
    "auroc": ("auroc", "AUROC"),
    "average_precision": ("average_precision", "Average precision"),
}
"""Score → key of the metric and its title."""
RESAMPLES = (100, 1000)
"""Fewest and most resamples behind an interval of a classifier's scores: fewer where there is much to resample."""
MOST_WORK = 2_000_000_000  # probabilities looked at by all resamples: minutes
COPY_COLUMNS = ("generated", "class", "training_image", "its_class", "distance", "ratio")
CLASS_COLUMNS = ("class", "group", "train_images", "metric", "n", "value", "floor", "low", "high")


def fidelity_and_diversity(
    task: Task[TaskSettings], real: LabelledFeatures, fake: LabelledFeatures, train: LabelledFeatures
) -> list[Score]:
    """Every score of every group and class, from features of test, generated and training images."""
    names = [info.name for info in task.classes()]
    return group_scores(real, fake, names, group_members(task.class_groups(), task.groups), PROTOCOL, train)


def fidelity_metrics(scores: Iterable[Score], extractor: str, fid: bool = False) -> list[Metric]:
    """The record's metrics of the scores of groups; ``fid``: whether distances may be called FID and KID."""
    distances = ("FID", "KID") if fid else (f"FD({extractor})", f"KD({extractor})")
    titles = TITLES | dict(zip(("fd", "kid"), distances, strict=True))
    return [
        Metric(
            name=score.metric,
            label=titles[score.metric],
            group=score.name,
            scope=score.kind,
            value=score.value,
            direction="lower" if score.metric in LOWER_IS_BETTER else "higher",
            n=score.n,
            interval=None
            if score.low is None or score.high is None
            else Interval(low=score.low, high=score.high, unit="equal-count draw", units=score.draws),
            floor=score.floor,
            worst=score.worst,
        )
        for score in scores
        if score.kind in ("group", "class mean", "worst class")
    ]


def downstream_metrics(
    task: Task[TaskSettings],
    name: str,
    tests: Mapping[str, Split],
    probabilities: Mapping[str, Mapping[str, np.ndarray]],
) -> list[Metric]:
    """Scores on real test images of classifiers trained on generated images, real ones and both.

    ``probabilities`` is source → test set → (classifiers, n, classes). Intervals resample patients where these are
    known.
    """
    metrics = []
    for (source, by_test), (test, split) in itertools.product(probabilities.items(), tests.items()):
        suffix, where = TESTED_ON[test]
        members = group_members(task.class_groups())
        groups, key = task.class_groups(), (name, source, test)
        scores = classification_scores(split.labels, by_test[test], groups)
        resamples = int(np.clip(MOST_WORK // by_test[test].size, *RESAMPLES))
        intervals = classification_intervals(
            split.labels, by_test[test], groups, key=key, units=split.patients, resamples=resamples
        )
        for score, group in itertools.product(SCORES, scores):
            short, title = CLASSIFIER_SCORES[score]
            found, n = getattr(scores[group], score), scores[group].n
            metrics.append(
                Metric(
                    name=f"{short}_{source}{suffix}",
                    label=f"{title}, trained on {TRAINED_ON[source]}{where}",
                    group=group,
                    value=found,
                    direction="higher",
                    n=n,
                    interval=None if found is None else _interval(intervals[group][score], split, members[group], n),
                )
            )
    return metrics


def _interval(ends: tuple[float, float], split: Split, classes: np.ndarray, n: int) -> Interval | None:
    """The interval of a group's ``classes``; None where a single image or patient stands behind it."""
    if split.patients is None:
        return Interval(low=ends[0], high=ends[1], unit="image", units=n) if n > 1 else None
    patients = len(np.unique(split.patients[np.isin(split.labels, classes)]))
    return Interval(low=ends[0], high=ends[1], unit="patient", units=patients) if patients > 1 else None


def copies_table(classes: Sequence[ClassInfo], fake: LabelledFeatures, train: LabelledFeatures) -> str:
    """CSV: one line for each generated image that is a near duplicate of a training image, the nearest pair first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COPY_COLUMNS)
    found = near_duplicates(train.features, fake.features, NEAR)
    assert fake.ids is not None
    assert train.ids is not None
    for made, original, distance, ratio in zip(found.fake, found.train, found.distance, found.ratio, strict=True):
        name = classes[fake.labels[made]].name
        writer.writerow(
            (fake.ids[made], name, train.ids[original], classes[train.labels[original]].name, distance, ratio)
        )
    return out.getvalue()


def class_table(
    classes: Sequence[ClassInfo],
    scores: Iterable[Score],
    tests: Mapping[str, Split],
    probabilities: Mapping[str, Mapping[str, np.ndarray]],
) -> str:
    """CSV: one line for each class and score; a value is empty where n is too small."""
    by_name = {info.name: info for info in classes}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CLASS_COLUMNS)
    for score in scores:
        if score.kind == "class":
            info = by_name[score.name]
            numbers = (score.n, score.value, score.floor, score.low, score.high)
            writer.writerow((info.name, info.group, info.train_count, score.metric, *numbers))
    each_alone = np.array([f"class {index}" for index in range(len(classes))])
    for (source, by_test), (test, split) in itertools.product(probabilities.items(), tests.items()):
        found = classification_scores(split.labels, by_test[test], each_alone)
        for (index, info), name in itertools.product(enumerate(classes), SCORES):
            if name != "nonzero_f1":
                mine = found[f"class {index}"]
                key = f"{CLASSIFIER_SCORES[name][0]}_{source}{TESTED_ON[test][0]}"
                writer.writerow(
                    (info.name, info.group, info.train_count, key, mine.n, getattr(mine, name), *[None] * 3)
                )
    return out.getvalue()
