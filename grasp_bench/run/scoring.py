"""From features and a classifier's probabilities to the scores of a record."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from grasp_bench.contracts.extractor import extractor_label
from grasp_bench.contracts.metric import ClassifierMetric, FeatureMetric, Sets
from grasp_bench.contracts.record import DRAW, Interval, Score, Source, TestSet
from grasp_bench.contracts.task import Split, Task, TaskSettings, membership
from grasp_bench.extractors.inception import is_fid
from grasp_bench.metrics.classification import class_scores, classification_scores
from grasp_bench.metrics.classification_intervals import classification_intervals
from grasp_bench.metrics.groups import ALL, group_members
from grasp_bench.metrics.labelled import LabelledFeatures
from grasp_bench.metrics.protocol import Measured, Protocol
from grasp_bench.metrics.registry import classifier_metrics, feature_metrics
from grasp_bench.metrics.scoring import group_scores, measure
from grasp_bench.run.files import CLASSES, COPIES
from grasp_bench.run.tables import ByClass, class_table, copies_table
from grasp_bench.seeds import rng

DRAWS = 20
"""Draws of equal counts behind the scores of a run: as many as ``grasp-bench score`` makes, so that the two agree."""
RESAMPLES = (100, 1000)
"""Fewest and most resamples behind an interval of a classifier's scores: fewer where there is much to resample."""
MOST_WORK = 2_000_000_000  # probabilities looked at by all resamples: minutes


@dataclass(frozen=True)
class Seen:
    """What one extractor sees in the images of a run."""

    extractor: str
    """Name of the extractor, as a task names it."""
    identity: Mapping[str, str] | None
    """What the extractor is, where the features say it."""
    real: LabelledFeatures
    """Features of test images."""
    fake: LabelledFeatures
    """Features of generated images."""
    train: LabelledFeatures
    """Features of training images."""


@dataclass(frozen=True)
class Evidence:
    """All that the scores of a run are computed from."""

    seen: Sequence[Seen]
    """One for each extractor of the task, in its order."""
    tests: Mapping[str, Split]
    """Test set → its images."""
    probabilities: Mapping[str, Mapping[str, np.ndarray]]
    """What classifiers were trained on → test set → what they predict (classifiers, n, classes)."""


@dataclass(frozen=True)
class Named:
    """What the scores in features of an extractor are called."""

    label: str
    """What titles call the extractor."""
    fid: bool
    """Whether distances may be called FID and KID."""
    several: bool
    """Whether a run has several extractors, so that every title has to name its own."""
    recorded: str | None
    """The extractor of scores; None for the task's first."""

    def title(self, metric: FeatureMetric) -> str:
        """Return the title of a metric."""
        if self.several and not metric.names_extractor:
            return f"{metric.label}({self.label})"
        return metric.title(self.label, self.fid)


def _named(seen: Sequence[Seen]) -> list[Named]:
    return [
        Named(
            extractor_label(each.extractor),
            each.identity is not None and is_fid(each.identity),
            len(seen) > 1,
            each.extractor if number else None,
        )
        for number, each in enumerate(seen)
    ]


def score_run(
    task: Task[TaskSettings], name: str, given: Evidence, only: Collection[str] | None = None
) -> tuple[list[Score], dict[str, str]]:
    """The scores of a run of the task ``name``, and the content of the tables that are kept beside its record.

    ``only`` names the metrics; by default all that are installed and not optional. Raises ValueError as they do.
    """
    names = _named(given.seen)
    classifying = tuple(each for each in classifier_metrics(only) if each.of_sets or not task.multilabel)
    by_extractor = [
        fidelity_and_diversity(task, each.real, each.fake, each.train, feature_metrics(only)) for each in given.seen
    ]
    scores = [score for each in zip(by_extractor, names, strict=True) for score in fidelity_scores(*each)]
    if task.whole_test:
        for seen, named in zip(given.seen, names, strict=True):
            scores += whole_scores(seen, feature_metrics(only), named)
    by_class = scores_of_classes(len(task.classes()), given.tests, given.probabilities, classifying)
    scores += downstream_scores(task, name, given.tests, given.probabilities, classifying, by_class)
    measured = [(each.recorded, found) for each, found in zip(names, by_extractor, strict=True)]
    classes = class_table(task.classes(), measured, given.tests, classifying, by_class)
    first = given.seen[0]
    return scores, {CLASSES: classes, COPIES: copies_table(task.classes(), first.fake, first.train)}


def fidelity_and_diversity(
    task: Task[TaskSettings],
    real: LabelledFeatures,
    fake: LabelledFeatures,
    train: LabelledFeatures,
    metrics: tuple[FeatureMetric, ...],
) -> list[Measured]:
    """Every score of every group and class, from features of test, generated and training images."""
    names, protocol = [info.name for info in task.classes()], Protocol(metrics, draws=DRAWS)
    return group_scores(real, fake, names, group_members(task.class_groups(), task.groups), protocol, train)


