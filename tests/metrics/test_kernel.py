import numpy as np
import pytest

from grasp_bench.contracts.metric import Sets
from grasp_bench.metrics import _arrays, kernel_distance
from grasp_bench.metrics.kernel import KernelDistance, kernel_variance


def normal_pair(seed: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    state = np.random.RandomState(seed)
    return state.randn(n, d), state.randn(n, d)


def test_a_case_by_hand():
    real, fake = np.array([[0, 0], [1, 0], [0, 1]]), np.array([[1, 1], [2, 1], [1, 2]])
    # kernels 1, 1, 1 and 2.5³, 2.5³, 3³ within the sets; across them 1, 1, 1, 1.5³, 2³, 1.5³, 1.5³, 1.5³, 2³
    assert kernel_distance(real, fake) == 13.194444444444446


@pytest.mark.parametrize("shift", [0, 0.5])
def test_agrees_with_torch_fidelity(shift: float):
    metric = pytest.importorskip("torch_fidelity.metric_kid")
    real, fake = normal_pair(1, 150, 24)
    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None}
    expected = metric.kernel_mmd(real, fake + shift, **kernel, kid_kernel_poly_coef0=1)
    assert kernel_distance(real, fake + shift) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (30, 50), (2, 3)])
def test_agrees_with_scikit_learns_kernel(n: int, m: int):
    from sklearn.metrics.pairwise import polynomial_kernel

    real, fake = normal_pair(2, n, 6)[0], normal_pair(3, m, 6)[0]
    within_real, within_fake, across = (
        polynomial_kernel(x, y, degree=3, gamma=1 / 6, coef0=1) for x, y in ((real, real), (fake, fake), (real, fake))
    )
    expected = (
        (within_real.sum() - within_real.trace()) / (n * (n - 1))
        + (within_fake.sum() - within_fake.trace()) / (m * (m - 1))
        - 2 * across.mean()
    )
    assert kernel_distance(real, fake) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("block", [1, 500, 1800])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch):
    real, fake = normal_pair(4, 101, 8)[0], normal_pair(5, 67, 8)[0]
    whole = kernel_distance(real, fake)
    monkeypatch.setattr(_arrays, "_BLOCK", block)
    assert kernel_distance(real, fake) == pytest.approx(whole, rel=1e-10)


def test_symmetric_and_blind_to_the_order_of_rows():
    real, fake = normal_pair(6, 60, 8)[0], normal_pair(7, 80, 8)[0]
    distance = kernel_distance(real, fake)
    assert kernel_distance(fake, real) == pytest.approx(distance, rel=1e-9)
    assert kernel_distance(real[::-1], fake[::-1]) == pytest.approx(distance, rel=1e-9)


def test_unbiased_at_every_count():
    for n in (3, 30):
        values = [kernel_distance(*normal_pair(seed, n, 4)) for seed in range(300)]
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)


def test_constant_features():
    assert kernel_distance(np.ones((4, 3)), np.ones((5, 3))) == pytest.approx(0, abs=1e-12)
    assert kernel_distance(np.ones((4, 3)), np.zeros((5, 3))) == pytest.approx(2**3 + 1 - 2)


def standard_error(real: np.ndarray, fake: np.ndarray) -> float | None:
    return KernelDistance().standard_error(Sets(real, fake, real), ())


@pytest.mark.parametrize(("n", "shift", "classes"), [(40, 0.0, 1), (80, 1.0, 1), (40, 0.3, 4)])
def test_the_standard_error_is_the_spread_of_the_estimate(n: int, shift: float, classes: int):
    """Also where the distance is 0, and of classes that lie far apart, which add nothing at equal counts."""
    labels = np.arange(n) % classes
    places = np.random.RandomState(7).randn(classes, 4) * 2 * (classes > 1)
    estimates, variances = [], []
    for seed in range(300):
        real, fake = (each + places[labels] for each in normal_pair(seed, n, 4))
        estimates.append(kernel_distance(real, fake + shift))
        variances.append(kernel_variance(real, fake + shift, labels, labels))
    assert np.sqrt(np.mean(variances)) == pytest.approx(np.std(estimates), rel=0.2)


def test_blocks_and_the_order_of_rows_change_no_variance(monkeypatch: pytest.MonkeyPatch):
    real, fake = normal_pair(8, 60, 4)
    labels = np.arange(60) % 3
    whole = kernel_variance(real, fake, labels, labels)
    order = np.random.RandomState(0).permutation(60)
    assert kernel_variance(real[order], fake, labels[order], labels) == pytest.approx(whole, rel=1e-9)
    monkeypatch.setattr(_arrays, "_BLOCK", 100)
    assert kernel_variance(real, fake, labels, labels) == pytest.approx(whole, rel=1e-9)


def test_fewer_than_four_images_have_no_standard_error():
    assert standard_error(*normal_pair(9, 3, 4)) is None
    assert standard_error(*normal_pair(9, 4, 4)) is not None


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
        kernel_distance(real, fake)
