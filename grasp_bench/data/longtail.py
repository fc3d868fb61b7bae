"""Long-tailed training sets: how many images each class keeps, and which group it falls into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def exponential_counts(classes: int, largest: int, smallest: int) -> list[int]:
    """Counts falling exponentially from ``largest`` to ``smallest``, rounded (Cui et al. 2019, arXiv 1901.05555)."""
    ratio = smallest / largest
    return [round(largest * ratio ** (rank / (classes - 1))) for rank in range(classes)]


def rank_groups(counts: Sequence[int], sizes: Sequence[int], groups: Sequence[str]) -> list[str]:
    """Group of every class when the classes, sorted by falling count, are cut into groups of ``sizes``."""
    names = [name for name, size in zip(groups, sizes, strict=True) for _ in range(size)]
    order = np.argsort([-count for count in counts], kind="stable")
    result = [""] * len(counts)
    for name, index in zip(names, order, strict=True):
        result[index] = name
    return result


def groups_by_count(counts: Mapping[str, int], head_above: int, tail_below: int) -> dict[str, str]:
    """Class → "head" with more than ``head_above`` images, "tail" with fewer than ``tail_below``, else "medium"."""
    return {
        name: "head" if count > head_above else "tail" if count < tail_below else "medium"
        for name, count in counts.items()
    }
