"""Equal counts: groups of classes scored on as many images as each other, beside what real images score.

A Fréchet distance, and to a lesser degree every other score of two sets, changes with their size. Each group is
therefore scored on N images from N real ones, spread evenly over its classes; and as a real
reference, N held-out real images are scored in place of the generated ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    first = [pool[: len(pool) // 2] for pool in pools]
    second = [pool[len(pool) // 2 : len(pool) // 2 * 2] for pool in pools]
    return np.concatenate(first), np.concatenate(second)
