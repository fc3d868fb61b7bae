"""CMMD's formula, as a package of somebody else would bring it: one class and one entry point."""

from __future__ import annotations

import math

import numpy as np

from grasp_bench import FeatureMetric, Sets

SIGMA, SCALE = 10.0, 1000.0


class Cmmd(FeatureMetric):
    """CMMD: maximum mean discrepancy of a Gaussian kernel on features of length 1

    The biased estimate, as in the authors' code, of 1000 MMD² with the kernel exp(−|x − y|² / 2σ²), σ = 10.
    """

    name = "cmmd"
    version = "1"
    label = "CMMD"
    names_extractor = True
    direction = "lower"
    bounds = (0.0, math.inf)
    uses_directions = True
    definition = (
        "Maximum mean discrepancy between generated and real test images, with a Gaussian kernel on directions."
    )
    misleads = "With a kernel as wide as this it hardly sees more than the distance of the means."
    source = "Jayasumana et al., CVPR 2024"

    def value(self, given: Sets) -> float:
        return cmmd(given.real, given.generated)


def cmmd(x: np.ndarray, y: np.ndarray) -> float:
    """1000 times the biased estimate of MMD² of the directions of ``x`` (n, d) and ``y`` (m, d)."""
    x, y = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (x, y))
    return SCALE * max(0.0, float(_kernel(x, x).mean() + _kernel(y, y).mean() - 2 * _kernel(x, y).mean()))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of unit vectors, whose squared distance is 2 − 2 x·y: (n, m)."""
    kernel: np.ndarray = np.exp((x @ y.T - 1) / SIGMA**2)
    return kernel
