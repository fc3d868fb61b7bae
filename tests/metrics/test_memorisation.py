import numpy as np
import pytest

from grasp_bench.contracts.metric import Sets
from grasp_bench.metrics import _arrays
from grasp_bench.metrics.memorisation import ShareOfAuthentic, near_duplicates

TRAIN = np.array([[0.0], [1.0], [10.0], [14.0]])  # nearest other images are 1, 1, 4 and 4 away
FAKE = np.array([[-0.5], [-3.0], [10.0], [19.0], [13.9]])


def share(train: np.ndarray, fake: np.ndarray) -> float | None:
    return ShareOfAuthentic().value(Sets(train, fake, train, train))


def test_a_case_by_hand():
    copies = near_duplicates(TRAIN, FAKE, 1)
    assert share(TRAIN, FAKE) == 0.4
    assert copies.fake.tolist() == [2, 4, 0]  # the nearest first
    assert copies.train.tolist() == [2, 3, 0]
    assert copies.distance == pytest.approx([0, 0.1, 0.5])


def test_near_duplicates_are_listed_with_their_training_image():
    found = near_duplicates(TRAIN, FAKE, 0.5)
    assert (found.fake.tolist(), found.train.tolist()) == ([2, 4, 0], [2, 3, 0])
    assert found.ratio == pytest.approx([0, 0.1 / 4, 0.5])
    assert near_duplicates(TRAIN, FAKE, 0.1).fake.tolist() == [2, 4]
    exact = near_duplicates(TRAIN, FAKE, 0)
    assert (exact.fake.tolist(), exact.train.tolist(), exact.distance.tolist()) == ([2], [2], [0])
    assert len(near_duplicates(TRAIN, FAKE[1:2], 1)) == 0


def test_a_copied_set_has_no_authentic_image():
    train = np.random.RandomState(0).randn(40, 8).repeat(2, axis=0)  # every image twice: also then
    assert share(train, train) == 0
    assert len(near_duplicates(train, train, 0)) == 80
    assert share(np.ones((4, 3)), np.ones((5, 3))) == 0


def test_images_far_from_training_are_authentic():
    train = np.random.RandomState(1).randn(40, 8)
    assert share(train, train + 100) == 1


def test_images_of_the_same_distribution_are_about_as_far_as_training_images():
    state = np.random.RandomState(2)
    assert 0.4 < share(state.randn(500, 4), state.randn(500, 4)) < 0.75


@pytest.mark.parametrize("block", [1, 200])
def test_agrees_with_the_definition_in_any_blocks(block: int, monkeypatch: pytest.MonkeyPatch):
    state = np.random.RandomState(3)
    train, fake = state.randn(60, 5), state.randn(45, 5)
    across = np.linalg.norm(fake[:, None] - train[None], axis=2)
    within = np.linalg.norm(train[:, None] - train[None], axis=2)
    np.fill_diagonal(within, np.inf)
    authentic = across.min(axis=1) > within.min(axis=1)[across.argmin(axis=1)]
    monkeypatch.setattr(_arrays, "_BLOCK", block)
    copies = near_duplicates(train, fake, 1)
    assert share(train, fake) == pytest.approx(authentic.mean())
    assert sorted(copies.fake.tolist()) == np.flatnonzero(~authentic).tolist()
    assert copies.train.tolist() == across.argmin(axis=1)[copies.fake].tolist()
    assert copies.distance == pytest.approx(np.sort(across.min(axis=1)[~authentic]))


@pytest.mark.parametrize(
    ("train", "fake", "message"),
    [
        (np.ones((0, 3)), np.ones((4, 3)), "train: n = 0, at least 1"),
        (np.ones((4, 3)), np.ones((0, 3)), "fake: n = 0, at least 1"),
        (np.ones((4, 3)), np.ones((4, 5)), "train has width 3 and fake 5"),
        (np.ones((4, 3)), np.full((2, 3), np.nan), "fake: row 0 holds NaN"),
        (np.full((2, 3), np.inf), np.ones((4, 3)), "train: row 0 holds NaN or infinite"),
    ],
)
def test_bad_input(train: np.ndarray, fake: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        near_duplicates(train, fake, 1)


def test_one_training_image_has_no_neighbour():
    with pytest.raises(ValueError, match="train: n = 1, at least 2"):
        near_duplicates(TRAIN[:1], FAKE, 1)
    assert share(TRAIN[:1], FAKE) is None


def test_a_training_image_that_is_there_twice_has_no_near_duplicates_but_equal_ones():
    train = np.array([[0.0], [0.0], [5.0]])
    found = near_duplicates(train, np.array([[0.0], [1e-9]]), 1)
    assert (found.fake.tolist(), found.ratio.tolist()) == ([0], [0])


@pytest.mark.parametrize("ratio", [-1, np.nan, 1.5])
def test_ratios_that_are_none(ratio: float):
    with pytest.raises(ValueError, match="ratio = "):
        near_duplicates(TRAIN, FAKE, ratio)
