"""Vendi score: how many different rows a set of features amounts to."""

from __future__ import annotations

import math
import warnings

import numpy as np

from grasp_bench.contracts.metric import FeatureMetric, Sets
from grasp_bench.metrics._arrays import as_features


class VendiScore(FeatureMetric):
    """Vendi score: how many different images there seem to be

    exp of the Shannon entropy of the eigenvalues of K/n, K the cosine similarities of the generated images; from 1
    to n.
    """

    name = "vendi"
    version = "1"
    label = "Vendi score"
    worse_with = "collapse"
    direction = "higher"
    bounds = (1.0, math.inf)
    position = 80
    uses_directions = True
    definition = "Vendi score: how many entirely different images the generated ones amount to, by cosines of features."
    misleads = (
        "Noise is diverse too: its real reference is what to come near to, not to exceed. It depends on where the "
        "features' zero is, and is near 1 where all of them point about the same way."
    )
    source = "Friedman & Dieng, TMLR 2023"

    def value(self, given: Sets) -> float:
        return vendi_score(given.generated)


def vendi_score(features: np.ndarray) -> float:
    """exp of the Shannon entropy of the eigenvalues of K/n, K the cosine similarities of ``features`` (n, d).

    From 1 (all rows alike) to n (all orthogonal) (Friedman and Dieng, TMLR 2023). The entropy is that of the
    ``vendi-score`` package, the eigenvalues those of the smaller of K (n, n) and its dual (d, d).

    Raises ValueError for no rows, a row of zeros (it has no direction), NaN and infinity.
    """
    features = as_features("features", features, minimum=1)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(f"features: row {int(np.argmin(norms))} is all zeros")
    unit = features / norms
    gram = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vendi_score.vendi import entropy_q
    return float(np.exp(entropy_q(np.linalg.eigvalsh(gram / len(unit)), q=1)))
