"""Holm's correction for many comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values, in the order of ``p_values``: below α where the step-down procedure rejects at α.

    With m p-values sorted upwards, the i-th becomes the largest of min(1, (m − j + 1) p_j) over j ≤ i (Holm, A simple
    sequentially rejective multiple test procedure, 1979). The chance of any false rejection is at most α, however the
    tests depend on one another. None, a comparison that could not be tested, stays None and is not counted in m.

    Raises ValueError for a p-value outside [0, 1] and for NaN.
    """
    tested = [i for i, p in enumerate(p_values) if p is not None]
    p = np.array([p_values[i] for i in tested], dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():  # NaN fails both
        raise ValueError(f"expected p-values in [0, 1] or None, got {list(p_values)!r}")
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, p[order] * np.arange(len(p), 0, -1))
    adjusted: list[float | None] = [None] * len(p_values)
    for position, value in zip(order, np.maximum.accumulate(steps), strict=True):
        adjusted[tested[position]] = float(value)
    return adjusted
