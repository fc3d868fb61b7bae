"""The numbers on gradients whose directions are known."""

import numpy as np
import pytest

from grasp_bench.diagnose import alignment as al

RNG = np.random.default_rng(0)


def planted(means, batches, noise, rng=None, shared=0.0):
    """Gradients (B, C, D): each class's mean, noise of its own and noise that the classes of a batch share."""
    rng = rng or np.random.default_rng(1)
    classes, width = means.shape
    own = rng.normal(0, noise, (batches, classes, width))
    return means + own + rng.normal(0, shared, (batches, 1, width)) if shared else means + own


def directions(cosine, width=64, length=1.0):
    """Two vectors of a given cosine."""
    first, second = np.eye(width)[:2]
    return length * np.stack([first, cosine * first + np.sqrt(1 - cosine**2) * second])


def singly(classes, batches):
    return np.broadcast_to(np.eye(classes), (batches, classes, classes)).copy()


def test_without_noise_cosines_are_exact():
    gradients = planted(directions(-0.3), 6, 0)
    gram = al.gram_matrix(gradients)
    assert al.cosines(al.split_products(gram))[0, 1] == pytest.approx(-0.3)
    assert al.mean_cosines(gram, singly(2, 6))[0, 1] == pytest.approx(-0.3)
    np.testing.assert_allclose(al.ceilings(gram), 1)


def test_noise_shrinks_the_plain_cosine_and_not_the_corrected_one():
    plain, corrected = [], []
    for seed in range(200):
        gram = al.gram_matrix(planted(directions(0.8), 8, 0.25, np.random.default_rng(seed)))
        plain.append(al.mean_cosines(gram, singly(2, 8))[0, 1])
        corrected.append(al.cosines(al.split_products(gram))[0, 1])
    assert np.mean(plain) < 0.6
    assert np.nanmedian(corrected) == pytest.approx(0.8, abs=0.06)


def test_noise_that_classes_share_does_not_align_them():
    found = [
        al.split_products(al.gram_matrix(planted(directions(0.0), 8, 0.1, np.random.default_rng(seed), shared=0.3)))
        for seed in range(300)
    ]
    assert np.mean(found, 0)[0, 1] == pytest.approx(0, abs=0.05)


def test_a_vector_that_is_lost_in_noise_is_not_measurable():
    products = np.array([[1.0, 0.2], [0.2, -0.1]])
    found = al.cosines(products)
    assert found[0, 0] == 1
    assert np.isnan(found[[0, 1, 1], [1, 0, 1]]).all()


def test_products_of_groups_are_those_of_their_means():
    gradients = RNG.normal(size=(4, 5, 7))
    members = al.group_members(np.array([0, 0, 0, 1, 1]), 4, np.random.default_rng(0))
    found = al.vector_products(al.gram_matrix(gradients), members)
    vectors = members @ gradients  # (B, V, D)
    np.testing.assert_allclose(found, np.einsum("bvx,dwx->bvdw", vectors, vectors))


def test_groups_get_equal_numbers_of_their_own_classes():
    of_class = np.array([0, 1, 0, 1, 0, 2, 2])
    members = al.group_members(of_class, 50, np.random.default_rng(0))
    assert ((members > 0).sum(2) == 2).all()
    assert not members[:, of_class[None] != np.arange(3)[:, None]].any()
    assert members.any(0)[0].sum() == 3  # every class of the larger group has its turn


def test_resampled_batches_stay_in_their_halves():
    counts = al.resampled(7, 100, np.random.default_rng(0))
    assert (counts[:, ::2].sum(1) == 4).all()
    assert (counts[:, 1::2].sum(1) == 3).all()
    assert len(np.unique(counts, axis=0)) > 20


def test_counting_batches_is_repeating_them():
    gradients = RNG.normal(size=(4, 3, 5))
    counted = al.split_products(al.gram_matrix(gradients), np.array([2, 0, 0, 2]))
    repeated = al.split_products(al.gram_matrix(gradients[[0, 3, 0, 3]]))
    np.testing.assert_allclose(counted, repeated)


def test_an_interval_needs_most_draws():
    drawn = np.stack([np.linspace(0, 1, 100), np.where(np.arange(100) < 10, np.nan, 1.0)], 1)
    low, high = al.percentiles(drawn)
    assert (low[0], high[0]) == pytest.approx((0.025, 0.975))
    assert np.isnan(low[1])
    assert np.isnan(high[1])


def test_permutations_keep_sizes():
    members = al.group_members(np.array([0, 0, 1, 1, 1]), 6, np.random.default_rng(0))
    for permute in (al.permuted_images, al.permuted_classes):
        found = permute(members, np.random.default_rng(1))
        np.testing.assert_array_equal(np.sort(found, -1), np.sort(members, -1))
        assert not np.array_equal(found, members)
    whole = al.permuted_classes(np.arange(10.0) * np.ones((3, 1, 10)), np.random.default_rng(1))
    assert (whole == whole[0]).all()


def p_value(gradients, seed, permutations=99):
    rng = np.random.default_rng(seed)
    members = al.group_members(np.repeat([0, 1], gradients.shape[1] // 2), len(gradients), rng)
    gram = al.gram_matrix(gradients)
    null = [al.mean_cosines(gram, al.permuted_images(members, rng))[0, 1] for _ in range(permutations)]
    observed = al.mean_cosines(gram, members)[0, 1]
    return al.less_than(np.array([[observed]]), np.array(null)[:, None, None])[0].item()


def test_opposite_groups_are_found():
    means = np.repeat(directions(-1.0, width=16), 3, 0)
    assert p_value(planted(means, 8, 0.5), 0) == 0.01


def test_without_a_difference_p_is_uniform_although_the_null_is_not_around_0():
    common = np.full((6, 16), 0.5)  # all classes share a direction
    found = [p_value(planted(common, 4, 1.0, np.random.default_rng(seed)), seed) for seed in range(300)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
    for level in (0.1, 0.25, 0.75):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=0.07)


def test_p_values_count_permutations_and_are_corrected_for_cells():
    null = np.random.default_rng(0).normal(size=(999, 10, 1))
    observed = np.zeros((10, 1))
    observed[3] = -2.5
    p, corrected = al.less_than(observed, null)
    assert p[3, 0] == (1 + (null[:, 3, 0] <= -2.5).sum()) / 1000
    assert p[3, 0] < 0.02
    assert p[3, 0] * 4 < corrected[3, 0] < p[3, 0] * 20
    assert (corrected >= p).all()


def test_cells_that_are_not_measured_are_not_corrected_for():
    null = np.random.default_rng(0).normal(size=(999, 10, 1))
    observed = np.full((10, 1), np.nan)
    observed[3] = -2.5
    p, corrected = al.less_than(observed, null)
    assert corrected[3] == p[3]
    assert np.isnan(np.delete(corrected, 3)).all()
