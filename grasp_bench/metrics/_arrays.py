"""Checks of feature arrays, the blocks they are worked on in, and nearest neighbours in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_BLOCK = 2**22  # numbers held at a time: 32 MiB


def as_features(name: str, values: np.ndarray, minimum: int) -> np.ndarray:
    """``values`` as float64 (n, d). Raises ValueError for another rank, n < ``minimum``, NaN and infinity."""
    features = np.asarray(values, dtype=np.float64)
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{name}: expected features of shape (n, d), got {features.shape}")
    if len(features) < minimum:
        raise ValueError(f"{name}: n = {len(features)}, at least {minimum} rows are needed")
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise ValueError(f"{name}: row {row} holds NaN or infinite values")
    return features


def as_pair(
    real: np.ndarray, fake: np.ndarray, minimum: int, names: tuple[str, str] = ("real", "fake")
) -> tuple[np.ndarray, np.ndarray]:
    """Both sets through :func:`as_features`. Raises ValueError when their widths differ."""
    real, fake = as_features(names[0], real, minimum), as_features(names[1], fake, minimum)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"{names[0]} has width {real.shape[1]} and {names[1]} {fake.shape[1]}: not of one extractor")
    return real, fake


def as_labels(name: str, values: np.ndarray, n: int, classes: int) -> np.ndarray:
    """``values`` as class indices (n,). Raises ValueError for another shape or an index outside [0, classes)."""
    labels = np.asarray(values)
    if labels.shape != (n,):
        raise ValueError(f"{name}: expected shape ({n},), got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name}: expected integer class indices, got {labels.dtype}")
    if n and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"{name}: indices span [{labels.min()}, {labels.max()}], there are {classes} classes")
    return labels


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices that cover ``rows`` in order, each of as many rows of ``columns`` numbers as are held at a time."""
    size = max(1, _BLOCK // columns)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows of ``x`` (n, d) with their squared Euclidean distances to all of ``y`` (m, d): (rows, m)."""
    y_squares = np.square(y).sum(axis=1)
    for rows in row_blocks(len(x), len(y)):
        block = x[rows] @ y.T
        block *= -2
        block += np.square(x[rows]).sum(axis=1, keepdims=True)
        block += y_squares
        yield rows, np.maximum(block, 0, out=block)


def nearest(queries: np.ndarray, reference: np.ndarray, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Index (n,) and Euclidean distance (n,) of the row of ``reference`` (m, d) nearest to each of ``queries`` (n, d).

    Where queries are rows of ``reference`` themselves, ``own`` (n,) says which, and the nearest other row is found.
    Among rows that are equally near, the first is taken. Neighbours are found among squared distances, with their
    rounding errors; the distance is then that of the two rows' difference, so that equal rows are at exactly 0.
    """
    centre = reference.mean(axis=0)  # distances lose fewer digits about the centre
    indices, distances = np.empty(len(queries), dtype=np.int64), np.empty(len(queries))
    for rows, squares in squared_distances(queries - centre, reference - centre):
        if own is not None:
            squares[np.arange(len(squares)), own[rows]] = np.inf
        indices[rows] = squares.argmin(axis=1)
    for rows in row_blocks(len(queries), queries.shape[1]):
        distances[rows] = np.linalg.norm(queries[rows] - reference[indices[rows]], axis=1)
    return indices, distances
