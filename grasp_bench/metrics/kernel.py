"""Kernel distance between two sets of features: the squared maximum mean discrepancy of a cubic kernel."""

from __future__ import annotations

import math

import numpy as np

from grasp_bench.contracts.metric import FeatureMetric, Sets
from grasp_bench.metrics._arrays import as_pair, row_blocks


class KernelDistance(FeatureMetric):
    """Kernel distance: squared maximum mean discrepancy of a cubic kernel

    The unbiased estimate with the kernel k(x, y) = (x·y/d + 1)³, that is mean k(xᵢ, xⱼ) + mean k(yᵢ, yⱼ) over i ≠ j,
    less 2 mean k(xᵢ, yⱼ).
    """

    name = "kid"
    version = "1"
    label = "KD"
    names_extractor = True
    inception_label = "KID"
    direction = "lower"
    bounds = (-math.inf, math.inf)
    position = 30
    definition = (
        "Kernel distance: the squared maximum mean discrepancy between features of generated and of real test images, "
        "with a cubic kernel. With Inception features it is called KID."
    )
    misleads = (
        "It is unbiased, so values below zero occur, and with few images its spread is wider than the differences "
        "between methods. It grows with the sixth power of the features' scale. It sees no more than the feature "
        "extractor sees, which the title names."
    )
    source = "Bińkowski et al., ICLR 2018"

    def value(self, given: Sets) -> float:
        return kernel_distance(given.real, given.generated)

    def standard_error(self, given: Sets, key: tuple[str | int, ...]) -> float | None:
        """Standard error of the unbiased estimate from all of ``given``; None for fewer than four images of a class."""
        strata = given.strata or (np.zeros(len(given.real)), np.zeros(len(given.generated)))
        if min(np.unique(each, return_counts=True)[1].min() for each in strata) < 4:
            return None
        return math.sqrt(kernel_variance(given.real, given.generated, *strata))


def kernel_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """Unbiased estimate of MMD² between ``real`` (n, d) and ``fake`` (m, d) with the kernel (x·y/d + 1)³, in float64.

    Its expectation does not depend on n and m; it is zero for sets of one distribution, so that values below zero
    occur. It is called KID with Inception features alone (Bińkowski et al., ICLR 2018). The kernel is held for a
    block of rows at a time; time grows with (n + m)² d.

    Raises ValueError for fewer than two rows, widths that differ, NaN and infinity.
    """
    real, fake = as_pair(real, fake, minimum=2)
    n, m = len(real), len(fake)
    return _sum_within(real) / (n * (n - 1)) + _sum_within(fake) / (m * (m - 1)) - 2 * _sum_across(real, fake) / (n * m)


def kernel_variance(real: np.ndarray, fake: np.ndarray, real_strata: np.ndarray, fake_strata: np.ndarray) -> float:
    """Variance of :func:`kernel_distance` of ``real`` (n, d) and ``fake`` (m, d), in closed form.

    It is that of a U-statistic by Hoeffding's decomposition (Serfling, Approximation Theorems of Mathematical
    Statistics, 1980, section 5.2): 4 V + 2 Q with V the variances of the rows' mean kernels, h(x) = E k(x, X) − E k(x,
    Y), over the numbers of rows, and Q = Σ k̃² over pairs, each over the square of their number, of the kernels without
    their rows' and columns' means; pairs of both sets count twice. The rows' means are themselves estimated, which
    adds 4 Q to the first term: so 2 Q are subtracted. It is no less than the second term.

    Of rows in strata (n,), (m,), of which equally many are taken, every stratum has equal weight, and means are those
    of pairs of strata: what strata differ in adds nothing.
    """
    real, fake = as_pair(real, fake, minimum=4)
    sets = [(real, *_weights(real_strata)), (fake, *_weights(fake_strata))]
    first, second = 0.0, 0.0
    for side, (x, weights, members) in enumerate(sets):
        means = [_row_means(x, y, of_y, own=number == side) for number, (y, _, of_y) in enumerate(sets)]
        influence = means[side].mean(axis=1) - means[1 - side].mean(axis=1)
        centred = influence - members @ ((members.T @ influence) / members.sum(axis=0))
        counts = members.sum(axis=0)[members.argmax(axis=1)]
        first += 4 * float((np.square(weights * centred) * counts / (counts - 1)).sum())
        for number, (y, of_weights, of_y) in enumerate(sets):
            second += 2 * _pairs(x, y, weights, of_weights, members, of_y, means[number], own=number == side)
    return max(first - second, second)


def _weights(strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of every row (n,), which add up to 1, and its stratum as one of (n, strata) columns that is 1."""
    members = (strata[:, None] == np.unique(strata)[None]).astype(np.float64)
    counts = members.sum(axis=0)
    weights: np.ndarray = (members / counts).sum(axis=1) / len(counts)
    return weights, members


def _row_means(x: np.ndarray, y: np.ndarray, members: np.ndarray, *, own: bool) -> np.ndarray:
    """Mean kernel of every row of ``x`` with each stratum of ``y``: (n, strata); without itself in its ``own`` set."""
    counts = members.sum(axis=0)
    means = np.empty((len(x), len(counts)))
    for rows in row_blocks(len(x), len(y)):
        means[rows] = _kernel(x[rows], y) @ members
    if not own:
        return np.asarray(means / counts)
    itself = np.power(np.square(x).sum(axis=1) / x.shape[1] + 1, 3)
    return np.asarray((means - members * itself[:, None]) / (counts - members))


def _pairs(
    x: np.ndarray,
    y: np.ndarray,
    x_weights: np.ndarray,
    y_weights: np.ndarray,
    x_members: np.ndarray,
    y_members: np.ndarray,
    means: np.ndarray,
    *,
    own: bool,
) -> float:
    """Σ aᵢ² bⱼ² k̃ᵢⱼ² over pairs of different rows, k̃ the kernel less its row's and column's means within strata."""
    other = means if own else _row_means(y, x, x_members, own=False)
    both = (x_members.T @ means) / x_members.sum(axis=0)[:, None]
    columns = other.T - both @ y_members.T  # (strata of x, m)
    total = 0.0
    for rows in row_blocks(len(x), len(y)):
        block = _kernel(x[rows], y)
        block -= means[rows] @ y_members.T
        block -= x_members[rows] @ columns
        if own:
            block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = 0
        np.square(block, out=block)
        total += float(np.square(x_weights[rows]) @ block @ np.square(y_weights))
        del block  # else it is held beside the next one
    return total


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x·y/d + 1)³ of rows of ``x`` (n, d) and ``y`` (m, d): (n, m)."""
    base: np.ndarray = x @ y.T
    base /= x.shape[1]
    base += 1
    cube: np.ndarray = base * base
    cube *= base
    return cube


def _sum_across(x: np.ndarray, y: np.ndarray) -> float:
    return math.fsum(float(_kernel(x[rows], y).sum()) for rows in row_blocks(len(x), len(y)))


def _sum_within(x: np.ndarray) -> float:
    """Sum over ordered pairs of different rows. A block meets itself and the rows after it, which count twice."""
    sums = []
    for rows in row_blocks(len(x), len(x)):
        block = _kernel(x[rows], x[rows.start :])
        own = block[:, : len(block)]
        sums += [2 * float(block.sum()), -float(own.sum()), -float(own.trace())]
        del block, own  # else they are held beside the next ones
    return math.fsum(sums)
