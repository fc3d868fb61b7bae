import numpy as np
import pytest

from grasp_bench.metrics import _arrays
from grasp_bench.metrics._distances import nearest


def normal_pair(seed: int, n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    state = np.random.RandomState(seed)
    return state.randn(n, d), state.randn(m, d)


@pytest.mark.parametrize("block", [1, 150, 2**22])
def test_agrees_with_scikit_learn(block: int, monkeypatch: pytest.MonkeyPatch):
    from sklearn.neighbors import NearestNeighbors

    monkeypatch.setattr(_arrays, "_BLOCK", block)
    queries, reference = normal_pair(0, 70, 50, 6)
    model = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(reference)
    for expected, (indices, distances) in (
        (model.kneighbors(queries), nearest(queries, reference)),
        (model.kneighbors(), nearest(reference, reference, np.arange(50))),
    ):
        assert indices.tolist() == expected[1][:, 0].tolist()
        assert distances == pytest.approx(expected[0][:, 0], rel=1e-9)


def test_chosen_rows():
    _, features = normal_pair(1, 1, 40, 5)
    rows = np.array([7, 0, 31])
    indices, distances = nearest(features, features, np.arange(40))
    chosen, lengths = nearest(features[rows], features, rows)
    assert chosen.tolist() == indices[rows].tolist()
    assert lengths.tolist() == distances[rows].tolist()


def test_equal_rows_are_at_exactly_zero_far_from_the_origin():
    _, reference = normal_pair(2, 1, 60, 16)
    reference += 1e5
    indices, distances = nearest(reference[::3], reference)
    assert indices.tolist() == list(range(0, 60, 3))
    assert (distances == 0).all()


def test_of_rows_equally_near_the_first_in_the_order_of_their_values():
    reference = np.array([[1.0, 5], [1, -5], [1, 5], [9, 0]])
    query = np.array([[1.0, 0]])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        assert reference[order][nearest(query, reference[order])[0][0]].tolist() == [1, -5]
    equal = np.array([[1.0], [-1.0], [1.0]])
    assert nearest(np.array([[2.0]]), equal)[0].tolist() == [0]
    assert nearest(equal[[0, 2]], equal, np.array([0, 2]))[0].tolist() == [2, 0]
