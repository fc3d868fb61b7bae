"""Features in which many distances are equal: scores are those of exact distances, in any order of rows."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from grasp_bench.metrics import _arrays, irs, prdc
from grasp_bench.metrics._distances import nearest, neighbour_distances
from grasp_bench.metrics.memorisation import near_duplicates
from grasp_bench.metrics.prdc import PRDC

K = 3


def binary(state: np.random.RandomState, n: int) -> np.ndarray:
    return (state.rand(n, 12) < 0.4).astype(float)


def pixels(state: np.random.RandomState, n: int) -> np.ndarray:
    return state.randint(0, 256, (n, 3)).astype(float) // 32


def with_outlier(state: np.random.RandomState, n: int) -> np.ndarray:
    features = binary(state, n)
    features[n // 2] = 1e9
    return features


def moved(state: np.random.RandomState, n: int) -> np.ndarray:
    return binary(state, n) + 12_345_678


def repeated(state: np.random.RandomState, n: int) -> np.ndarray:
    return np.random.RandomState(7).randn(n // 4, 5)[state.randint(n // 4, size=n)]


def far_apart(state: np.random.RandomState, n: int) -> np.ndarray:
    return binary(state, n) + 1e9 * (np.arange(n) % 2)[:, None]


KINDS = pytest.mark.parametrize("kind", [binary, pixels, with_outlier, moved, repeated, far_apart])


def squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.square(x[:, None] - y[None]).sum(axis=2)


def by_definition(real: np.ndarray, fake: np.ndarray) -> PRDC:
    """The scores by differences of all pairs."""
    real_radii, fake_radii = (np.sort(squares(each, each), axis=1)[:, K] for each in (real, fake))
    cross = squares(real, fake)
    inside = cross < real_radii[:, None]
    return PRDC(
        (cross <= real_radii[:, None]).any(axis=0).mean(),
        (cross <= fake_radii).any(axis=1).mean(),
        inside.sum(axis=0).mean() / K,
        inside.any(axis=1).mean(),
    )


@KINDS
@pytest.mark.parametrize("block", [300, 2**22])
def test_scores_are_exact(
    kind: Callable[[np.random.RandomState, int], np.ndarray], block: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_arrays, "_BLOCK", block)
    state = np.random.RandomState(0)
    real, fake = kind(state, 90), kind(state, 70)
    assert prdc(real, fake, K) == by_definition(real, fake)
    within, across = squares(real, real), squares(fake, real)
    np.fill_diagonal(within, np.inf)
    indices, distances = nearest(fake, real)
    assert (distances == np.sqrt(across.min(axis=1))).all()
    assert (across[np.arange(70), indices] == across.min(axis=1)).all()
    authentic = across.min(axis=1) > within.min(axis=1)[indices]
    assert len(near_duplicates(real, fake, 1)) == (~authentic).sum()


@KINDS
def test_the_order_of_rows_changes_nothing(kind: Callable[[np.random.RandomState, int], np.ndarray]):
    state = np.random.RandomState(1)
    real, fake, held_out = kind(state, 80), kind(state, 60), kind(state, 60)
    found = prdc(real, fake, K), irs(real, fake, held_out), sorted(near_duplicates(real, fake, 1).ratio)
    for seed in range(5):
        real, fake = (np.random.RandomState(seed).permutation(each) for each in (real, fake))
        assert (prdc(real, fake, K), irs(real, fake, held_out)) == found[:2]
        assert sorted(near_duplicates(real, fake, 1).ratio) == found[2]


def test_a_constant_that_keeps_differences_changes_nothing():
    state = np.random.RandomState(2)
    real, fake = binary(state, 80), binary(state, 60)
    for constant in (1.0, -4096.0, 2.0**40):
        assert prdc(real + constant, fake + constant, K) == prdc(real, fake, K)
        assert irs(real + constant, fake + constant) == irs(real, fake)
        copies = (near_duplicates(real + moved, fake + moved, 1) for moved in (0, constant))
        assert len({tuple(each.fake) for each in copies}) == 1


def test_an_outlier_changes_the_balls_of_nobody_else():
    state = np.random.RandomState(3)
    real, fake = binary(state, 80), binary(state, 60)
    outlier = np.full((1, 12), 1e9)
    assert prdc(real, np.concatenate([fake, outlier]), K).density == pytest.approx(
        prdc(real, fake, K).density * 60 / 61, rel=1e-12
    )
    assert (neighbour_distances(np.concatenate([real, outlier]), K)[:-1] == neighbour_distances(real, K)).all()


def test_distances_are_correct_to_the_last_digits_where_products_lose_all():
    features = np.random.RandomState(4).randn(30, 4) + 1e9
    found = neighbour_distances(features, 1)
    for row in (0, 11, 29):
        others = (
            sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(features[row], other, strict=True))
            for at, other in enumerate(features)
            if at != row
        )
        assert found[row] == pytest.approx(float(min(others)), rel=1e-15)


def test_features_whose_squares_are_infinite_are_refused():
    with pytest.raises(ValueError, match="squares are infinite"):
        prdc(np.full((9, 2), 1e200) * np.arange(9)[:, None], np.ones((9, 2)))
