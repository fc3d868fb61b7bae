import itertools

import numpy as np
import pytest

from grasp_bench.metrics import irs
from grasp_bench.metrics.retrieval import RetrievalScore, _distinct, _expected, _interval, _rarefied, _support


def images(*indices: int, scale: float = 1.0) -> np.ndarray:
    """Features (n, 1) of which number i retrieves training image i of :func:`training`."""
    return np.array(indices, dtype=np.float64)[:, None] * scale


def training(n: int) -> np.ndarray:
    return images(*range(n))


def test_a_case_by_hand():
    train = np.array([[0.0, 0], [4, 0], [0, 4], [9, 9]])
    fake = np.array([[1.0, 0], [0, 1], [5, 1], [1, 1]])  # the nearest are 0, 0, 1, 0
    score = irs(train, fake)
    assert score.adjusted is None
    s = 4 * score.irs_inf
    assert s * (1 - (1 - 1 / s) ** 4) == pytest.approx(2)


def test_the_extrapolation_has_a_closed_form_for_two_images_and_for_three():
    # 2 draws of s differ in 2 − 1/s values; 3 draws in 3 − 3/s + 1/s²
    assert _support(1.9, 2, 100) == pytest.approx(10)
    assert _support(3 - 3 / 7 + 1 / 49, 3, 100) == pytest.approx(7)


@pytest.mark.parametrize(("s", "n"), [(1, 4), (2, 1), (5, 3), (3, 6), (4, 4)])
def test_the_distribution_of_different_values_is_that_of_all_sequences(s: int, n: int):
    counts = [len(set(sequence)) for sequence in itertools.product(range(s), repeat=n)]
    first, probabilities = _distinct(s, n)
    assert probabilities == pytest.approx(np.bincount(counts)[first:] / len(counts), rel=1e-12)
    assert _expected(s, n) == pytest.approx(np.mean(counts))


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 3), (2, 3), (5, 12), (12, 12), (11, 12), (30, 40)])
def test_the_interval_inverts_the_distribution(k: int, n: int):
    limit = 150

    def tails(s: int) -> tuple[float, float]:
        first, probabilities = _distinct(s, n)
        counts = first + np.arange(len(probabilities))
        return probabilities[counts <= k].sum(), probabilities[counts >= k].sum()

    held = [s for s in range(k, limit + 1) if min(tails(s)) >= 0.025]
    low, high = _interval(k, n, limit)
    assert low == held[0]
    assert high == pytest.approx(max(held[-1], _support(k, n, limit)))


def test_the_integer_part_of_the_extrapolation_is_the_most_likely_support():
    for k, n in ((5, 12), (30, 40), (20, 60)):
        likelihoods = []
        for s in range(k, 150):
            first, probabilities = _distinct(s, n)
            index = k - first
            likelihoods.append(probabilities[index] if 0 <= index < len(probabilities) else 0.0)
        assert int(_support(k, n, 150)) == k + int(np.argmax(likelihoods))


@pytest.mark.parametrize(("n", "support", "draws"), [(200, 40, 60), (300, 150, 100), (100, 10, 50), (400, 300, 90)])
def test_sampling_recovers_the_support(n: int, support: int, draws: int):
    state = np.random.RandomState(0)
    train, held, estimates = training(n), [], []
    for _ in range(300):
        reached = state.permutation(n)[:support]
        score = irs(train, images(*state.choice(reached, draws)))
        assert score.low <= score.irs_inf <= score.high
        held.append(score.low - 1e-12 <= support / n <= score.high + 1e-12)
        estimates.append(score.irs_inf)
    assert 0.93 <= np.mean(held) <= 1  # at least 95 %: the number of different images is discrete
    assert np.median(estimates) == pytest.approx(support / n, rel=0.1)


def test_the_interval_is_not_much_wider_than_95_percent():
    state = np.random.RandomState(1)
    found = [len(set(state.randint(1000, size=1500).tolist())) for _ in range(1000)]
    intervals = {k: _interval(k, 1500, 5000) for k in set(found)}
    held = [intervals[k][0] <= 1000 <= intervals[k][1] for k in found]
    assert 0.93 <= np.mean(held) <= 0.98


