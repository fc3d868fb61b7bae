"""Gradients of two groups of classes whose cosine is known, as ``grasp-bench diagnose`` measures it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_bench.diagnose import alignment
from grasp_bench.diagnose.findings import DRAWS

from .worlds import Truth

WIDTH, CLASSES = 64, 3
NOISE = 2.0
"""Length of a gradient's noise over that of its class's mean."""


@dataclass(frozen=True)
class Gradients:
    """Two groups of classes, each the sum of what its group and what it alone has in common, and noise."""

    batches: int

    def intervals(self, repeats: int) -> tuple[Truth, list[tuple[float, float]]]:
        """Return the cosine of the groups' means, and its interval in each repeat, NaN where there is none.

        The truth's deviation is that of the measured cosine over repeats.
        """
        stream = np.random.default_rng(1)
        shared = stream.normal(size=(1, 1, WIDTH)) * 0.7
        means = shared + stream.normal(size=(2, 1, WIDTH)) * 0.7 + stream.normal(size=(2, CLASSES, WIDTH)) * 0.3
        groups = means.mean(axis=1)
        true = float(groups[0] @ groups[1] / np.linalg.norm(groups, axis=1).prod())
        found, measured = [], []
        for seed in range(repeats):
            rng = np.random.default_rng([self.batches, seed])
            noise = rng.normal(size=(self.batches, 2 * CLASSES, WIDTH)) * NOISE
            gram = alignment.gram_matrix(means.reshape(1, -1, WIDTH) + noise)
            members = alignment.group_members(np.repeat([0, 1], CLASSES), self.batches, rng)
            products = alignment.vector_products(gram, members)
            measured.append(float(alignment.cosines(alignment.split_products(products))[0, 1]))
            draws = alignment.resampled(self.batches, DRAWS, rng)
            low, high = alignment.percentiles(
                np.stack([alignment.cosines(alignment.split_products(products, counts)) for counts in draws])
            )
            found.append((float(low[0, 1]), float(high[0, 1])))
        return Truth(true, float(np.nanstd(measured, ddof=1))), found
