"""How well gradients are aligned, from their inner products, whatever they are gradients of.

A *batch* is one gradient per class, from images that no other batch has and noise that all classes share. A Gram
matrix (B, C, B, C) holds the products of all gradients of B batches and C classes; *members* (B, V, C) are the weights
with which the classes of each batch make up V vectors, such as the groups. Even and odd batches are two halves: means
over different halves have no noise in common, so their products are unbiased, unlike those within a half.
"""

from __future__ import annotations

import numpy as np

LEAST_DRAWS = 0.95  # fraction of draws in which a number must exist for its mean or interval
ROUNDING = 1e-9


def gram_matrix(gradients: np.ndarray) -> np.ndarray:
    """Return the products of gradients (B, C, D): float64 (B, C, B, C)."""
    batches, classes, _ = gradients.shape
    flat = gradients.reshape(batches * classes, -1).astype(np.float64)
    return (flat @ flat.T).reshape(batches, classes, batches, classes)


def group_members(group_of_class: np.ndarray, batches: int, rng: np.random.Generator) -> np.ndarray:
    """Return members (B, V, C) of the groups that ``group_of_class`` (C,) numbers, with equally many gradients each.

    Each batch draws as many classes of every group as the smallest group has.
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
    """Return the products of the vectors of every batch: (B, V, B, V)."""
    batches, vectors, classes = members.shape
    left = (members @ gram.reshape(batches, classes, -1)).reshape(batches, vectors, batches, classes)
    by_batch = left.transpose(2, 0, 1, 3).reshape(batches, batches * vectors, classes)
    both: np.ndarray = by_batch @ members.transpose(0, 2, 1)
    return both.reshape(batches, batches, vectors, vectors).transpose(1, 2, 0, 3)


def split_products(products: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Return unbiased products (V, V) of the vectors' means: of one half with the other, in both orders.

    ``products`` are (B, V, B, V); ``counts`` (B,) says how often each batch counts, once if absent.
    """
    first, second = _halves(len(products), counts)
    cross = np.tensordot(np.tensordot(first, products, 1), second, ([1], [0]))
    return (cross + cross.T) / 2


def cosines(products: np.ndarray) -> np.ndarray:
    """Return cosines (V, V) from unbiased products; sampling noise does not shrink them, so they may exceed 1.

    They are NaN for a vector whose own product is not positive: its direction cannot be told from noise.
    """
    own = np.diagonal(products)
    lengths = np.sqrt(np.where(own > 0, own, np.nan))
    found: np.ndarray = products / np.outer(lengths, lengths)
    return found


def ceilings(products: np.ndarray) -> np.ndarray:
    """Return the cosine (V,) of each vector's mean over one half with its mean over the other.

    It says how well noise lets a vector agree with itself, and bounds any uncorrected cosine; NaN for zero vectors.
    """
    first, second = _halves(len(products), None)
    own = np.einsum("bvdv->vbd", products)
    with np.errstate(invalid="ignore"):
        found: np.ndarray = (first @ own @ second) / np.sqrt((first @ own @ first) * (second @ own @ second))
    return found


