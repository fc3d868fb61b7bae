import math

import numpy as np
import pytest

from grasp_bench.stats import paired_difference, tiers


def seeds(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def shifted(shift: float, n: int = 9) -> dict[int, float]:
    """One of several methods that differ by a constant and a little noise of their own."""
    noise = np.random.RandomState(int(shift * 100)).rand(n) * 0.01
    return seeds(*(np.arange(n) + shift + noise))


def test_methods_that_differ_open_tiers_of_their_own():
    scores = {"worst": shifted(2.0), "best": shifted(0.0), "middle": shifted(1.0)}
    found = tiers(scores, "lower")
    assert found.tier == {"best": 1, "middle": 2, "worst": 3}
    assert list(found.comparisons) == [("best", "middle"), ("best", "worst"), ("middle", "worst")]
    assert found.adjusted["best", "worst"] == pytest.approx(3 * 2 / 2**9)
    assert tiers(scores, "higher").tier == {"worst": 1, "middle": 2, "best": 3}


def test_methods_that_do_not_differ_share_a_tier():
    wins_and_losses = seeds(*(i + (0.5 if i % 2 else -0.5) for i in range(9)))
    found = tiers({"a": shifted(0.0), "b": wins_and_losses, "c": shifted(2.0)}, "lower")
    assert found.tier == {"b": 1, "a": 1, "c": 2}
    assert found.comparisons["b", "a"].p > 0.05


def test_a_tiers_best_is_compared_not_its_neighbour():
    # b is close to either side, but c is beyond a: Demšar's overlapping groups, cut from the best downwards
    a, c = shifted(0.0), shifted(0.2)
    b = seeds(*(value + 0.1 * (-1) ** seed for seed, value in shifted(0.1).items()))
    found = tiers({"a": a, "b": b, "c": c}, "lower")
    assert found.adjusted["b", "c"] > 0.05
    assert found.tier == {"a": 1, "b": 1, "c": 2}


def test_five_seeds_by_permutation_cannot_separate_and_say_so():
    scores = {name: shifted(shift, n=5) for name, shift in (("a", 0.0), ("b", 1.0))}
    found = tiers(scores, "lower")
    assert found.adjusted["a", "b"] == 0.0625
    assert found.tier == {"a": 1, "b": 1}
    assert not found.can_separate
    by_t = tiers(scores, "lower", "t")
    assert by_t.tier == {"a": 1, "b": 2}
    assert by_t.can_separate


@pytest.mark.parametrize(("methods", "n", "can"), [(2, 5, False), (2, 6, True), (5, 8, False), (5, 9, True)])
def test_can_separate_counts_the_pairs(methods: int, n: int, can: bool):
    # k methods have k(k-1)/2 pairs and 2/2^n must fall below 0.05 over them; differences as clear as can be
    found = tiers({f"m{i}": shifted(float(i), n) for i in range(methods)}, "lower")
    assert found.can_separate == can
    assert (min(found.adjusted.values()) < 0.05) == can


def test_too_few_shared_seeds_separate_nothing():
    scores = {"a": shifted(0.0), "b": shifted(5.0), "two": seeds(100.0, 200.0), "none": {77: 1000.0}}
    found = tiers(scores, "lower", "t")
    assert found.tier == {"a": 1, "b": 2, "two": 1, "none": 1}
    assert found.comparisons["a", "two"].n == 2
    assert found.adjusted["a", "two"] is None
    assert found.adjusted["a", "b"] == found.comparisons["a", "b"].p  # the only pair that counts
    assert not any("none" in pair for pair in found.comparisons)


def test_pairs_are_those_of_shared_seeds_and_must_agree_with_the_means():
    # b is better on every shared seed; only its others make its mean worse
    a = seeds(*np.arange(10.0))
    b = {seed: value - 0.5 for seed, value in a.items()} | dict.fromkeys(range(10, 20), 100.0)
    found = tiers({"a": a, "b": b}, "lower")
    assert found.comparisons["a", "b"] == paired_difference([*a.values()], [b[seed] for seed in a])
    assert found.adjusted["a", "b"] < 0.05
    assert found.tier == {"a": 1, "b": 1}


def test_the_order_of_methods_and_seeds_does_not_matter():
    scores = {name: shifted(shift) for name, shift in (("a", 0.0), ("b", 0.5), ("c", 1.0))}
    turned = {name: dict(reversed(scores[name].items())) for name in reversed(scores)}
    assert tiers(turned, "lower") == tiers(scores, "lower")


def test_one_method_is_alone():
    found = tiers({"a": seeds(1.0)}, "higher")
    assert (found.tier, found.comparisons, found.adjusted, found.can_separate) == ({"a": 1}, {}, {}, False)


@pytest.mark.parametrize("test", ["permutation", "t"])
def test_alike_methods_are_rarely_separated(test):
    state = np.random.RandomState(0)
    apart = [
        max(tiers({f"m{i}": seeds(*state.randn(10)) for i in range(4)}, "lower", test).tier.values()) > 1
        for _ in range(400)
    ]
    assert np.mean(apart) < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ({}, {}, "at least one method"),
        ({"a": {}}, {}, "a: expected at least one seed"),
        ({"a": {0: math.nan}}, {}, "a: expected at least one seed with a finite value"),
        ({"a": {0: 1.0}}, {"direction": "up"}, "expected lower or higher, got 'up'"),
        ({"a": {0: 1.0}}, {"alpha": 1.0}, "alpha"),
        ({"a": {0: 1.0}, "b": {0: 2.0}}, {"test": "sign"}, "permutation, wilcoxon, t"),
    ],
)
def test_bad_input(scores, options, message):
    with pytest.raises(ValueError, match=message):
        tiers(scores, **{"direction": "lower", **options})
