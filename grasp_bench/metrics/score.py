"""One number of the many that a comparison of two sets of images gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from grasp_bench.metrics.resampling import Resampled

Kind = Literal["group", "class mean", "worst class", "class"]


@dataclass(frozen=True)
class Score:
    """One score of a group, of a class, or of a group's classes together, over draws of images."""

    metric: str
    kind: Kind
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
    exact: tuple[float, float] | None = None
    """Of IRS: its own 95 % interval (see :func:`~grasp_bench.metrics.retrieval.irs`), the mean of each end."""
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


def over_draws(metric: str, kind: Kind, name: str, n: int, pairs: np.ndarray) -> Score:
    """The score of ``pairs`` (draws, 2): values and floors."""
    value, floor = pairs.mean(axis=0).tolist()
    low, high = np.percentile(pairs[:, 0], [2.5, 97.5]).tolist()
    return Score(metric, kind, name, n, value, floor, low, high, len(pairs))
