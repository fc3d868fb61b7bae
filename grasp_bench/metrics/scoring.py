"""Every metric of every group and class at equal counts, beside what held-out real images score.

The protocol is that of :func:`~grasp_bench.metrics.groups.group_scores`, draw for draw, for a chosen list of metrics,
with class means and worst classes: for one ``key`` both give the same numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from grasp_bench.metrics._arrays import as_labels, as_pair
from grasp_bench.metrics.frechet import frechet_distance
from grasp_bench.metrics.groups import draw, equal_counts, split_halves
from grasp_bench.metrics.kernel import kernel_distance, kernel_distance_subsets
from grasp_bench.metrics.memorisation import authenticity
from grasp_bench.metrics.prdc import prdc
from grasp_bench.metrics.resampling import Resampled, resampled
from grasp_bench.metrics.retrieval import irs
from grasp_bench.metrics.vendi import vendi_score
from grasp_bench.seeds import rng

METRICS: dict[str, tuple[str, ...]] = {
    "fd": ("fd",),
    "kid": ("kid",),
    "prdc": ("precision", "recall", "density", "coverage"),
    "vendi": ("vendi",),
    "irs": ("irs",),
    "authenticity": ("authenticity",),
}
"""What can be asked for, and the scores that each gives."""
LOWER_IS_BETTER = frozenset(["fd", "kid"])
KERNEL_SUBSETS = 20  # halves behind the standard error of the kernel distance


@dataclass(frozen=True)
class Protocol:
    """What is measured, and how."""

    metrics: tuple[str, ...]
    """Keys of :data:`METRICS`."""
    n: int | None = None
    """Images of each kind for every group; by default as many as all can give."""
    draws: int = 20
    k: int = 5
    """Neighbours behind precision, recall, density and coverage."""
    resamples: int = 0
    """Of the bootstrap over units; 0 for none."""
    seed: int = 0

    @property
    def least(self) -> int:
        """The smallest number of images of each kind that every metric is defined for."""
        return self.k + 2 if "prdc" in self.metrics else 2

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores that the metrics give."""
        return tuple(itertools.chain.from_iterable(METRICS[metric] for metric in self.metrics))


@dataclass(frozen=True)
class Counts:
    """How many images of each kind are compared."""

    n: int
    """For every group."""
    class_n: int | None
    """For every class that is scored; None where none is."""
    available: np.ndarray
    """What each class can give: (classes,)."""


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Features (n, d) with their class indices (n,), and the unit (n,) that each comes or goes with."""

    features: np.ndarray
    labels: np.ndarray
    units: np.ndarray | None = None


@dataclass(frozen=True)
class Score:
    """One score of a group, of a class, or of a group's classes together, over draws of images."""

    metric: str
    kind: str
    """"group", "class mean", "worst class" or "class"."""
    name: str
    """Of the group, or of the class."""
    n: int
    """Images of each kind; where there is no value, as many as there are."""
    value: float | None = None
    """Mean over the draws; None where n is too small."""
    floor: float | None = None
    """The same for held-out real images in place of generated ones."""
    low: float | None = None
    """2.5th percentile of the value over the draws."""
    high: float | None = None
    """97.5th percentile of the value over the draws."""
    draws: int = 0
    standard_error: float | None = None
    """Of a group's kernel distance, for the images of one draw."""
    bootstrap: Resampled | None = None
    classes: int | None = None
    """Of a group: how many it has."""
    classes_scored: int | None = None
    """Of a class mean and a worst class: how many it is of."""
    worst: str | None = None
    """Name of the worst class."""

    @property
    def excess(self) -> float | None:
        """Value − floor."""
        return None if self.value is None or self.floor is None else self.value - self.floor