def fidelity_scores(scores: Iterable[Measured], named: Named) -> list[Score]:
    """The record's scores of groups, in the features of one extractor."""
    return [
        Score(
            metric=score.metric.name,
            metric_version=score.metric.version,
            label=named.title(score.metric),
            extractor=named.recorded,
            group=score.name,
            scope=score.scope,
            value=score.value,
            direction=score.metric.direction,
            n=score.n,
            interval=None
            if score.low is None or score.high is None
            else Interval(low=score.low, high=score.high, unit=DRAW, units=score.draws),
            reference=score.reference,
            worst=score.worst,
        )
        for score in scores
        if score.scope != "class"
    ]


def whole_scores(given: Seen, metrics: Sequence[FeatureMetric], named: Named) -> list[Score]:
    """Scores of conventional metrics over all test images and as many generated ones, drawn whatever their classes.

    Where one kind has fewer images, as many of the other are drawn. The classes of generated images are equally
    frequent and those of test images are not, so no value is as low as that of training images, which is the reference
    where there are enough of them.
    """
    real, fake, train = given.real.ordered(), given.fake.ordered(), given.train.ordered()
    n = min(len(real.features), len(fake.features))
    enough = [each for each in metrics if each.conventional and n >= each.minimum(Protocol(tuple(metrics)).k)]

    def some(kind: str, each: LabelledFeatures) -> np.ndarray:
        rows = rng("metric-whole", kind).permutation(len(each.features))[:n]
        chosen: np.ndarray = each.features[np.sort(rows)]
        return chosen

    test, found, references = some("real", real), dict[str, float](), dict[str, float]()
    if enough:
        found = measure(Sets(test, some("fake", fake), test), enough)
        if len(train.features) >= n:
            references = measure(Sets(test, some("train", train), test), enough)
    return [
        Score(
            metric=metric.name,
            metric_version=metric.version,
            label=f"{named.title(metric)}, whole test set",
            extractor=named.recorded,
            group=ALL,
            scope="whole test set",
            value=found.get(metric.name),
            direction=metric.direction,
            n=n,
            reference=references.get(metric.name),
        )
        for metric in metrics
        if metric.conventional
    ]


def scores_of_classes(
    classes: int,
    tests: Mapping[str, Split],
    probabilities: Mapping[str, Mapping[str, np.ndarray]],
    metrics: Sequence[ClassifierMetric],
) -> ByClass:
    """Return what :func:`class_scores` makes of what each kind of classifier predicts for each test set."""
    return {
        (source, test): class_scores(split.truth, by_test[test], classes, metrics)
        for (source, by_test), (test, split) in itertools.product(probabilities.items(), tests.items())
    }


def downstream_scores(
    task: Task[TaskSettings],
    name: str,
    tests: Mapping[str, Split],
    probabilities: Mapping[str, Mapping[str, np.ndarray]],
    metrics: Sequence[ClassifierMetric],
    by_class: ByClass,
) -> list[Score]:
    """Scores on real test images of classifiers trained on generated images, real ones and both.

    ``probabilities`` is source → test set → (classifiers, n, classes), and ``by_class`` is their scores. Intervals
    resample patients where these are known.
    """
    scores = []
    for (source, by_test), (test, split) in itertools.product(probabilities.items(), tests.items()):
        members = group_members(task.class_groups())
        groups, key = task.class_groups(), (name, source, test)
        by_group = classification_scores(split.truth, by_class[source, test], groups, metrics)
        resamples = int(np.clip(MOST_WORK // by_test[test].size, *RESAMPLES))
        intervals = classification_intervals(
            split.truth,
            by_test[test],
            by_class[source, test],
            groups,
            metrics,
            key=key,
            units=split.patients,
            resamples=resamples,
        )
        for metric, (group, found) in itertools.product(metrics, by_group.items()):
            value, ends = found.values[metric.name], intervals[group][metric.name]
            scores.append(
                Score(
                    metric=metric.name,
                    metric_version=metric.version,
                    label=metric.label,
                    source=cast(Source, source),
                    test_set=cast(TestSet, test),
                    group=group,
                    value=value,
                    direction=metric.direction,
                    n=found.n,
                    interval=None if ends is None else _interval(ends, split, members[group], found.n),
                )
            )
    return scores


def _interval(ends: tuple[float, float], split: Split, classes: np.ndarray, n: int) -> Interval:
    """The interval of a group's ``classes``."""
    if split.patients is None:
        return Interval(low=ends[0], high=ends[1], unit="image", units=n)
    own = membership(split.truth, int(classes.max()) + 1)[:, classes].any(axis=1)
    patients = len(np.unique(split.patients[own]))
    return Interval(low=ends[0], high=ends[1], unit="patient", units=patients)
