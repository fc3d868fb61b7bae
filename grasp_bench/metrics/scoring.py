"""Every metric of every group and class at equal counts, beside what held-out real images score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np

from grasp_bench.contracts.metric import FeatureMetric, Sets
from grasp_bench.contracts.task import membership
from grasp_bench.metrics._arrays import as_labels, as_pair
from grasp_bench.metrics.groups import Counts, draw, plan_counts, split_halves
from grasp_bench.metrics.labelled import LabelledFeatures
from grasp_bench.metrics.protocol import Measured, Protocol, Scope
from grasp_bench.metrics.resampling import Jackknife, Side, jackknife, mean_jackknife
from grasp_bench.seeds import rng


def group_scores(
    real: LabelledFeatures,
    fake: LabelledFeatures,
    names: Sequence[str],
    members: Mapping[str, np.ndarray],
    protocol: Protocol,
    train: LabelledFeatures | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Measured]:
    """Scores of the groups in ``members`` (group → class indices) and, of several classes, of each and together.

    Every draw splits the real images of each class into random halves A and B. Images of A are compared with as many
    generated ones, and for the real reference with as many of B. An image that has several labels counts for each of
    them where classes are scored, and once where they are scored together (:meth:`LabelledFeatures.among`). Draws
    depend on the seed, the counts, the names of classes and groups, and the images' ids: not on the order of either,
    and real references not on what was generated. Metrics that look at training images get all ``train`` images of a
    group's classes. Groups and classes of which there are too few images
    (:func:`~grasp_bench.metrics.groups.plan_counts`) have no value.

    ``advance(1)`` is called after every group and every class.

    Raises ValueError as the metrics do, and for labels that are not of a class.
    """
    as_pair(real.features, fake.features, minimum=1)
    for title, each in (("real", real), ("fake", fake), ("train", train)):
        if each is not None:
            as_labels(f"{title} labels", each.labels, len(each.features), len(names))
    sets = _Sets(real.ordered(), fake.ordered(), train.ordered() if train else None, names, protocol)
    in_groups = {group: sets.available(classes) for group, classes in members.items()}
    counts = plan_counts(sets.each_alone(), in_groups, protocol)
    several = len(names) > 1
    classes: dict[int, _Values] = {}
    for index, name in enumerate(names if several else []):
        if counts.class_n is not None and counts.available[index] >= protocol.least:
            classes[index] = _values(sets, [index], ("class", name), counts.class_n)
        advance(1)
    scores: list[Measured] = []
    for group, indices in members.items():
        scores += _group(sets, group, indices, counts)
        if several:
            scores += _together(sets, group, indices, classes, counts)
        advance(1)
    return scores + [
        classes[index].measured(metric, "class", name)
        if index in classes
        else Measured(metric, "class", name, int(counts.available[index]))
        for index, name in enumerate(names if several else [])
        for metric in protocol.metrics
    ]


@dataclass(frozen=True, eq=False)
class _Sets:
    """The sets in one order, and the halves of the real one in every draw."""

    real: LabelledFeatures
    fake: LabelledFeatures
    train: LabelledFeatures | None
    names: Sequence[str]
    protocol: Protocol

    @cached_property
    def halves(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows of either half of the real images, for every draw."""
        order = self.by_name(range(len(self.names)))
        streams = [rng("metric-halves", self.protocol.seed, number) for number in range(self.protocol.draws)]
        return [split_halves(self.real.among(order), order, stream) for stream in streams]

    def available(self, classes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Images of each of ``classes`` that every draw has of either kind, where these are scored together."""

        def counted(labels: np.ndarray) -> np.ndarray:
            found: np.ndarray = np.bincount(labels[labels >= 0], minlength=len(self.names))[classes]
            return found

        real, given = self.real.among(classes), [counted(self.fake.among(classes))]
        if self.real.sets is None:
            given.append(counted(real) // 2)
        else:
            given += [counted(real[half]) for half in chain.from_iterable(self.halves)]
        least: np.ndarray = np.min(given, axis=0)
        return least

    def each_alone(self) -> np.ndarray:
        """Images of each class that every draw has of either kind, where it is scored alone: (classes,)."""
        everything = np.arange(len(self.names))
        if self.real.sets is None and self.fake.sets is None:
            return self.available(everything)
        return np.concatenate([self.available(everything[index : index + 1]) for index in everything])

    def by_name(self, classes: Sequence[int] | np.ndarray) -> list[int]:
        """Class indices in the order of their names, whatever the order of the caller's."""
        return sorted(map(int, classes), key=lambda index: self.names[index])

    def positions(self, classes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Class index → its place among ``classes`` in the order of names; 0 for others."""
        found = np.zeros(len(self.names), dtype=np.int64)
        found[self.by_name(classes)] = np.arange(len(classes))
        return found

    def shares_units(self, classes: Sequence[int]) -> bool:
        """Whether a unit of either kind, such as a patient, has images of several of ``classes``."""
        for each in (self.real, self.fake):
            if each.units is not None or each.sets is not None:
                truth = each.labels if each.sets is None or each.in_focus else each.sets
                images, labels = np.nonzero(membership(truth, len(self.names)))
                own, units = np.isin(labels, classes), images if each.units is None else each.units[images]
                pairs = set(zip(units[own].tolist(), labels[own].tolist(), strict=True))
                if len(pairs) > len({unit for unit, _ in pairs}):
                    return True
        return False

    def rows(
        self, number: int, classes: list[int], key: tuple[str, ...], n: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of ``n`` real, held-out real and generated images in draw ``number``: (n,), (n,), (n,)."""
        full: tuple[str | int, ...] = (self.protocol.seed, number, *key)
        a, b = self.halves[number]
        stream = rng("metric-real", *full)
        real = self.real.among(classes)
        reference = a[draw(real[a], classes, n, stream)]
        held_out = b[draw(real[b], classes, n, stream)]
        return reference, held_out, draw(self.fake.among(classes), classes, n, rng("metric-fake", *full))


@dataclass(frozen=True, eq=False)
class _Values:
    """What one group or class scores."""

    n: int
    train_n: int
    pairs: dict[str, np.ndarray]
    """Name of a metric → its value and real reference in every draw (draws, 2)."""
    exact: dict[str, tuple[float, float]]
    """Name of a metric → its own interval, the mean over the draws."""
    jackknife: Jackknife | None

    def measured(self, metric: FeatureMetric, scope: Scope, name: str) -> Measured:
        """What ``metric`` gives; without a value where there are none."""
        if metric.name not in self.pairs:
            return Measured(metric, scope, name, self.train_n)
        pairs = self.pairs[metric.name]
        value, reference = pairs.mean(axis=0).tolist()
        low, high = np.percentile(pairs[:, 0], [2.5, 97.5]).tolist()
        exact, resampled = self.exact.get(metric.name), None
        if self.jackknife is not None and metric.resampled:
            resampled = self.jackknife.interval(metric, value, pairs[:, 0])
        spread = float(pairs[:, 0].std(ddof=1)) if len(pairs) > 1 else None
        measured = Measured(metric, scope, name, self.n, value, reference, low, high, spread, len(pairs))
        return replace(measured, exact=exact, bootstrap=resampled)


def measure(sets: Sets, metrics: Sequence[FeatureMetric]) -> dict[str, float]:
    """Name → value of all of ``metrics`` that have one. Raises ValueError as they do, and for NaN and infinity."""
    found = {metric.name: value for metric in metrics if (value := metric.value(sets)) is not None}
    if bad := [name for name, value in found.items() if not np.isfinite(value)]:
        raise ValueError(f"{bad[0]} is {found[bad[0]]}")
    return {name: float(value) for name, value in found.items()}


def _values(sets: _Sets, classes: Sequence[int] | np.ndarray, key: tuple[str, ...], n: int) -> _Values:
    """Scores of ``classes`` together, on ``n`` images of each kind in every draw."""
    protocol, real, fake, order = sets.protocol, sets.real.features, sets.fake.features, sets.by_name(classes)
    train = None if sets.train is None else sets.train.features[np.isin(sets.train.among(order), order)]
    pairs: dict[str, list[tuple[float, float]]] = {}
    ends: dict[str, list[tuple[float, float]]] = {}
    for number in range(protocol.draws):
        rows = sets.rows(number, order, key, n)
        held_out = real[rows[1]]
        given, other = (
            Sets(real[rows[0]], images, held_out, train, protocol.k, protocol.seed)
            for images in (fake[rows[2]], held_out)
        )
        values, references = measure(given, protocol.metrics), measure(other, protocol.metrics)
        for metric in protocol.metrics:
            if metric.name in values and metric.name in references:
                pairs.setdefault(metric.name, []).append((values[metric.name], references[metric.name]))
                if (interval := metric.interval(given)) is not None:
                    ends.setdefault(metric.name, []).append(interval)
    exact = {}
    for name, each in ends.items():
        low, high = np.mean(each, axis=0).tolist()
        exact[name] = (low, high)
    return _Values(
        n,
        0 if train is None else len(train),
        {name: np.array(each) for name, each in pairs.items() if len(each) == protocol.draws},
        exact,
        _jackknife(sets, order, key, n, train) if protocol.resamples else None,
    )


def _jackknife(sets: _Sets, classes: list[int], key: tuple[str, ...], n: int, train: np.ndarray | None) -> Jackknife:
    """Leave out units of all images of ``classes``, real and generated."""
    protocol = sets.protocol
    part = replace(protocol, metrics=tuple(metric for metric in protocol.metrics if metric.resampled))
    counted = [each.among(classes) for each in (sets.real, sets.fake)]
    rows = [np.flatnonzero(np.isin(each, classes)) for each in counted]
    position = sets.positions(classes)
    real, fake = (
        Side(position[labels[own]], own if each.units is None else each.units[own])
        for each, labels, own in zip((sets.real, sets.fake), counted, rows, strict=True)
    )

    def values(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
        reference = sets.real.features[rows[0][a]]
        given = Sets(reference, sets.fake.features[rows[1][b]], reference, train, part.k, part.seed)
        return measure(given, part.metrics)

    def chosen(among: np.ndarray, labels: np.ndarray, size: int, stream: np.random.Generator) -> np.ndarray:
        picked: np.ndarray = among[draw(labels, range(len(classes)), size, stream)]
        return picked

    return jackknife(real, fake, n, values, chosen, part.least, part.resamples, key=(part.seed, *key))


def _group(sets: _Sets, group: str, classes: np.ndarray, counts: Counts) -> list[Measured]:
    """The scores of a group's images pooled."""
    protocol, n = sets.protocol, counts.n
    if counts.groups[group] < n:
        return [Measured(each, "group", group, counts.groups[group], classes=len(classes)) for each in protocol.metrics]
    values = _values(sets, classes, (group,), n)
    counted = [each.among(classes) for each in (sets.real, sets.fake)]
    kept = [np.flatnonzero(np.isin(each, classes)) for each in counted]
    real, fake = (each.features[rows] for each, rows in zip((sets.real, sets.fake), kept, strict=True))
    position = sets.positions(classes)
    strata = position[counted[0][kept[0]]], position[counted[1][kept[1]]]
    whole = Sets(real, fake, real[:0], None, protocol.k, protocol.seed, strata=strata)
    scores = []
    alone = sets.real.units is None and sets.fake.units is None  # images of one patient, say, are not independent
    for metric in protocol.metrics:
        found = values.measured(metric, "group", group)
        error = metric.standard_error(whole, (protocol.seed, group)) if alone else None
        if error is not None and found.spread is not None:  # of all images, and of the choice of draws
            error = float(np.hypot(error, found.spread / np.sqrt(found.draws)))
        scores.append(replace(found, classes=len(classes), standard_error=error))
    return scores


def _together(
    sets: _Sets, group: str, classes: np.ndarray, by_class: Mapping[int, _Values], counts: Counts
) -> list[Measured]:
    """Mean over a group's classes, and the class furthest on the wrong side of its real reference; of those scored."""
    means, worst = [], []
    for metric in sets.protocol.metrics:
        scored = [int(c) for c in classes if int(c) in by_class and metric.name in by_class[int(c)].pairs]
        if scored:
            parts = [by_class[c] for c in scored]
            pairs = np.stack([part.pairs[metric.name] for part in parts])  # (classes, draws, 2)
            excess = (pairs[:, :, 0] - pairs[:, :, 1]).mean(axis=1)
            at = int(excess.argmax() if metric.direction == "lower" else excess.argmin())
            jackknives = [part.jackknife for part in parts if part.jackknife is not None]
            together = _Values(
                parts[0].n,
                0,
                {metric.name: pairs.mean(axis=0)},
                {},
                mean_jackknife(jackknives, metric, shared=sets.shares_units(scored)) if jackknives else None,
            )
            mean = together.measured(metric, "class mean", group)
            lowest = replace(parts[at].measured(metric, "worst class", group), worst=sets.names[scored[at]])
        else:
            n = int(counts.available[classes].max())
            mean, lowest = Measured(metric, "class mean", group, n), Measured(metric, "worst class", group, n)
        means.append(replace(mean, classes=len(classes), classes_scored=len(scored)))
        worst.append(replace(lowest, classes=len(classes), classes_scored=len(scored)))
    return means + worst
