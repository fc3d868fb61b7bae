"""Equal counts: groups of classes scored on as many images as each other, beside what real images score.

A Fréchet distance, and to a lesser degree every other score of two sets, changes with their size. Each group is
therefore scored on N images from N real ones, spread evenly over its classes; and as a floor, N held-out real
images are scored in place of the generated ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from grasp_bench.metrics._arrays import as_labels, as_pair
from grasp_bench.metrics.frechet import frechet_distance
from grasp_bench.metrics.prdc import prdc
from grasp_bench.metrics.vendi import vendi_score
from grasp_bench.seeds import rng

ALL = "all"


@dataclass(frozen=True)
class GroupScore:
    """One metric of one group, over draws of images."""

    metric: str
    """"fd", "recall", "coverage" or "vendi"."""
    group: str
    """A group, or "all"."""
    value: float
    """Mean over the draws."""
    floor: float
    """The same for held-out real images in place of generated ones."""
    n: int
    """Images of each kind."""
    low: float
    """2.5th percentile of the value over the draws."""
    high: float
    """97.5th percentile of the value over the draws."""
    draws: int


def group_members(class_groups: np.ndarray, groups: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Class indices of each of ``groups`` and of "all"; by default groups come in order of their first class.

    Raises ValueError for a group without classes and for one called "all".
    """
    names = np.asarray(class_groups)
    members = {group: np.flatnonzero(names == group) for group in groups or dict.fromkeys(names.tolist())}
    if ALL in members:
        raise ValueError(f'no group may be called "{ALL}": it stands for every class')
    if empty := [group for group, classes in members.items() if not len(classes)]:
        raise ValueError(f"group {empty[0]!r} has no classes")
    return {**members, ALL: np.arange(len(names))}


def equal_counts(class_groups: np.ndarray, available: np.ndarray, groups: Sequence[str]) -> int:
    """The largest N that every group, and "all", can give with ⌊N/c⌋ or one more from each of its c classes.

    ``available`` (classes,) limits what a class gives. Every smaller N can be given as well.
    """
    limits = []
    for classes in group_members(class_groups, groups).values():
        least = int(available[classes].min())
        limits.append(least * len(classes) + int((available[classes] > least).sum()))
    return min(limits)


def draw(labels: np.ndarray, classes: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (total,) into ``labels``, without replacement: ⌊total/c⌋ or one more from each of the c ``classes``.

    Which classes give one more is random among those that can. Raises ValueError where images are too few.
    """
    share, rest = divmod(total, len(classes))
    pools = [rng.permutation(np.flatnonzero(labels == label)) for label in classes]
    spare = rng.permutation([i for i, pool in enumerate(pools) if len(pool) > share])
    if len(spare) < rest or any(len(pool) < share for pool in pools):
        raise ValueError(f"{total} images over {len(classes)} classes: some class has too few")
    extra = set(spare[:rest].tolist())
    return np.concatenate([pool[: share + (i in extra)] for i, pool in enumerate(pools)])


def group_scores(
    real: np.ndarray,
    fake: np.ndarray,
    real_labels: np.ndarray,
    fake_labels: np.ndarray,
    class_groups: np.ndarray,
    groups: Sequence[str],
    *,
    draws: int = 20,
    k: int = 5,
    key: tuple[str | int, ...],
) -> list[GroupScore]:
    """Fréchet distance, recall, coverage and Vendi score of every group and of "all", at equal counts.

    ``real`` (n, d) and ``fake`` (m, d) are features with class indices (n,) and (m,); ``class_groups`` (classes,)
    names each class's group. Every draw splits the real images of each class into random halves A and B; N images
    of A are compared with N generated ones, and for the floor with N of B. The floor of the Vendi score is that of
    B. Halves and floors depend on ``key``, the draw and N alone: methods that generate as many images share them.

    Recall and coverage are left out, for all groups, where N < k + 2; the list is empty where N < 2.

    Raises ValueError as the metrics do, and for labels that are not of a class.
    """
    real, fake = as_pair(real, fake, minimum=1)
    real_labels = as_labels("real_labels", real_labels, len(real), len(class_groups))
    fake_labels = as_labels("fake_labels", fake_labels, len(fake), len(class_groups))
    halves = np.bincount(real_labels, minlength=len(class_groups)) // 2
    available = np.minimum(halves, np.bincount(fake_labels, minlength=len(class_groups)))
    n = equal_counts(class_groups, available, groups)
    if n < 2:
        return []
    members = group_members(class_groups, groups)
    values: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(draws):
        a, b = split_halves(real_labels, rng("metric-halves", *key, number))
        for group, classes in members.items():
            stream = rng("metric-real", *key, number, group)
            reference = real[a[draw(real_labels[a], classes, n, stream)]]
            held_out = real[b[draw(real_labels[b], classes, n, stream)]]
            generated = fake[draw(fake_labels, classes, n, rng("metric-fake", *key, number, group))]
            floors = dict(_metrics(reference, held_out, k))
            for metric, value in _metrics(reference, generated, k):
                values.setdefault((group, metric), []).append((value, floors[metric]))
    return [_summary(metric, group, n, np.array(pairs)) for (group, metric), pairs in values.items()]


def split_halves(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint indices with ⌊n/2⌋ images of each class that has n."""
    pools = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    first = [pool[: len(pool) // 2] for pool in pools]
    second = [pool[len(pool) // 2 : len(pool) // 2 * 2] for pool in pools]
    return np.concatenate(first), np.concatenate(second)


def _metrics(reference: np.ndarray, images: np.ndarray, k: int) -> Iterator[tuple[str, float]]:
    yield "fd", frechet_distance(reference, images)
    if len(reference) >= k + 2:
        scores = prdc(reference, images, k)
        yield "recall", scores.recall
        yield "coverage", scores.coverage
    yield "vendi", vendi_score(images)


def _summary(metric: str, group: str, n: int, pairs: np.ndarray) -> GroupScore:
    """``pairs`` (draws, 2) are values and floors."""
    value, floor = pairs.mean(axis=0).tolist()
    low, high = np.percentile(pairs[:, 0], [2.5, 97.5]).tolist()
    return GroupScore(metric, group, value, floor, n, low, high, len(pairs))
