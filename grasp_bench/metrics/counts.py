"""How many images every group and class is scored on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grasp_bench.metrics.groups import equal_counts
from grasp_bench.metrics.protocol import Protocol


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


def plan_counts(
    real_counts: np.ndarray,
    fake_counts: np.ndarray,
    members: Mapping[str, np.ndarray],
    protocol: Protocol,
) -> Counts:
    """The counts for real and generated images (classes,), and groups' class indices ``members``.

    A class gives no more than half of its real images, since the other half is held out for the real reference. A group
    gives as many as its rarest class allows (:func:`~grasp_bench.metrics.groups.equal_counts`); those that can give
    what the protocol needs are scored at the smallest number that they all can give, or at the protocol's. The counts
    of classes are found in the same way.
    """
    available = np.minimum(real_counts // 2, fake_counts)
    groups = {group: equal_counts(available[classes]) for group, classes in members.items()}
    needed = max(protocol.least, protocol.n or 0)
    enough = [n for n in groups.values() if n >= needed]
    large = available[available >= protocol.least]
    class_n = int(large.min()) if len(large) else None
    if class_n and protocol.n:
        class_n = min(class_n, protocol.n)
    return Counts(groups, protocol.n or min(enough, default=needed), class_n, available)


def require(
    counts: Counts,
    real_counts: np.ndarray,
    fake_counts: np.ndarray,
    names: Sequence[str],
    members: Mapping[str, np.ndarray],
    protocol: Protocol,
) -> None:
    """Raise ValueError naming the class and its numbers where a group has too few images to be scored."""
    available, needed = counts.available, max(protocol.least, protocol.n or 0)

    def found(index: int) -> str:
        return f"class {names[index]!r} has {real_counts[index]} real and {fake_counts[index]} generated images"

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
