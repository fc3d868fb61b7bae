"""Gradients of two groups of classes whose alignment is known, as ``grasp-bench diagnose`` measures it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_bench.diagnose import alignment
from grasp_bench.diagnose.findings import DRAWS, PERMUTATIONS

from .worlds import Truth

WIDTH, CLASSES = 64, 3
GROUPS = np.repeat([0, 1], CLASSES)
"""Group of each class."""
NOISE = 2.0
"""Length of a gradient's noise over that of its class's mean."""


@dataclass(frozen=True)
class Gradients:
    """Two groups of classes, each the sum of what its group and what it alone has in common, and noise."""

    batches: int

    def intervals(self, repeats: int) -> dict[str, tuple[Truth, list[tuple[float, float]]]]:
        """Return the cosine of the groups' means and the lift of the partition into groups, each with its intervals.

        An interval is NaN where there is none. The truth's deviation is that of what is measured over repeats.
        """
        stream = np.random.default_rng(1)
        shared = stream.normal(size=(1, 1, WIDTH)) * 0.7
        means = shared + stream.normal(size=(2, 1, WIDTH)) * 0.7 + stream.normal(size=(2, CLASSES, WIDTH)) * 0.3
        groups, singly = means.mean(axis=1), means.reshape(2 * CLASSES, WIDTH)
        true = {
            "cosine": float(groups[0] @ groups[1] / np.linalg.norm(groups, axis=1).prod()),
            "lift": _lift((singly @ singly.T)[None], np.zeros((1, 1, 2 * CLASSES, 2 * CLASSES)), stream)[0],
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in true}
        measured: dict[str, list[float]] = {name: [] for name in true}
        for seed in range(repeats):
            rng = np.random.default_rng([self.batches, seed])
            noise = rng.normal(size=(self.batches, 2 * CLASSES, WIDTH)) * NOISE
            gram = alignment.gram_matrix(singly + noise)
            members = alignment.group_members(GROUPS, self.batches, rng)
            products = alignment.vector_products(gram, members)
            draws = alignment.resampled(self.batches, DRAWS, rng)
            low, high = alignment.percentiles(
                np.stack([alignment.cosines(alignment.split_products(products, counts)) for counts in draws])
            )
            measured["cosine"].append(float(alignment.cosines(alignment.split_products(products))[0, 1]))
            found["cosine"].append((float(low[0, 1]), float(high[0, 1])))
            resampled = np.stack([alignment.split_products(gram, counts)[None] for counts in draws])
            lift, *ends = _lift(alignment.split_products(gram)[None], resampled, rng)
            measured["lift"].append(lift)
            found["lift"].append((ends[0], ends[1]))
        return {name: (Truth(true[name], float(np.nanstd(measured[name], ddof=1))), found[name]) for name in true}


def _lift(products: np.ndarray, resampled: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """The lift of the partition into groups, and the ends of its interval."""
    found = alignment.lift(products, resampled, GROUPS, PERMUTATIONS, rng)
    return found["within"] - found["random"], found["low"], found["high"]
