"""Equal counts: groups of classes scored on as many images as each other, beside what real images score.

A Fréchet distance, and to a lesser degree every other score of two sets, changes with their size. Each group is
therefore scored on N images beside N real ones, spread evenly over its classes; and as a real reference, N held-out
real images are scored in place of the generated ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grasp_bench.metrics.protocol import Protocol

ALL = "all"


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


def equal_counts(available: np.ndarray) -> int:
    """The largest N that a group can give with ⌊N/c⌋ or one more image from each of its c classes.

    ``available`` (c,) limits what a class gives. Every smaller N can be given as well.
    """
    least = int(available.min())
    return least * len(available) + int((available > least).sum())


@dataclass(frozen=True)
class Counts:
    """How many images of each kind are compared."""

    groups: dict[str, int]
    """Images that are available per group; groups with at least ``n`` are scored, on ``n``."""
    n: int
    """Images of each kind for every group that is scored."""
    class_n: int | None
    """Images of each kind for every class that is scored; None where none is."""
    available: np.ndarray
    """Images that are available per class (classes,)."""


def plan_counts(available: np.ndarray, in_groups: Mapping[str, np.ndarray], protocol: Protocol) -> Counts:
    """The counts for the images that each class gives alone (classes,), and each of a group's classes in the group.

    A class gives no more than half of its real images, since the other half is held out for the real reference. A group
    gives as many as its rarest class allows (:func:`equal_counts`); those that can give
    what the protocol needs are scored at the smallest number that they all can give, or at the protocol's. The counts
    of classes are found in the same way.
    """
    groups = {group: equal_counts(each) for group, each in in_groups.items()}
    needed = max(protocol.least, protocol.n or 0)
    enough = [n for n in groups.values() if n >= needed]
    large = available[available >= protocol.least]
    class_n = int(large.min()) if len(large) else None
    if class_n and protocol.n:
        class_n = min(class_n, protocol.n)
    return Counts(groups, protocol.n or min(enough, default=needed), class_n, available)


def require(
    real: np.ndarray, fake: np.ndarray, names: Sequence[str], members: Mapping[str, np.ndarray], protocol: Protocol
) -> None:
    """Raise ValueError naming the class and its numbers, of ``real`` and ``fake`` (classes,), of a group too small."""
    each = np.minimum(real // 2, fake)
    counts = plan_counts(each, {group: each[classes] for group, classes in members.items()}, protocol)
    available, needed = counts.available, max(protocol.least, protocol.n or 0)

    def found(index: int) -> str:
        return f"class {names[index]!r} has {real[index]} real and {fake[index]} generated images"

    if not available.all():
        raise ValueError(
            f"{found(int(np.argmin(available)))}: at least 2 real ones, half of which are held out for the real "
            "reference, and 1 generated one are needed. Add some or take the class out of both sets."
        )
    tightest = min(counts.groups, key=lambda group: counts.groups[group])
    most = counts.groups[tightest]
    if most < needed or counts.n < protocol.least:
        rarest = members[tightest][int(np.argmin(available[members[tightest]]))]
        wanted = f"n = {protocol.n}" if (protocol.n or 0) >= protocol.least else f"{protocol.least} of each"
        strictest = max(protocol.metrics, key=lambda metric: metric.minimum(protocol.k))
        reason = f" by {strictest.name} for k = {protocol.k} neighbours" if counts.n < protocol.least else ""
        raise ValueError(
            f"{found(rarest)}; half of the real ones are held out for the real reference, so group {tightest!r} "
            f"can give n = {most} of each kind and {wanted} are asked for{reason}. Add images, or "
            "change n, k or the metrics."
        )


def draw(labels: np.ndarray, classes: Sequence[int] | np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
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


def split_halves(
    labels: np.ndarray, classes: Sequence[int] | np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint indices into ``labels`` with ⌊n/2⌋ images of each of ``classes`` that has n."""
    pools = [rng.permutation(np.flatnonzero(labels == label)) for label in classes]
    halves = [(pool[: len(pool) // 2], pool[len(pool) // 2 : len(pool) // 2 * 2]) for pool in pools]
    return np.concatenate([first for first, _ in halves]), np.concatenate([second for _, second in halves])
