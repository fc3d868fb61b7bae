import numpy as np
import pytest

from grasp_bench.metrics import frechet, frechet_distance, frechet_distance_infinity
from grasp_bench.metrics.frechet import _cross_by_product, _cross_by_root, _root, _scaled
from grasp_bench.seeds import rng


def normal_pair(seed: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    state = np.random.RandomState(seed)
    return state.randn(n, d), state.randn(n, d)


def with_variances(*variances: float) -> np.ndarray:
    """Rows (2d, d) with mean zero and exactly this diagonal covariance."""
    d = len(variances)
    corners = np.sqrt((2 * d - 1) / 2) * np.concatenate([np.eye(d), -np.eye(d)])
    return corners * np.sqrt(variances)


def test_equal_covariances_leave_the_distance_of_the_means():
    few, _ = normal_pair(0, 8, 2048)
    assert frechet_distance(few, few + 1) == pytest.approx(2048, rel=1e-12)
    unit = with_variances(*np.ones(64))
    assert frechet_distance(unit, unit + 1) == pytest.approx(64, rel=1e-12)


def test_diagonal_covariances():
    # three of the means, (1 - 2)² + (2 - 2)² + (3 - 1)² of the standard deviations
    assert frechet_distance(with_variances(1, 4, 9), with_variances(4, 4, 1) + 1) == pytest.approx(8, rel=1e-12)


@pytest.mark.parametrize(
    ("seed", "n", "d", "expected"),
    [
        (1, 4, 4, 4.7538376),
        (2023, 1000, 64, 2.273944587466),
        (2023, 15, 64, 85.020781),  # exact route for singular covariances; a matrix square root gives 85.020779
    ],
)
def test_known_values(seed: int, n: int, d: int, expected: float):
    assert frechet_distance(*normal_pair(seed, n, d)) == pytest.approx(expected, rel=1e-8)


def test_agrees_with_torch_fidelity():
    metric = pytest.importorskip("torch_fidelity.metric_fid")
    real, fake = normal_pair(3, 500, 48)
    statistics = [{"mu": x.mean(axis=0), "sigma": np.cov(x, rowvar=False)} for x in (real, 2 * fake)]
    expected = metric.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(real, 2 * fake) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [40, 200])
def test_both_routes_agree(n: int):
    a, b = (_scaled(x) for x in normal_pair(4, n, 32))
    assert _cross_by_root(_root(a), b) == pytest.approx(_cross_by_product(a, b), rel=1e-12)


@pytest.mark.parametrize(("n", "m", "rank"), [(200, 150, 20), (33, 33, 31), (300, 60, 1)])
def test_many_rows_of_a_deficient_rank(n: int, m: int, rank: int):
    state = np.random.RandomState(9)
    real, fake = (state.randn(rows, rank) @ state.randn(rank, 32) for rows in (n, m))
    a, b = _scaled(real), _scaled(fake)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()  # of all rows: exact, and slow
    means = np.square(real.mean(axis=0) - fake.mean(axis=0)).sum()
    assert _cross_by_root(_root(a), b) is None
    assert frechet_distance(real, fake) == pytest.approx(
        means + np.square(a).sum() + np.square(b).sum() - 2 * cross, rel=1e-12
    )


@pytest.mark.parametrize(("n", "m"), [(100, 100), (10, 10), (10, 100)])
def test_symmetric_and_blind_to_the_order_of_rows(n: int, m: int):
    real, fake = normal_pair(5, n, 16)[0], normal_pair(6, m, 16)[0]
    distance = frechet_distance(real, fake)
    assert frechet_distance(fake, real) == pytest.approx(distance, rel=1e-7)
    assert frechet_distance(real[::-1], fake[::-1]) == pytest.approx(distance, rel=1e-7)


@pytest.mark.parametrize("n", [10, 100])
def test_the_same_set_has_distance_zero(n: int):
    real, _ = normal_pair(7, n, 16)
    assert 0 <= frechet_distance(real, real) < 1e-9


