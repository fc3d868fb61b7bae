"""Partitions on gradients whose clusters are known."""

import numpy as np
import pytest

from grasp_bench.diagnose import alignment as al
from grasp_bench.diagnose.alignment import lift, within

CLUSTERS = np.repeat([0, 1, 2], 3)


def products(clusters, noise=0.3, common=1.0, seed=0, draws=50):
    """Of classes with a common direction and one of their cluster, of the same length when ``common`` is 1."""
    rng = np.random.default_rng(seed)
    means = np.concatenate([np.full((len(clusters), 1), common), np.eye(3)[clusters]], 1)
    gradients = np.pad(means, ((0, 0), (0, 28))) + rng.normal(0, noise, (8, len(clusters), 32))
    gram = al.gram_matrix(gradients)
    counts = al.resampled(8, draws, rng)
    return al.split_products(gram)[None], np.stack([al.split_products(gram, each) for each in counts])[:, None]


def test_the_true_partition_stands_out():
    given, resampled = products(CLUSTERS)
    found = lift(given, resampled, CLUSTERS, 200, np.random.default_rng(0))
    assert found["within"] == pytest.approx(1, abs=0.05)
    assert found["random"] == pytest.approx(0.5 + 0.5 * 2 / 8, abs=0.05)  # two of eight other classes share its cluster
    assert 0 < found["low"] < found["within"] - found["random"] < found["high"]
    assert found["p"] <= 0.01
    assert found["pairs"] == 9


def test_a_partition_across_the_clusters_is_below_chance():
    given, resampled = products(CLUSTERS)
    found = lift(given, resampled, np.tile([0, 1, 2], 3), 200, np.random.default_rng(0))
    assert found["within"] == pytest.approx(0.5, abs=0.05)
    assert found["high"] < 0
    assert found["p"] > 0.9  # the few random ones that go across the clusters, too, are as low


def test_without_clusters_p_is_uniform():
    rng = np.random.default_rng(0)
    alike = [products(np.zeros(9, int), noise=1.0, seed=seed, draws=2) for seed in range(150)]
    p = [lift(*each, CLUSTERS, 60, rng)["p"] for each in alike]
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_long_gradients_do_not_pass_for_aligned_ones():
    given, _ = products(CLUSTERS, noise=0)
    same = (CLUSTERS[:, None] == CLUSTERS)[None]
    longer = given * np.outer(CLUSTERS + 1, CLUSTERS + 1)
    assert within(longer, same) == pytest.approx(within(given, same))


def test_one_class_a_cluster_is_not_measurable():
    given, resampled = products(CLUSTERS)
    found = lift(given, resampled, np.arange(9), 20, np.random.default_rng(0))
    assert found["pairs"] == 0
    assert np.isnan([found["within"], found["random"], found["low"], found["p"]]).all()


def test_beside_random_partitions_that_cannot_be_measured_nothing_is():
    given, resampled = products(CLUSTERS, noise=0)
    lost = np.arange(2, 9)  # of all pairs, only that of classes 0 and 1 can be measured
    for each in (given, resampled):
        each[..., lost, lost] = -1
    found = lift(given, resampled, CLUSTERS, 100, np.random.default_rng(0))
    assert found["within"] == pytest.approx(1)
    assert np.isnan([found["random"], found["low"], found["p"]]).all()


def test_classes_lost_in_noise_are_left_out():
    given, _ = products(CLUSTERS, noise=0)
    given[0, 0, 0] = -1
    given[0, 0, 1:] = given[0, 1:, 0] = -50
    same = (CLUSTERS[:, None] == CLUSTERS)[None]
    assert within(given, same) == pytest.approx(1)
