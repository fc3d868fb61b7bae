"""How alike gradients point, from their products; what they are gradients of is not known here.

A *batch* is one gradient of every class, from images that no other batch has and noise that all classes share. A Gram
matrix (B, C, B, C) holds the products of all gradients of B batches and C classes; *members* (B, V, C) are the weights
with which the classes of each batch make up V vectors, such as the groups. Even and odd batches are two halves: means
over different halves have no noise in common, so their products are unbiased, unlike those within a half.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST_DRAWS = 0.95  # share of draws in which a number must exist for a mean or an interval of it
ROUNDING = 1e-9


def gram_matrix(gradients: np.ndarray) -> np.ndarray:
    """Products of gradients (B, C, D): float64 (B, C, B, C)."""
    batches, classes, _ = gradients.shape
    flat = gradients.reshape(batches * classes, -1).astype(np.float64)
    return (flat @ flat.T).reshape(batches, classes, batches, classes)


def group_members(group_of_class: np.ndarray, batches: int, rng: np.random.Generator) -> np.ndarray:
    """Equal numbers of gradients of every group: members (B, V, C) of the groups that ``group_of_class`` (C,) numbers.

    In each batch as many classes of a group are drawn as the smallest group has.
    """
    groups = int(group_of_class.max()) + 1
    size = int(np.bincount(group_of_class, minlength=groups).min())
    members = np.zeros((batches, groups, len(group_of_class)))
    for batch in range(batches):
        for group in range(groups):
            drawn = rng.choice(np.flatnonzero(group_of_class == group), size, replace=False)
            members[batch, group, drawn] = 1 / size
    return members


def vector_products(gram: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Products of the vectors of every batch: (B, V, B, V)."""
    batches, vectors, classes = members.shape
    left = (members @ gram.reshape(batches, classes, -1)).reshape(batches, vectors, batches, classes)
    by_batch = left.transpose(2, 0, 1, 3).reshape(batches, batches * vectors, classes)
    both: np.ndarray = by_batch @ members.transpose(0, 2, 1)
    return both.reshape(batches, batches, vectors, vectors).transpose(1, 2, 0, 3)


def split_products(products: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Products (V, V) of the vectors' means, unbiased: those of one half with those of the other, both ways.

    ``products`` are (B, V, B, V); ``counts`` (B,) how often each batch counts, once if absent.
    """
    first, second = _halves(len(products), counts)
    cross = np.tensordot(np.tensordot(first, products, 1), second, ([1], [0]))
    return (cross + cross.T) / 2


def cosines(products: np.ndarray) -> np.ndarray:
    """Cosines (V, V) from unbiased products; NaN with a vector whose own product is not positive: no direction of it
    can be told from noise. Sampling noise does not shrink them, so they may exceed 1.
    """
    own = np.diagonal(products)
    lengths = np.sqrt(np.where(own > 0, own, np.nan))
    found: np.ndarray = products / np.outer(lengths, lengths)
    return found


def ceilings(products: np.ndarray) -> np.ndarray:
    """Cosine of each vector's mean over one half with its mean over the other, (V,): how far noise lets it agree
    with itself, which bounds any cosine that is not corrected; NaN where it has no length.
    """
    first, second = _halves(len(products), None)
    own = np.einsum("bvdv->vbd", products)
    with np.errstate(invalid="ignore"):
        found: np.ndarray = (first @ own @ second) / np.sqrt((first @ own @ first) * (second @ own @ second))
    return found


def resampled(batches: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Bootstrap over batches: counts (draws, B), as many of each half as there are."""
    counts = np.zeros((draws, batches))
    for half in (slice(0, None, 2), slice(1, None, 2)):
        size = len(range(batches)[half])
        counts[:, half] = rng.multinomial(size, np.full(size, 1 / size), draws)
    return counts


def percentiles(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2.5th and 97.5th percentile over the draws (draws, ...); NaN where more than 5 % of them are."""
    flat = drawn.reshape(len(drawn), -1)
    enough = np.isfinite(flat).mean(0) >= LEAST_DRAWS
    low, high = np.full(flat.shape[1], np.nan), np.full(flat.shape[1], np.nan)
    if enough.any():
        low[enough], high[enough] = np.nanpercentile(flat[:, enough], (2.5, 97.5), axis=0)
    return low.reshape(drawn.shape[1:]), high.reshape(drawn.shape[1:])


def mean_cosines(gram: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Cosines (V, V) of the vectors' means over all batches, shrunk by noise: for comparison with permuted labels,
    whose vectors are means of as many gradients; NaN where a vector has no length.
    """
    batches, vectors, classes = members.shape
    weights = members.transpose(1, 0, 2).reshape(vectors, -1) / batches
    products = weights @ gram.reshape(batches * classes, -1) @ weights.T
    lengths = np.sqrt(np.diagonal(products))
    with np.errstate(invalid="ignore"):
        found: np.ndarray = products / np.outer(lengths, lengths)
    return found


def permuted_images(members: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels permuted among the images of each batch: what could be if classes and groups did not differ at all."""
    return np.stack([batch[:, rng.permutation(members.shape[-1])] for batch in members])


def permuted_classes(members: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Classes permuted, in all batches alike: other groupings of the same classes, of the same sizes."""
    return members[:, :, rng.permutation(members.shape[-1])]


def less_than(observed: np.ndarray, null: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-sided p-values that each of ``observed`` (cells, ...) is lower than its ``null`` (P, cells, ...).

    The first are (1 + #{null ≤ observed}) / (1 + P); the second are corrected for the number of cells by the largest
    statistic: how often the most extreme of all cells is as extreme, after each is brought to mean 0 and deviation 1.
    NaN where ``observed`` is, which does not count as a cell.
    """
    permutations, measured = len(null), np.isfinite(observed)
    p = (1 + (null <= observed + ROUNDING).sum(0)) / (1 + permutations)
    deviation = null.std(0)
    scale = np.where(deviation > ROUNDING, deviation, np.inf)  # a cell that no permutation changes says nothing
    depth = (null.mean(0) - observed) / scale
    depths = np.where(measured, (null.mean(0) - null) / scale, -np.inf)
    corrected = (1 + (depths.max(1)[:, None] >= depth - ROUNDING).sum(0)) / (1 + permutations)
    return np.where(measured, p, np.nan), np.where(measured, corrected, np.nan)


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values of several tests, corrected by Holm's method (1979); NaN ones are no tests."""
    values = np.asarray(p, np.float64)
    order = [index for index in np.argsort(values, kind="stable") if np.isfinite(values[index])]
    corrected, least = np.full(len(values), np.nan), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, float(values[index]) * (len(order) - rank)))
        corrected[index] = least
    return corrected


def _halves(batches: int, counts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Weights (B,) of the mean over even batches, and over odd ones."""
    each = np.ones(batches) if counts is None else counts
    even = np.arange(batches) % 2 == 0
    return each * even / each[even].sum(), each * ~even / each[~even].sum()