def test_one_image_retrieved_by_all():
    score = irs(training(100), np.zeros((50, 1)))
    assert (score.irs_inf, score.low, score.high) == (0.01, 0.01, 0.01)


def test_no_image_retrieved_twice_bounds_the_support_from_below_alone():
    score = irs(training(100), training(10))
    assert (score.irs_inf, score.high) == (1, 1)
    assert score.low == 0.16  # ten draws of sixteen differ in 2.6 % of cases, of fifteen in 1.9 %
    assert irs(training(100), training(100)) == RetrievalScore(1, 1, 1, None)


def test_one_image_says_next_to_nothing():
    score = irs(training(20), images(3))
    assert (score.irs_inf, score.low, score.high) == (1, 0.05, 1)
    assert irs(training(1), np.ones((5, 1))).irs_inf == 1


def test_many_images():
    k = round(_expected(3000, 20_000))
    low, high = _interval(k, 20_000, 4000)
    assert low < 3000 < high
    assert 1 <= high - low < 20


def test_held_out_real_images_adjust_at_equal_counts():
    state = np.random.RandomState(2)
    train, test, fake = state.randn(200, 6), state.randn(120, 6), state.randn(120, 6)
    score = irs(train, fake, test)
    assert score.adjusted == pytest.approx(score.irs_inf / irs(train, test).irs_inf)
    assert irs(train, fake, fake).adjusted == 1
    assert irs(train, test, fake).adjusted == pytest.approx(1 / score.adjusted)


def test_held_out_images_of_another_count_do_not_move_the_adjusted_score():
    adjusted, plain = [], []
    for seed in range(8):
        state = np.random.RandomState(seed)
        train, fake, test = state.randn(400, 32), state.randn(2000, 32), state.randn(150, 32)
        score = irs(train, fake, test)
        adjusted.append(score.adjusted)
        plain.append(score.irs_inf / irs(train, test).irs_inf)
    assert np.mean(adjusted) == pytest.approx(1, abs=0.12)
    assert np.mean(plain) > 1.5  # with more images, more of what is rarely the nearest
    drawn = [irs(train, fake[state.permutation(2000)[:150]], test).adjusted for _ in range(60)]
    assert adjusted[-1] == pytest.approx(np.mean(drawn), rel=0.05)


def test_rarefaction_is_the_expectation_over_subsets():
    hits = np.array([3, 1, 2])
    labels = np.repeat(np.arange(3), hits)
    for size in range(1, 7):
        counts = [len(set(labels[list(chosen)])) for chosen in itertools.combinations(range(6), size)]
        assert _rarefied(hits, size) == pytest.approx(np.mean(counts))


def test_order_of_rows_changes_nothing():
    state = np.random.RandomState(4)
    train, fake, test = state.randn(50, 4), state.randn(70, 4), state.randn(30, 4)
    assert irs(train[::-1], fake[::-1], test[::-1]) == irs(train, fake, test)


def test_of_equal_training_images_the_first_is_retrieved():
    assert irs(np.ones((4, 3)), np.ones((9, 3))).irs_inf == 1 / 4


@pytest.mark.parametrize(
    ("train", "fake", "test", "message"),
    [
        (np.ones((0, 3)), np.ones((4, 3)), None, "train: n = 0, at least 1"),
        (np.ones((4, 3)), np.ones((0, 3)), None, "fake: n = 0, at least 1"),
        (np.ones((4, 3)), np.ones((4, 3)), np.ones((0, 3)), "test: n = 0, at least 1"),
        (np.ones((4, 3)), np.ones((4, 5)), None, "train has width 3 and fake 5"),
        (np.ones((4, 3)), np.ones((4, 3)), np.ones((4, 2)), "train has width 3 and test 2"),
        (np.ones((4, 3)), np.full((2, 3), np.nan), None, "fake: row 0 holds NaN"),
        (np.ones((4, 3)), np.ones((4, 3)), np.full((2, 3), np.inf), "test: row 0 holds NaN or infinite"),
    ],
)
def test_bad_input(train: np.ndarray, fake: np.ndarray, test: np.ndarray | None, message: str):
    with pytest.raises(ValueError, match=message):
        irs(train, fake, test)
