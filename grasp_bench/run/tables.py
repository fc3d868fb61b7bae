"""The tables beside a record, as CSV: scores of every class, and generated images that copy training images."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from grasp_bench.contracts.metric import ClassifierMetric
from grasp_bench.contracts.task import ClassInfo, Split
from grasp_bench.io import as_csv
from grasp_bench.metrics.classification import classification_scores
from grasp_bench.metrics.labelled import LabelledFeatures
from grasp_bench.metrics.memorisation import NEAR, near_duplicates
from grasp_bench.metrics.protocol import Measured
from grasp_bench.text import to_cell

COPY_COLUMNS = ("generated", "class", "training_image", "its_class", "distance", "ratio")
CLASS_COLUMNS = (
    *("class", "group", "train_images", "metric", "source", "test_set", "extractor"),
    *("n", "value", "reference", "low", "high"),
)
ByClass = Mapping[tuple[str, str], Mapping[str, np.ndarray]]
"""What classifiers were trained on and their test set → name of a metric → (classifiers, classes)."""


def copies_table(classes: Sequence[ClassInfo], fake: LabelledFeatures, train: LabelledFeatures) -> str:
    """CSV: one line for each generated image that is a near duplicate of a training image, the nearest pair first."""
    found = near_duplicates(train.features, fake.features, NEAR)
    assert fake.ids is not None
    assert train.ids is not None
    rows: list[Sequence[object]] = [COPY_COLUMNS]
    for made, original, *distances in zip(found.fake, found.train, found.distance, found.ratio, strict=True):
        pair = (
            fake.ids[made],
            classes[fake.labels[made]].name,
            train.ids[original],
            classes[train.labels[original]].name,
        )
        rows.append((*map(to_cell, pair), *distances))
    return as_csv(rows)


def class_table(
    classes: Sequence[ClassInfo],
    measured: Iterable[tuple[str | None, Iterable[Measured]]],
    tests: Mapping[str, Split],
    metrics: Sequence[ClassifierMetric],
    by_class: ByClass,
) -> str:
    """CSV: one line for each class and score; a value is empty where n is too small.

    ``measured`` holds the scores in the features of each extractor, whose name is None for the task's first.
    """
    known = {each.name: (to_cell(each.name), to_cell(each.group), each.train_count) for each in classes}
    rows: list[Sequence[object]] = [CLASS_COLUMNS]
    for extractor, score in ((extractor, score) for extractor, scores in measured for score in scores):
        if score.scope == "class":
            numbers = (score.n, score.value, score.reference, score.low, score.high)
            rows.append((*known[score.name], score.metric.name, "generated", "test", extractor, *numbers))
    each_alone = np.array([f"class {index}" for index in range(len(classes))])
    metrics = [metric for metric in metrics if not metric.counts_classes]
    for (source, test), values in by_class.items():
        found = classification_scores(tests[test].truth, values, each_alone, metrics)
        for (index, info), metric in itertools.product(enumerate(classes), metrics):
            mine = found[f"class {index}"]
            numbers = (mine.n, mine.values[metric.name], None, None, None)
            rows.append((*known[info.name], metric.name, source, test, None, *numbers))
    return as_csv(rows)
