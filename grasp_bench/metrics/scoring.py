"""Every metric of every group and class at equal counts, beside what held-out real images score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from grasp_bench.metrics._arrays import as_labels, as_pair
from grasp_bench.metrics.counts import Counts, plan_counts
from grasp_bench.metrics.groups import draw, split_halves
from grasp_bench.metrics.kernel import kernel_distance_subsets
from grasp_bench.metrics.protocol import IRS_ENDS, LOWER_IS_BETTER, METRICS, Protocol, measure
from grasp_bench.metrics.resampling import Redraws, mean_redraws, redraw
from grasp_bench.metrics.score import Kind, Score, over_draws
from grasp_bench.seeds import rng

KERNEL_SUBSETS = 20  # halves behind the standard error of the kernel distance


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Features (n, d) with their class indices (n,)."""

    features: np.ndarray
    labels: np.ndarray
    ids: Sequence[str] | None = None
    """With them (n,) draws do not depend on the order of rows."""
    units: np.ndarray | None = None
    """What each image comes or goes with when units are resampled (n,); by default itself."""

    def ordered(self) -> LabelledFeatures:
        """The same in the order of ids."""
        if self.ids is None:
            return self
        ids = self.ids
        order = np.array(sorted(range(len(ids)), key=lambda row: ids[row]), dtype=np.int64)
        units = None if self.units is None else self.units[order]
        return LabelledFeatures(self.features[order], self.labels[order], None, units)


def group_scores(
    real: LabelledFeatures,
    fake: LabelledFeatures,
    names: Sequence[str],
    members: Mapping[str, np.ndarray],
    protocol: Protocol,
    train: LabelledFeatures | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Score]:
    """Scores of the groups in ``members`` (group → class indices) and, of several classes, of each and together.

    Every draw splits the real images of each class into random halves A and B. Images of A are compared with as many
    generated ones, and for the floor with as many of B. Draws depend on the seed, the counts, the names of classes
    and groups, and the images' ids: not on the order of either, and floors not on what was generated. IRS and
    authenticity are of all ``train`` images of a group's classes; without them IRS is of the images of A. IRS is
    ``irs_inf``; ``irs_adjusted`` is IRS over that of as many images of B. Groups and classes of which there are too
    few images (:func:`~grasp_bench.metrics.counts.plan_counts`) have no value.

    ``advance(1)`` is called after every group and every class.

    Raises ValueError as the metrics do, and for labels that are not of a class.
    """
    as_pair(real.features, fake.features, minimum=1)
    for title, each in (("real", real), ("fake", fake), ("train", train)):
        if each is not None:
            as_labels(f"{title} labels", each.labels, len(each.features), len(names))
    real_counts, fake_counts = (np.bincount(each.labels, minlength=len(names)) for each in (real, fake))
    counts = plan_counts(real_counts, fake_counts, members, protocol)
    sets = _Sets(real.ordered(), fake.ordered(), train.ordered() if train else None, names, protocol)
    several = len(names) > 1
    classes: dict[int, _Values] = {}
    for index, name in enumerate(names if several else []):
        if counts.class_n is not None and counts.available[index] >= protocol.least:
            classes[index] = _values(sets, [index], ("class", name), counts.class_n)
        advance(1)
    scores: list[Score] = []
    for group, indices in members.items():
        scores += _group(sets, group, indices, counts)
        if several:
            scores += _together(sets, group, indices, classes, counts)
        advance(1)
    return scores + [
        classes[index].score(metric, "class", name)
        if index in classes
        else Score(metric, "class", name, int(counts.available[index]))
        for index, name in enumerate(names if several else [])
        for metric in protocol.scores
    ]


