"""What is measured of a set of generated images, and how."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from grasp_bench.metrics.frechet import frechet_distance, frechet_distance_infinity
from grasp_bench.metrics.kernel import kernel_distance
from grasp_bench.metrics.memorisation import authenticity
from grasp_bench.metrics.prdc import prdc
from grasp_bench.metrics.retrieval import irs
from grasp_bench.metrics.vendi import vendi_score

METRICS: dict[str, tuple[str, ...]] = {
    "fd": ("fd",),
    "fd_inf": ("fd_inf",),
    "kid": ("kid",),
    "prdc": ("precision", "recall", "density", "coverage"),
    "vendi": ("vendi",),
    "irs": ("irs", "irs_adjusted"),
    "authenticity": ("authenticity",),
}
"""What can be asked for, and the scores that each gives."""
LOWER_IS_BETTER = frozenset(["fd", "fd_inf", "kid"])
IRS_ENDS = ("irs_low", "irs_high")
"""Measured beside ``irs``: the ends of its own interval."""


@dataclass(frozen=True)
class Protocol:
    """What is measured, and how."""

    metrics: tuple[str, ...]
    """Keys of :data:`METRICS`."""
    n: int | None = None
    """Images of each kind for every group; by default as many as all can give."""
    draws: int = 20
    k: int = 5
    """Neighbours behind precision, recall, density and coverage."""
    resamples: int = 0
    """Of the bootstrap over units; 0 for none."""
    seed: int = 0

    @property
    def least(self) -> int:
        """The smallest number of images of each kind that every metric is defined for."""
        return max(self.k + 2 if "prdc" in self.metrics else 2, 28 if "fd_inf" in self.metrics else 2)

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores that the metrics give."""
        return tuple(itertools.chain.from_iterable(METRICS[metric] for metric in self.metrics))


def measure(
    reference: np.ndarray, images: np.ndarray, held_out: np.ndarray, train: np.ndarray | None, protocol: Protocol
) -> dict[str, float]:
    """Every score of ``images`` (m, d) against real ones ``reference`` (n, d), and :data:`IRS_ENDS`.

    IRS and authenticity are of ``train`` (N, d); without it IRS is of ``reference`` and there is no authenticity, nor
    with fewer than two training images. IRS is ``irs_inf``, adjusted by other real images ``held_out`` (m, d).
    """
    found: dict[str, float] = {}
    for metric in protocol.metrics:
        if metric == "fd":
            found["fd"] = frechet_distance(reference, images)
        elif metric == "fd_inf":
            found["fd_inf"] = frechet_distance_infinity(reference, images, key=(protocol.seed,))
        elif metric == "kid":
            found["kid"] = kernel_distance(reference, images)
        elif metric == "prdc":
            scores = prdc(reference, images, protocol.k)
            found |= {name: getattr(scores, name) for name in METRICS["prdc"]}
        elif metric == "vendi":
            found["vendi"] = vendi_score(images)
        elif metric == "irs":
            retrieved = irs(reference if train is None else train, images, held_out)
            assert retrieved.adjusted is not None  # since there are held-out images
            found |= {"irs": retrieved.irs_inf, "irs_adjusted": retrieved.adjusted}
            found |= dict(zip(IRS_ENDS, (retrieved.low, retrieved.high), strict=True))
        elif train is not None and len(train) > 1:
            found["authenticity"] = authenticity(train, images).share
    return found
