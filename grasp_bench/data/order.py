"""The order of training images: a function of (seed, step), so that a run resumes from a step count."""

from __future__ import annotations

import functools

import numpy as np

from grasp_bench import seeds


class DataOrder:
    """Shuffled epochs laid end to end; the batch of a step is a window into them.

    With ``weights`` (n,) every epoch is n draws with replacement in proportion to them instead of a permutation.
    """

    def __init__(self, task: str, seed: int, count: int, batch_size: int, weights: np.ndarray | None = None) -> None:
        self.count = count
        self.batch_size = batch_size
        self._epoch = functools.lru_cache(maxsize=2)(lambda epoch: _epoch(task, seed, epoch, count, weights))

    def __call__(self, step: int) -> np.ndarray:
        """Indices (batch_size,) of the images of ``step``, counted from 0."""
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        return np.array([self._epoch(int(p // self.count))[p % self.count] for p in positions])


def _epoch(task: str, seed: int, epoch: int, count: int, weights: np.ndarray | None) -> np.ndarray:
    rng = seeds.rng("order", task, seed, epoch)
    if weights is None:
        return rng.permutation(count)
    return rng.choice(count, count, p=weights / weights.sum())