class _Sets:
    """The sets in one order, and the halves of the real one in every draw."""

    def __init__(
        self,
        real: LabelledFeatures,
        fake: LabelledFeatures,
        train: LabelledFeatures | None,
        names: Sequence[str],
        protocol: Protocol,
    ) -> None:
        self.real, self.fake, self.train, self.names, self.protocol = real, fake, train, names, protocol
        order = self.by_name(range(len(names)))
        self.halves = [
            split_halves(real.labels, order, rng("metric-halves", protocol.seed, number))
            for number in range(protocol.draws)
        ]

    def by_name(self, classes: Sequence[int] | np.ndarray) -> list[int]:
        """Class indices in the order of their names, which is that of no caller."""
        return sorted(map(int, classes), key=lambda index: self.names[index])

    def rows(
        self, number: int, classes: list[int], key: tuple[str, ...], n: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of ``n`` real, held-out real and generated images in draw ``number``: (n,), (n,), (n,)."""
        full: tuple[str | int, ...] = (self.protocol.seed, number, *key)
        a, b = self.halves[number]
        stream = rng("metric-real", *full)
        reference = a[draw(self.real.labels[a], classes, n, stream)]
        held_out = b[draw(self.real.labels[b], classes, n, stream)]
        return reference, held_out, draw(self.fake.labels, classes, n, rng("metric-fake", *full))


@dataclass(frozen=True, eq=False)
class _Values:
    """What one group or class scores."""

    n: int
    train_n: int
    pairs: dict[str, np.ndarray]
    """Score → its value and floor in every draw: (draws, 2)."""
    redraws: Redraws | None

    def score(self, metric: str, kind: Kind, name: str) -> Score:
        if metric not in self.pairs:
            return Score(metric, kind, name, self.train_n)
        score = over_draws(metric, kind, name, self.n, self.pairs[metric])
        exact = None
        if metric == "irs" and IRS_ENDS[0] in self.pairs:
            low, high = (float(self.pairs[end][:, 0].mean()) for end in IRS_ENDS)
            exact = (low, high)
        bootstrap = None
        if self.redraws is not None and score.value is not None and metric not in METRICS["irs"]:
            bootstrap = self.redraws.interval(metric, score.value)
        return replace(score, exact=exact, bootstrap=bootstrap)


def _values(sets: _Sets, classes: Sequence[int] | np.ndarray, key: tuple[str, ...], n: int) -> _Values:
    """Scores of ``classes`` together, on ``n`` images of each kind in every draw."""
    protocol, real, fake, order = sets.protocol, sets.real.features, sets.fake.features, sets.by_name(classes)
    train = None if sets.train is None else sets.train.features[np.isin(sets.train.labels, order)]
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(protocol.draws):
        reference, held_out, generated = sets.rows(number, order, key, n)
        values = measure(real[reference], fake[generated], real[held_out], train, protocol)
        floors = measure(real[reference], real[held_out], real[held_out], train, protocol)
        for score, value in values.items():
            found.setdefault(score, []).append((value, floors[score]))
    pairs = {score: np.array(each) for score, each in found.items()}
    redraws = _redraws(sets, order, key, n, train) if protocol.resamples else None
    return _Values(n, 0 if train is None else len(train), pairs, redraws)


def _redraws(sets: _Sets, classes: list[int], key: tuple[str, ...], n: int, train: np.ndarray | None) -> Redraws:
    """Resamples of the units of the first draw's images; not of IRS, which counts different images."""
    reference, _, generated = sets.rows(0, classes, key, n)
    real, fake = sets.real.features[reference], sets.fake.features[generated]
    part = replace(sets.protocol, metrics=tuple(metric for metric in sets.protocol.metrics if metric != "irs"))
    units = [
        rows if each.units is None else each.units[rows]
        for each, rows in ((sets.real, reference), (sets.fake, generated))
    ]
    return redraw(
        (units[0], units[1]),
        lambda a, b: measure(real[a], fake[b], real[a], train, part) if min(len(a), len(b)) >= part.least else {},
        part.resamples,
        key=(part.seed, *key),
    )


def _group(sets: _Sets, group: str, classes: np.ndarray, counts: Counts) -> list[Score]:
    """The scores of a group's images pooled."""
    protocol, n = sets.protocol, counts.n
    if counts.groups[group] < n:
        return [Score(metric, "group", group, counts.groups[group], classes=len(classes)) for metric in protocol.scores]
    values = _values(sets, classes, (group,), n)
    scores = [replace(values.score(metric, "group", group), classes=len(classes)) for metric in protocol.scores]
    if "kid" not in protocol.metrics or n < 4:
        return scores
    reference, _, generated = sets.rows(0, sets.by_name(classes), (group,), n)
    real, fake = sets.real.features[reference], sets.fake.features[generated]
    error = kernel_distance_subsets(real, fake, KERNEL_SUBSETS, n // 2, key=(protocol.seed, group)).standard_error
    return [replace(score, standard_error=error) if score.metric == "kid" else score for score in scores]


def _together(
    sets: _Sets, group: str, classes: np.ndarray, by_class: Mapping[int, _Values], counts: Counts
) -> list[Score]:
    """Mean over a group's classes, and the class furthest on the wrong side of its floor; of those scored."""
    means, worst = [], []
    for metric in sets.protocol.scores:
        scored = [int(c) for c in classes if int(c) in by_class and metric in by_class[int(c)].pairs]
        if scored:
            parts = [by_class[c] for c in scored]
            pairs = np.stack([part.pairs[metric] for part in parts])  # (classes, draws, 2)
            excess = (pairs[:, :, 0] - pairs[:, :, 1]).mean(axis=1)
            at = int(excess.argmax() if metric in LOWER_IS_BETTER else excess.argmin())
            together = _Values(parts[0].n, 0, {metric: pairs.mean(axis=0)}, _mean([part.redraws for part in parts]))
            mean = together.score(metric, "class mean", group)
            lowest = replace(parts[at].score(metric, "worst class", group), worst=sets.names[scored[at]])
        else:
            n = int(counts.available[classes].max())
            mean, lowest = Score(metric, "class mean", group, n), Score(metric, "worst class", group, n)
        means.append(replace(mean, classes=len(classes), classes_scored=len(scored)))
        worst.append(replace(lowest, classes=len(classes), classes_scored=len(scored)))
    return means + worst


def _mean(redraws: Sequence[Redraws | None]) -> Redraws | None:
    found = [each for each in redraws if each is not None]
    return mean_redraws(found) if found else None
