"""Distances and nearest neighbours between sets of features, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from grasp_bench.metrics._arrays import row_blocks


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows of ``x`` (n, d) with their squared Euclidean distances to all of ``y`` (m, d): (rows, m)."""
    y_squares = np.square(y).sum(axis=1)
    for rows in row_blocks(len(x), len(y)):
        block = x[rows] @ y.T
        block *= -2
        block += np.square(x[rows]).sum(axis=1, keepdims=True)
        block += y_squares
        yield rows, np.maximum(block, 0, out=block)


def nearest(queries: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index (n,) and Euclidean distance (n,) of the row of ``reference`` (m, d) nearest to each of ``queries`` (n, d).

    Among rows that are equally near, the first is taken. Neighbours are found among squared distances,
    with their rounding errors; the distance is then that of the two rows' difference, so that equal rows
    are at exactly 0.
    """
    centre = reference.mean(axis=0)  # distances lose fewer digits about the centre
    indices = np.empty(len(queries), dtype=np.int64)
    for rows, distances in squared_distances(queries - centre, reference - centre):
        indices[rows] = distances.argmin(axis=1)
    return indices, _distances(queries, reference, indices)


def nearest_other(features: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index and distance of the other row of ``features`` (n, d), n > 1, nearest to each at ``rows`` (r,): (r,), (r,).

    Ties and distances are handled as in :func:`nearest`.
    """
    centred = features - features.mean(axis=0)
    indices = np.empty(len(rows), dtype=np.int64)
    for block, distances in squared_distances(centred[rows], centred):
        distances[np.arange(len(distances)), rows[block]] = np.inf
        indices[block] = distances.argmin(axis=1)
    return indices, _distances(features[rows], features, indices)


def _distances(queries: np.ndarray, reference: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Distance of every query (n, d) to the row of ``reference`` at its index: (n,)."""
    distances = np.empty(len(queries))
    for rows in row_blocks(len(queries), queries.shape[1]):
        distances[rows] = np.linalg.norm(queries[rows] - reference[indices[rows]], axis=1)
    return distances
