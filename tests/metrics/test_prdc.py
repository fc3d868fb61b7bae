import numpy as np
import pytest

from grasp_bench.metrics import _arrays
from grasp_bench.metrics.prdc import PRDC, prdc


def normal_pair(seed: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    state = np.random.RandomState(seed)
    return state.randn(n, d), state.randn(n, d)


def rounded(scores: PRDC) -> tuple[float, ...]:
    values = scores.precision, scores.recall, scores.density, scores.coverage
    return tuple(round(value, 9) for value in values)


def direct(real: np.ndarray, fake: np.ndarray, k: int) -> PRDC:
    """The definitions word by word, on full matrices of exact differences."""

    def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[:, None] - y[None], axis=2)

    real_radii = np.sort(distances(real, real), axis=1)[:, k]
    fake_radii = np.sort(distances(fake, fake), axis=1)[:, k]
    cross = distances(real, fake)
    inside = cross < real_radii[:, None]
    return PRDC(
        precision=(cross <= real_radii[:, None]).any(axis=0).mean(),
        recall=(cross <= fake_radii).any(axis=1).mean(),
        density=inside.sum(axis=0).mean() / k,
        coverage=(cross.min(axis=1) < real_radii).mean(),
    )


def test_known_values():
    real, fake = normal_pair(0, 200, 16)
    assert rounded(prdc(real, fake)) == (0.84, 0.92, 0.823, 0.965)
    assert rounded(prdc(real, 0.1 * fake)) == (1.0, 0.0, 16.951, 0.755)
    assert rounded(prdc(real, real)) == (1, 1, 1, 1)


@pytest.mark.parametrize(("n", "m", "k"), [(50, 80, 3), (80, 50, 5), (7, 7, 5), (40, 3, 1)])
def test_agrees_with_the_definitions(n: int, m: int, k: int):
    real, fake = normal_pair(1, n, 6)[0], normal_pair(2, m, 6)[0]
    assert rounded(prdc(real, fake, k)) == rounded(direct(real, fake, k))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    real, fake = normal_pair(3, 101, 8)[0], normal_pair(4, 67, 8)[0]
    whole = prdc(real, fake)
    for block in (1, 500):
        monkeypatch.setattr(_arrays, "_BLOCK", block)
        assert prdc(real, fake) == whole


def test_order_of_rows_and_position_change_nothing():
    real, fake = normal_pair(5, 60, 8)
    scores = rounded(prdc(real, fake))
    assert rounded(prdc(real[::-1], fake[::-1])) == scores
    assert rounded(prdc(real + 1e4, fake + 1e4)) == scores


def test_swapping_the_sets_swaps_precision_and_recall():
    real, fake = normal_pair(6, 90, 4)
    forth, back = prdc(real, fake), prdc(fake, real)
    assert (forth.precision, forth.recall) == (back.recall, back.precision)


def test_sets_far_apart_score_zero():
    real, fake = normal_pair(7, 50, 4)
    assert rounded(prdc(real, fake + 100)) == (0, 0, 0, 0)


def test_few_rows_are_an_error():
    real, fake = normal_pair(8, 7, 4)
    prdc(real, fake)
    with pytest.raises(ValueError, match="fake: n = 6, at least 7"):
        prdc(real, fake[:6])
    with pytest.raises(ValueError, match="real: n = 7, at least 8"):
        prdc(real, fake, k=6)
    with pytest.raises(ValueError, match="k = 0"):
        prdc(real, fake, k=0)


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.ones((9, 3)), np.ones((9, 4)), "real has width 3 and fake 4"),
        (np.ones((9, 3)), np.full((9, 3), np.nan), "fake: row 0 holds NaN or infinite"),
        (np.full((9, 3), -np.inf), np.ones((9, 3)), "real: row 0 holds NaN or infinite"),
        (np.ones((9, 3, 1)), np.ones((9, 3)), r"real: expected features of shape \(n, d\)"),
    ],
)
def test_bad_input(real: np.ndarray, fake: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        prdc(real, fake)


def test_identical_sets_with_repeated_rows_are_precise():
    constant = np.ones((9, 3))
    assert rounded(prdc(constant, constant)) == (1, 1, 0, 0)  # balls of radius 0 hold their edge, and nothing inside
    rows = normal_pair(9, 10, 6)[0].repeat(6, axis=0)
    scores = prdc(rows, rows)
    assert (scores.precision, scores.recall) == (1, 1)
