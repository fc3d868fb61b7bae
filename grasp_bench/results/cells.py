"""The cells of a leaderboard, all at once: mean and interval over seeds of every method, metric and group."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Cell:
    """One metric of one method on one group."""

    mean: float | None
    """None where some seed has none, since there are too few images."""
    low: float | None
    """Lower end of the 95 % interval over seeds; none below three seeds."""
    high: float | None
    n_seeds: int
    n: int
    """Images behind each seed's value; the fewest, should seeds differ."""
    floor: float | None
    """Mean over seeds of what real images score against held-out real images."""
    best: bool = False
    """No method has a better mean, and some method has a worse one."""
    tier: int | None = None
    """1 for the methods that no other is significantly better than, and so on; none where seeds cannot tell."""
    values: dict[int, float] = field(default_factory=dict)
    """Seed → value; empty without a mean."""
    unit: str = "seed"
    """What the interval is over."""


@dataclass(frozen=True)
class Scores:
    """Scores, one row each."""

    row: np.ndarray
    """(scores,) index of the method."""
    column: np.ndarray
    """(scores,) index of the metric and group."""
    seed: np.ndarray
    value: np.ndarray
    """(scores,) NaN where there are too few images."""
    n: np.ndarray
    floor: np.ndarray
    """(scores,) NaN where there is none."""


def make_cells(scores: Scores, lower: np.ndarray) -> dict[tuple[int, int], Cell]:
    """(Row, column) → cell; ``lower`` (columns,) says where less is better.

    The interval is that of :func:`grasp_bench.stats.mean_interval`, for a hundred thousand cells in one go.
    """
    if not len(scores.row):
        return {}
    order = np.lexsort((scores.seed, scores.column, scores.row))
    row, column = scores.row[order], scores.column[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(row) != 0) | (np.diff(column) != 0)])
    counts = np.diff(np.r_[starts, len(row)])
    values = scores.value[order]
    mean, half = _intervals(values, starts, counts)
    best = _best(mean, column[starts], lower)
    floors = scores.floor[order]
    known = np.maximum(np.add.reduceat(~np.isnan(floors), starts), 1)
    floor = np.add.reduceat(np.nan_to_num(floors), starts) / known
    floor[np.logical_and.reduceat(np.isnan(floors), starts)] = np.nan
    facts = zip(
        row[starts].tolist(),
        column[starts].tolist(),
        starts.tolist(),
        counts.tolist(),
        mean.tolist(),
        half.tolist(),
        np.minimum.reduceat(scores.n[order], starts).tolist(),
        floor.tolist(),
        best.tolist(),
        strict=True,
    )
    seeds, plain = scores.seed[order].tolist(), values.tolist()
    cells = {}
    for at_row, at_column, start, count, middle, width, n, real, is_best in facts:
        if middle != middle:  # NaN: no mean of what is not there
            cells[at_row, at_column] = Cell(None, None, None, count, n, None)
            continue
        low, high = (middle - width, middle + width) if count > 2 else (None, None)
        end = start + count
        by_seed = dict(zip(seeds[start:end], plain[start:end], strict=True))
        known_floor = real if real == real else None
        cells[at_row, at_column] = Cell(middle, low, high, count, n, known_floor, is_best, None, by_seed)
    return cells


def _intervals(values: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of every cell, NaN where a value is, and half its interval, which is 0 below three seeds."""
    from scipy.special import stdtrit

    mean = np.add.reduceat(values, starts) / counts
    squares = np.add.reduceat((values - np.repeat(mean, counts)) ** 2, starts)
    degrees = np.maximum(counts - 1, 1)
    sizes, which = np.unique(degrees, return_inverse=True)
    half = stdtrit(sizes, 0.975)[which] * np.sqrt(squares / degrees / counts)
    return mean, np.where(counts > 2, half, 0.0)


def _best(mean: np.ndarray, column: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Which cells have the best mean of their column, unless all are equal."""
    signed = np.where(lower[column], -mean, mean)
    highest = np.full(len(lower), -np.inf)
    lowest = np.full(len(lower), np.inf)
    known = ~np.isnan(signed)
    np.maximum.at(highest, column[known], signed[known])
    np.minimum.at(lowest, column[known], signed[known])
    found: np.ndarray = (signed == highest[column]) & (highest != lowest)[column]
    return found
