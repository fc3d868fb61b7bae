"""Checks of feature arrays, and the blocks that they are worked on in."""

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


def as_truth(name: str, values: np.ndarray, n: int, classes: int) -> np.ndarray:
    """``values`` as sets of labels, bool (n, classes), or through :func:`as_labels`. Raises ValueError as it does."""
    truth = np.asarray(values)
    if truth.ndim != 2:
        return as_labels(name, truth, n, classes)
    if truth.shape != (n, classes) or truth.dtype != np.bool_:
        raise ValueError(f"{name}: expected bool ({n}, {classes}), got {truth.dtype} {truth.shape}")
    return truth


def size_of_blocks() -> int:
    """How many numbers are held at a time."""
    return _BLOCK


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices that cover ``rows`` in order, each of as many rows of ``columns`` numbers as are held at a time."""
    size = max(1, _BLOCK // columns)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