def plan_counts(
    real_counts: np.ndarray,
    fake_counts: np.ndarray,
    names: Sequence[str],
    members: Mapping[str, np.ndarray],
    protocol: Protocol,
) -> Counts:
    """The counts for ``names``' real and generated images (classes,), and groups' class indices ``members``.

    A class gives no more than half of its real images, since the other half is held out for the floor. Classes are
    scored at the smallest number that those which have enough can give, so that they compare with each other too.

    Raises ValueError naming the class and its numbers where there are too few images.
    """
    available = np.minimum(real_counts // 2, fake_counts)

    def found(index: int) -> str:
        return f"class {names[index]!r} has {real_counts[index]} real and {fake_counts[index]} generated images"

    if not available.all():
        raise ValueError(
            f"{found(int(np.argmin(available)))}: at least 2 real ones, half of which are held out for the floor, and "
            "1 generated one are needed. Add some or take the class out of both sets."
        )
    limits = {g: equal_counts(np.full(len(each), "one"), available[each], ["one"]) for g, each in members.items()}
    tightest = min(limits, key=lambda group: limits[group])
    most = limits[tightest]
    rarest = members[tightest][int(np.argmin(available[members[tightest]]))]
    n = most if protocol.n is None else protocol.n
    if n > most or n < protocol.least:
        wanted = (
            f"{protocol.least} of each" if protocol.n is None or protocol.n < protocol.least else f"n = {protocol.n}"
        )
        reason = f" for k = {protocol.k} neighbours" if "prdc" in protocol.metrics and n < protocol.least else ""
        raise ValueError(
            f"{found(rarest)}; half of the real ones are held out for the floor, so group {tightest!r} can give "
            f"n = {most} of each kind and {wanted} are asked for{reason}. Add images, or change n, k or the metrics."
        )
    enough = available[available >= protocol.least]
    class_n = int(enough.min()) if len(enough) else None
    return Counts(n, min(class_n, protocol.n) if class_n and protocol.n else class_n, available)


def score_sets(
    real: LabelledFeatures,
    fake: LabelledFeatures,
    names: Sequence[str],
    members: Mapping[str, np.ndarray],
    protocol: Protocol,
    train: LabelledFeatures | None = None,
) -> list[Score]:
    """Scores of the groups in ``members`` (group → class indices) and, of several classes, of each and together.

    Every draw splits the real images of each class into random halves A and B. Images of A are compared with as many
    generated ones, and for the floor with as many of B. Draws depend on the seed and the counts alone, so that
    floors do not depend on what was generated. IRS and authenticity are of all ``train`` images of a group's classes;
    without them, of the images of A. IRS is ``irs_inf``.

    Raises ValueError as the metrics and :func:`plan_counts` do.
    """
    as_pair(real.features, fake.features, minimum=1)
    sets = [each for each in (real, fake, train) if each is not None]
    for title, each in zip(("real", "fake", "train"), sets, strict=False):
        as_labels(f"{title} labels", each.labels, len(each.features), len(names))
    real_counts, fake_counts = (np.bincount(each.labels, minlength=len(names)) for each in (real, fake))
    plan = plan_counts(real_counts, fake_counts, names, members, protocol)
    scored = np.flatnonzero(plan.available >= protocol.least) if len(names) > 1 else np.array([], dtype=int)
    halves = [
        split_halves(real.labels, rng("metric-halves", protocol.seed, number)) for number in range(protocol.draws)
    ]
    pairs_of = {int(c): _Drawer(real, fake, train, halves, [c], ("class", names[c]), protocol) for c in scored}
    by_class = {c: drawer.values(plan.class_n or 0) for c, drawer in pairs_of.items()}
    scores: list[Score] = []
    for group, classes in members.items():
        drawer = _Drawer(real, fake, train, halves, classes, (group,), protocol)
        scores += _group(group, classes, drawer, plan.n)
        if len(names) > 1:
            scores += _together(group, classes, by_class, names, plan, protocol)
    return scores + [
        _summary(metric, "class", names[c], plan.class_n or 0, by_class[c][metric])
        if c in by_class
        else Score(metric, "class", names[c], int(plan.available[c]))
        for c in range(len(names))
        if len(names) > 1
        for metric in protocol.scores
    ]


def measure(reference: np.ndarray, images: np.ndarray, train: np.ndarray | None, p: Protocol) -> dict[str, float]:
    """Every score of ``images`` (m, d) against real ones ``reference`` (n, d) and, if any, ``train`` (N, d)."""
    found: dict[str, float] = {}
    trained_on = reference if train is None else train
    for metric in p.metrics:
        if metric == "fd":
            found["fd"] = frechet_distance(reference, images)
        elif metric == "kid":
            found["kid"] = kernel_distance(reference, images)
        elif metric == "prdc":
            scores = prdc(reference, images, p.k)
            found |= {name: getattr(scores, name) for name in METRICS["prdc"]}
        elif metric == "vendi":
            found["vendi"] = vendi_score(images)
        elif metric == "irs":
            found["irs"] = irs(trained_on, images).irs_inf
        else:
            found["authenticity"] = authenticity(trained_on, images).share
    return found


class _Drawer:
    """The draws of one group or class."""

    def __init__(
        self,
        real: LabelledFeatures,
        fake: LabelledFeatures,
        train: LabelledFeatures | None,
        halves: list[tuple[np.ndarray, np.ndarray]],
        classes: Sequence[int] | np.ndarray,
        key: tuple[str, ...],
        protocol: Protocol,
    ) -> None:
        self.real, self.fake, self.halves, self.key, self.protocol = real, fake, halves, key, protocol
        self.classes = np.asarray(classes)
        self.train = None if train is None else train.features[np.isin(train.labels, self.classes)]

    def rows(self, number: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of ``n`` real, held-out real and generated images in draw ``number``: (n,), (n,), (n,)."""
        key: tuple[str | int, ...] = (self.protocol.seed, number, *self.key)
        a, b = self.halves[number]
        stream = rng("metric-real", *key)
        reference = a[draw(self.real.labels[a], self.classes, n, stream)]
        held_out = b[draw(self.real.labels[b], self.classes, n, stream)]
        return reference, held_out, draw(self.fake.labels, self.classes, n, rng("metric-fake", *key))

    def values(self, n: int) -> dict[str, np.ndarray]:
        """Score → its value and floor in every draw: (draws, 2)."""
        found: dict[str, list[tuple[float, float]]] = {score: [] for score in self.protocol.scores}
        for number in range(self.protocol.draws):
            reference, held_out, generated = self.rows(number, n)
            real = self.real.features
            values = measure(real[reference], self.fake.features[generated], self.train, self.protocol)
            floors = measure(real[reference], real[held_out], self.train, self.protocol)
            for score, pairs in found.items():
                pairs.append((values[score], floors[score]))
        return {score: np.array(pairs) for score, pairs in found.items()}


def _group(group: str, classes: np.ndarray, drawer: _Drawer, n: int) -> list[Score]:
    """The scores of a group's images pooled, with the intervals that only these have."""
    p, values = drawer.protocol, drawer.values(n)
    reference, _, generated = drawer.rows(0, n)
    real, fake = drawer.real.features[reference], drawer.fake.features[generated]
    error = None
    if "kid" in p.metrics and n >= 4:
        error = kernel_distance_subsets(real, fake, KERNEL_SUBSETS, n // 2, key=(p.seed, group)).standard_error
    intervals: dict[str, Resampled] = {}
    if p.resamples:
        units = [
            np.arange(len(each.labels))[rows] if each.units is None else each.units[rows]
            for each, rows in ((drawer.real, reference), (drawer.fake, generated))
        ]
        kept = tuple(m for m in p.metrics if m != "irs" and (m != "authenticity" or drawer.train is not None))
        part = Protocol(kept, p.n, p.draws, p.k, p.resamples, p.seed)
        intervals = resampled(
            (units[0], units[1]),
            lambda a, b: measure(real[a], fake[b], drawer.train, part) if min(len(a), len(b)) >= part.least else {},
            {score: float(values[score][:, 0].mean()) for score in part.scores},
            p.resamples,
            key=(p.seed, group),
        )
    return [
        replace(
            _summary(score, "group", group, n, pairs),
            standard_error=error if score == "kid" else None,
            bootstrap=intervals.get(score),
            classes=len(classes),
        )
        for score, pairs in values.items()
    ]


def _together(
    group: str,
    classes: np.ndarray,
    by_class: Mapping[int, Mapping[str, np.ndarray]],
    names: Sequence[str],
    plan: Counts,
    protocol: Protocol,
) -> list[Score]:
    """Mean over a group's classes, and the class furthest on the wrong side of its floor; of those scored."""
    scored = [int(c) for c in classes if int(c) in by_class]
    means, worst = [], []
    for metric in protocol.scores:
        if scored:
            pairs = np.stack([by_class[c][metric] for c in scored])  # (classes, draws, 2)
            excess = (pairs[:, :, 0] - pairs[:, :, 1]).mean(axis=1)
            at = int(excess.argmax() if metric in LOWER_IS_BETTER else excess.argmin())
            n = plan.class_n or 0
            means.append(_summary(metric, "class mean", group, n, pairs.mean(axis=0)))
            worst.append(replace(_summary(metric, "worst class", group, n, pairs[at]), worst=names[scored[at]]))
        else:
            n = int(plan.available[classes].max())
            means.append(Score(metric, "class mean", group, n))
            worst.append(Score(metric, "worst class", group, n))
    return [replace(score, classes=len(classes), classes_scored=len(scored)) for score in means + worst]


def _summary(metric: str, kind: str, name: str, n: int, pairs: np.ndarray) -> Score:
    """``pairs`` (draws, 2) are values and floors."""
    value, floor = pairs.mean(axis=0).tolist()
    low, high = np.percentile(pairs[:, 0], [2.5, 97.5]).tolist()
    return Score(metric, kind, name, n, value, floor, low, high, len(pairs))
