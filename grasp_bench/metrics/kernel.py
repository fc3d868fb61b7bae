"""Kernel distance between two sets of features: the squared maximum mean discrepancy of a cubic kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
        """Standard error of the delete-half jackknife; None for fewer than four images."""
        half = len(given.real) // 2
        if half < 2:
            return None
        return kernel_distance_subsets(given.real, given.generated, SUBSETS, half, key=key).standard_error


@dataclass(frozen=True)
class KernelEstimate:
    """Kernel distance as the mean over subsets, with its standard error."""

    mean: float
    standard_error: float
    subsets: int
    size: int
    """Rows of each set in a subset."""
    disjoint: bool
    """Whether no row is in two subsets; otherwise each subset is drawn from all rows."""


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


def kernel_distance_subsets(
    real: np.ndarray, fake: np.ndarray, subsets: int, size: int, *, key: tuple[str | int, ...]
) -> KernelEstimate:
    """Mean of :func:`kernel_distance` over ``subsets`` random pairs of ``size`` rows of ``real`` and of ``fake``.

    Subsets are disjoint where both sets have ``subsets`` × ``size`` rows, and the standard error is s/√subsets with
    s the standard deviation over them. Otherwise each subset is drawn from all rows without replacement. Subsets
    then share rows, s/√subsets tends to zero, and the standard error is s √(size/(n − size) + 1/subsets) with n the
    rows of the smaller set: that of the delete-d jackknife (Shao and Wu, Annals of Statistics 1989) and of the
    random choice of subsets. Subsets depend on ``key`` and on the order of rows.

    Raises ValueError for fewer than two subsets, ``size`` below two, sets with fewer rows than ``size``, or with no
    row more than it where subsets overlap, and as :func:`kernel_distance` does.
    """
    if subsets < 2 or size < 2:
        raise ValueError(f"subsets = {subsets} and size = {size}, expected at least 2 of each")
    real, fake = as_pair(real, fake, minimum=size)
    n = min(len(real), len(fake))
    disjoint = subsets * size <= n
    if n == size:
        name = "real" if len(real) == n else "fake"
        raise ValueError(f"{name}: n = {n}, more than size = {size} rows are needed for subsets to differ")
    real_stream, fake_stream = rng("kernel-real", *key), rng("kernel-fake", *key)
    real_rows, fake_rows = real_stream.permutation(len(real)), fake_stream.permutation(len(fake))
    values = np.empty(subsets)
    for number in range(subsets):
        if disjoint:
            rows = slice(number * size, (number + 1) * size)
        else:
            real_rows, fake_rows = real_stream.permutation(real_rows), fake_stream.permutation(fake_rows)
            rows = slice(size)
        values[number] = kernel_distance(real[real_rows[rows]], fake[fake_rows[rows]])
    share = 1 / subsets if disjoint else 1 / subsets + size / (n - size)
    return KernelEstimate(
        mean=float(values.mean()),
        standard_error=float(values.std(ddof=1)) * math.sqrt(share),
        subsets=subsets,
        size=size,
        disjoint=disjoint,
    )


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
