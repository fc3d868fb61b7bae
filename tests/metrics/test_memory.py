import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from grasp_bench.metrics import _arrays, frechet_distance_infinity, irs, kernel_distance, prdc
from grasp_bench.metrics.memorisation import near_duplicates


@pytest.mark.parametrize("ties", [False, True], ids=["continuous", "ties"])
@pytest.mark.parametrize(
    "score",
    [
        prdc,
        kernel_distance,
        irs,
        lambda real, fake: near_duplicates(real, fake, 1),
        lambda real, fake: frechet_distance_infinity(real, fake, key=()),
    ],
    ids=["prdc", "kernel_distance", "irs", "near_duplicates", "frechet_distance_infinity"],
)
def test_no_matrix_of_all_pairs_is_held(
    score: Callable[[np.ndarray, np.ndarray], object], ties: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_arrays, "_BLOCK", 2**16)  # half a MiB of numbers
    state = np.random.RandomState(0)
    real, fake = state.randn(2000, 4), state.randn(2000, 4)  # 30 MiB of pairs
    if ties:
        real, fake = real.round() / 3, fake.round() / 3
    tracemalloc.start()
    try:
        score(real, fake)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 2**20