def resampled(batches: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return bootstrap counts of batches (draws, B); each half is resampled to its own size."""
    counts = np.zeros((draws, batches))
    for half in (slice(0, None, 2), slice(1, None, 2)):
        size = len(range(batches)[half])
        counts[:, half] = rng.multinomial(size, np.full(size, 1 / size), draws)
    return counts


def percentiles(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 2.5th and 97.5th percentile over draws (draws, ...); NaN where more than 5 % of the draws are NaN."""
    flat = drawn.reshape(len(drawn), -1)
    enough = np.isfinite(flat).mean(0) >= LEAST_DRAWS
    low, high = np.full(flat.shape[1], np.nan), np.full(flat.shape[1], np.nan)
    if enough.any():
        low[enough], high[enough] = np.nanpercentile(flat[:, enough], (2.5, 97.5), axis=0)
    return low.reshape(drawn.shape[1:]), high.reshape(drawn.shape[1:])


def mean_cosines(gram: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return cosines (V, V) of the vectors' means over all batches, which noise shrinks; NaN for zero vectors.

    They compare with those of permuted labels, whose vectors are means of equally many gradients.
    """
    batches, vectors, classes = members.shape
    weights = members.transpose(1, 0, 2).reshape(vectors, -1) / batches
    return cosines(weights @ gram.reshape(batches * classes, -1) @ weights.T)


def permuted_images(members: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute labels among the images of each batch: the null hypothesis that classes and groups do not differ."""
    return np.stack([batch[:, rng.permutation(members.shape[-1])] for batch in members])


def permuted_classes(members: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute classes, in all batches alike: other groupings of the same classes into groups of the same sizes."""
    return members[:, :, rng.permutation(members.shape[-1])]


def less_than(observed: np.ndarray, null: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one-sided p-values that each of ``observed`` (cells, ...) is lower than its ``null`` (P, cells, ...).

    The first are (1 + #{null ≤ observed}) / (1 + P). The second are corrected for the number of cells by the maximum
    statistic: how often the most extreme cell is as extreme, after each is standardized to mean 0 and deviation 1.
    Both are NaN where ``observed`` is, and such a cell is not counted.
    """
    permutations, measured = len(null), np.isfinite(observed)
    p = (1 + (null <= observed + ROUNDING).sum(0)) / (1 + permutations)
    deviation = null.std(0)
    scale = np.where(deviation > ROUNDING, deviation, np.inf)  # a cell that no permutation changes says nothing
    depth = (null.mean(0) - observed) / scale
    depths = np.where(measured, (null.mean(0) - null) / scale, -np.inf)
    corrected = (1 + (depths.max(1)[:, None] >= depth - ROUNDING).sum(0)) / (1 + permutations)
    return np.where(measured, p, np.nan), np.where(measured, corrected, np.nan)


def within(products: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Return the mean cosine over pairs of classes, weighted by gradient lengths, for each of N sets of pairs: (N,).

    ``products`` (cells, C, C) are unbiased; ``same`` (N, C, C) says which pairs each set holds. The mean is
    Σ ⟨c, d⟩ / Σ |c| |d| over pairs and cells: a ratio of sums, since cosines of single classes are noisy. Classes
    whose own product is not positive in a cell are left out of that cell. NaN for sets without a pair.
    """
    own = np.diagonal(products, axis1=1, axis2=2)
    lengths = np.sqrt(own.clip(0))
    scale = lengths[:, :, None] * lengths[:, None, :]
    off_diagonal = ~np.eye(products.shape[-1], dtype=bool)
    top = np.where(scale > 0, products, 0).sum(0) * off_diagonal
    sets = same.reshape(len(same), -1).astype(np.float64)
    bottom = sets @ (scale.sum(0) * off_diagonal).ravel()
    found: np.ndarray = sets @ top.ravel() / np.where(bottom > 0, bottom, np.nan)
    return found


def lift(
    products: np.ndarray, resampled: np.ndarray, clusters: np.ndarray, permutations: int, rng: np.random.Generator
) -> dict[str, float]:
    """Return how far the partition ``clusters`` (C,) raises the alignment within clusters; NaN if not measurable.

    ``products`` (cells, C, C) are the unbiased products of all batches, ``resampled`` (draws, cells, C, C) those of
    bootstrap draws of batches. Random partitions are permutations of ``clusters``, the same in every draw.

    "within" is the mean cosine of two classes of one cluster, see :func:`within`, and "random" its mean over random
    partitions; "low" and "high" are the 2.5th and 97.5th percentile of their difference over draws; "p" is the
    one-sided p that random partitions are as aligned, (1 + #{random ≥ within}) / (1 + P); "pairs" is the number of
    pairs of classes that share a cluster.
    """
    served = np.stack([clusters, *(rng.permutation(clusters) for _ in range(permutations))])
    sets = served[:, :, None] == served[:, None, :]  # (1 + P, C, C)
    own, chance = float(within(products, sets[:1])[0]), within(products, sets[1:])
    values = np.stack([within(each, sets) for each in resampled])  # (draws, 1 + P)
    low, high = percentiles(values[:, 0] - _means(values[:, 1:]))
    random = float(_means(chance[None])[0])
    as_aligned = ~(chance < own - ROUNDING)  # partitions that cannot be measured count as aligned
    p = (1 + as_aligned.sum()) / (1 + permutations) if np.isfinite(own + random) else np.nan
    interval = {"low": float(low), "high": float(high)}
    return {"within": own, "random": random} | interval | {"p": float(p), "pairs": int(np.triu(sets[0], 1).sum())}


def _halves(batches: int, counts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights (B,) of the mean over even batches and of the mean over odd batches."""
    each = np.ones(batches) if counts is None else counts
    even = np.arange(batches) % 2 == 0
    return each * even / each[even].sum(), each * ~even / each[~even].sum()


def _means(values: np.ndarray) -> np.ndarray:
    """Return means (n,) over the measurable random partitions (n, P); NaN where fewer than 95 % are measurable."""
    measured = np.isfinite(values)
    means = np.where(measured, values, 0).sum(1) / measured.sum(1).clip(1)
    found: np.ndarray = np.where(measured.mean(1) >= LEAST_DRAWS, means, np.nan)
    return found
