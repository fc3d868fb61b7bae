"""Kernel distance between two sets of features: the squared maximum mean discrepancy of a cubic kernel."""

from __future__ import annotations

import math

import numpy as np

from grasp_bench.contracts.metric import FeatureMetric, Sets
from grasp_bench.metrics._arrays import as_pair, row_blocks
from grasp_bench.seeds import rng

SUBSETS = 20
"""Halves of a draw's images behind the standard error of :class:`KernelDistance`."""


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
        """Standard error of the delete-half jackknife over :data:`SUBSETS` halves; None for fewer than four images.

        s √(h/(n − h) + 1/m), with s the standard deviation over m pairs of h = ⌊n/2⌋ of n rows of either set, drawn
        without replacement: that of the delete-d jackknife (Shao and Wu, Annals of Statistics 1989) and of the random
        choice of subsets. Subsets depend on ``key`` and on the order of rows.
        """
        n = len(given.real)
        half = n // 2
        if half < 2:
            return None
        real_stream, fake_stream = rng("kernel-real", *key), rng("kernel-fake", *key)
        real_rows, fake_rows = real_stream.permutation(n), fake_stream.permutation(len(given.generated))
        values = []
        for _ in range(SUBSETS):
            real_rows, fake_rows = real_stream.permutation(real_rows), fake_stream.permutation(fake_rows)
            values.append(kernel_distance(given.real[real_rows[:half]], given.generated[fake_rows[:half]]))
        return float(np.std(values, ddof=1)) * math.sqrt(1 / SUBSETS + half / (n - half))


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
    return math.fsum(sums)
