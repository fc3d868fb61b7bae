import numpy as np
import pytest

from grasp_bench.data.order import DataOrder

COUNT, BATCH = 50, 8


def order(seed=0, weights=None, count=COUNT, batch=BATCH):
    return DataOrder("digits-lt", seed, count, batch, weights)


def test_each_epoch_shows_each_image_once():
    seen = np.concatenate([order()(step) for step in range(25)])  # 25 steps of 8 are four epochs of 50
    epochs = seen.reshape(4, COUNT)
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_step_does_not_depend_on_the_steps_before_it():
    whole = order()
    for step in range(20):
        whole(step)
    for step in (0, 6, 7, 19):
        assert np.array_equal(order()(step), whole(step))


def test_images_do_not_depend_on_the_batch_size():
    small, large = order(batch=5), order(batch=20)
    for step in range(6):
        parts = [small(4 * step + part) for part in range(4)]
        assert np.array_equal(np.concatenate(parts), large(step))


def test_a_batch_may_be_larger_than_the_data():
    assert sorted(order(count=3, batch=6)(0)) == [0, 0, 1, 1, 2, 2]


def test_seeds_differ():
    assert not np.array_equal(order(seed=0)(0), order(seed=1)(0))


def test_weights_are_honoured_in_the_limit():
    weights = np.array([0.0, 1.0, 2.0, 5.0])
    drawn = DataOrder("digits-lt", 0, 4, 100, weights)
    seen = np.concatenate([drawn(step) for step in range(100)])
    shares = np.bincount(seen, minlength=4) / len(seen)
    assert shares[0] == 0
    assert shares == pytest.approx(weights / 8, abs=0.02)