def test_constant_features():
    assert frechet_distance(np.ones((40, 8)), np.full((5, 8), 3.0)) == pytest.approx(32)
    assert frechet_distance(np.ones((40, 8)), np.ones((40, 8))) == 0


def test_float32_is_computed_in_float64():
    real, fake = (x.astype(np.float32) for x in normal_pair(8, 60, 16))
    assert frechet_distance(real, fake) == frechet_distance(real.astype(np.float64), fake.astype(np.float64))


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.ones((1, 3)), np.ones((4, 3)), "real: n = 1, at least 2"),
        (np.ones((4, 3)), np.ones((0, 3)), "fake: n = 0, at least 2"),
        (np.ones((4, 3)), np.ones((4, 5)), "real has width 3 and fake 5"),
        (np.ones((4, 3)), np.array([[1.0, 2, 3], [1, np.nan, 3]]), "fake: row 1 holds NaN"),
        (np.full((4, 3), np.inf), np.ones((4, 3)), "real: row 0 holds NaN or infinite"),
        (np.ones(4), np.ones((4, 3)), r"real: expected features of shape \(n, d\)"),
    ],
)
def test_bad_input(real: np.ndarray, fake: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        frechet_distance(real, fake)


def gaussians(seed: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Many real rows, ``n`` fake ones, and the distance of the distributions they are drawn from."""
    state = np.random.RandomState(seed)
    return state.randn(6000, d), 1.2 * state.randn(n, d) + 0.1, d * (0.2**2 + 0.1**2)


@pytest.mark.parametrize(("n", "d"), [(300, 16), (300, 32), (1000, 16)])
def test_extrapolation_takes_away_most_of_the_bias(n: int, d: int):
    errors, extrapolated = [], []
    for seed in range(8):
        real, fake, distance = gaussians(seed, n, d)
        errors.append(frechet_distance(real, fake) - distance)
        extrapolated.append(frechet_distance_infinity(real, fake, key=(seed,)) - distance)
    assert min(errors) > 0
    assert abs(np.mean(extrapolated)) < 0.35 * np.mean(errors)


def test_extrapolation_is_a_straight_line_over_one_over_n(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frechet, "SIZES", 2)
    real, fake, _ = gaussians(0, 60, 4)
    part = fake[rng("frechet-subsets").permutation(60)[:8]]  # 8 rows and all 60
    few, whole = frechet_distance(real, part), frechet_distance(real, fake)
    slope = (few - whole) / (1 / 8 - 1 / 60)
    assert frechet_distance_infinity(real, fake, key=()) == pytest.approx(whole - slope / 60, abs=1e-6)


def test_extrapolation_is_a_function_of_its_key_and_of_the_order_of_fake_rows():
    real, fake, _ = gaussians(1, 120, 8)
    value = frechet_distance_infinity(real, fake, key=("a", 1))
    assert frechet_distance_infinity(real, fake, key=("a", 1)) == value
    assert frechet_distance_infinity(real[::-1], fake, key=("a", 1)) == pytest.approx(value, rel=1e-6)
    assert frechet_distance_infinity(real, fake, key=("a", 2)) != value
    assert frechet_distance_infinity(real, fake[::-1], key=("a", 1)) != value


def test_extrapolation_with_fewer_rows_than_features_is_finite():
    real, fake, _ = gaussians(2, 40, 64)
    assert np.isfinite(frechet_distance_infinity(real, fake, key=()))
    assert np.isfinite(frechet_distance_infinity(real[:40], fake, key=()))
    assert frechet_distance_infinity(np.ones((40, 3)), np.full((40, 3), 2.0), key=()) == pytest.approx(3)


def test_extrapolation_from_too_few_rows():
    real, fake, _ = gaussians(3, 40, 4)
    with pytest.raises(ValueError, match="fake: n = 16, at least 22 rows are needed for 15 sizes from 8"):
        frechet_distance_infinity(real, fake[:16], key=())
    with pytest.raises(ValueError, match="real: n = 1, at least 2"):
        frechet_distance_infinity(real[:1], fake, key=())
