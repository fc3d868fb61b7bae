"""One number for many tasks, and its interval over runs.

Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from grasp_bench.seeds import rng


@dataclass(frozen=True)
class Aggregate:
    """A statistic over all runs of all tasks with its 95 % interval, which resamples the runs of each task."""

    value: float
    low: float
    high: float
    resamples: int
    unit: str = "run within task"
    """Unit that is resampled."""


def interquartile_mean(values: ArrayLike) -> float:
    """Return the mean of the middle half of ``values`` (any shape): a quarter, rounded down, is cut from either end.

    Raises ValueError for no values, NaN and infinity.
    """
    ordered = np.sort(_finite("values", values), axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def stratified_bootstrap(
    scores: Sequence[ArrayLike],
    statistic: Callable[[np.ndarray], float] = interquartile_mean,
    resamples: int = 2000,
    seed: int = 0,
) -> Aggregate:
    """Return ``statistic`` of ``scores``, an array of runs per task, with its percentile interval over resampled runs.

    The unit is the run: each resample draws as many runs of every task as it has, with replacement, and ``statistic``
    gets those of all tasks as one array, so tasks count by their runs. The tasks stay: the interval says nothing of
    others. Scores of different tasks must share a scale; normalise them first. With few tasks and three runs of each
    the interval is too narrow, as the percentile bootstrap is for small samples.

    Raises ValueError for no tasks, fewer than two runs of a task (no spread), NaN and infinity in scores or statistic,
    and no resamples.
    """
    runs = [_finite(f"scores[{i}]", values) for i, values in enumerate(scores)]
    if not runs:
        raise ValueError("scores: expected at least one task, got none")
    for i, task in enumerate(runs):
        if task.ndim != 1 or len(task) < 2:
            raise ValueError(f"scores[{i}]: expected at least 2 runs of shape (n,), got shape {task.shape}")
    if resamples < 1:
        raise ValueError(f"resamples = {resamples}, expected at least 1")
    stream = rng("stratified-bootstrap", seed)
    resampled = np.concatenate([task[stream.integers(len(task), size=(resamples, len(task)))] for task in runs], axis=1)
    found = np.array([statistic(np.concatenate(runs)), *(statistic(row) for row in resampled)])
    if not np.isfinite(found).all():
        raise ValueError(
            f"the statistic is NaN or infinite in {int((~np.isfinite(found)).sum())} of {len(found)} draws"
        )
    low, high = np.percentile(found[1:], [2.5, 97.5]).tolist()
    return Aggregate(float(found[0]), low, high, resamples)


def _finite(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected at least one value, all finite, got {values!r}")
    return array
