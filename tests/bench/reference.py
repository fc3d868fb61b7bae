"""The packages that are usually called for the metrics: each once, on all rows that it is given.

Every function takes float32 features ``real`` (n, d) and ``fake`` (m, d) and returns its scores under our names for
them. The packages are called as their documentation does, with these choices in their favour: the kernel distance's
subsets are no larger than the sets, and the Vendi score is that of the smaller of the two equivalent matrices.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable

import numpy as np

KERNEL_SUBSET = 1000  # torch-fidelity's own

Peer = Callable[[np.ndarray, np.ndarray, int], dict[str, float]]


def frechet(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """torch-fidelity's FID of features."""
    import torch
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(torch.from_numpy(each)) for each in (real, fake)]
    return {"fd": fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]}


def kernel(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """torch-fidelity's KID of features: the mean over its 100 subsets."""
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    size = min(KERNEL_SUBSET, len(real), len(fake))
    found = kid_features_to_metric(torch.from_numpy(real), torch.from_numpy(fake), kid_subset_size=size, verbose=False)
    return {"kid": found[KEY_METRIC_KID_MEAN]}


def neighbours(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """prdc's four scores. Raises ValueError for fewer than k + 2 rows."""
    from prdc import compute_prdc

    with contextlib.redirect_stdout(io.StringIO()):
        found = compute_prdc(real, fake, nearest_k=k)
    return {name: float(value) for name, value in found.items()}


def vendi(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """vendi-score's score of ``fake``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names in scipy that the package uses
        from vendi_score import vendi as package

        score = package.score_X if len(fake) <= fake.shape[1] else package.score_dual
        return {"vendi": float(score(fake))}


PEERS: dict[str, Peer] = {
    "torch-fidelity FID": frechet,
    "torch-fidelity KID": kernel,
    "prdc": neighbours,
    "vendi-score": vendi,
}
PACKAGES = ("torch-fidelity", "prdc", "vendi-score", "scikit-learn")
