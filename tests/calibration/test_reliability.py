"""How reliably scores tell methods apart, by a published example and in the page."""

import numpy as np
import pandas as pd
import pytest

from .reliability import PAGE, failed, of_splits, pairings, reliability, written

# Shrout and Fleiss, Psychological Bulletin 86, 1979, table 2: six targets rated by four judges.
RATINGS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=np.float64
)


def test_it_is_shrouts_and_fleiss():
    """Table 4 of theirs: ICC(3, 1) = 0.71 and ICC(3, 4) = 0.91."""
    found = reliability(RATINGS)
    assert found.icc == pytest.approx(0.71, abs=0.005)
    assert found.of_mean == pytest.approx(0.91, abs=0.005)
    assert (found.low, found.high) == (pytest.approx(0.34, abs=0.005), pytest.approx(0.95, abs=0.005))


def test_what_a_seed_adds_to_all_methods_does_not_count():
    assert reliability(RATINGS + 10.0 * np.arange(4)).icc == pytest.approx(reliability(RATINGS).icc)
    noise = np.random.default_rng(0).normal(size=(200, 5))
    assert reliability(noise).icc == pytest.approx(0, abs=0.1)


def test_a_method_failed_whose_tail_is_more_than_twice_as_far_away_as_the_baseline_s():
    values = {"vanilla-ft": (90.0, 110.0), "grasp": (150.0, 240.0), "merged": (190.0, 220.0)}
    scores = [
        {"method": method, "metric": metric, "group": group, "scope": "class mean", "value": value * factor}
        for method, both in values.items()
        for value in both
        for metric, group, factor in (
            ("fd", "tail", 1),
            ("fd", "head", 9 if method == "grasp" else 1),
            ("kid", "tail", 1),
        )
    ]
    assert failed(pd.DataFrame(scores)) == ["merged"]


def test_seeds_of_a_split_correlate_as_much_as_they_share():
    stream = np.random.default_rng(0)
    alone, shared = stream.normal(size=(1000, 10)), np.tile(stream.normal(size=(1000, 5)), 2)
    for values, expected, shown in ((alone, -1 / 9, False), (shared + alone, 0.44, True), (shared, 1.0, True)):
        found = of_splits(values - values.mean(axis=1, keepdims=True))
        assert found.correlation == pytest.approx(expected, abs=0.05)
        assert (found.p == pytest.approx(2 / 945)) == shown


def test_seeds_are_paired_in_every_way_once():
    found = [frozenset(pairs) for pairs in pairings(range(6))]
    assert len(set(found)) == len(found) == 5 * 3
    assert all(sorted(seed for pair in pairs for seed in pair) == [*range(6)] for pairs in found)


@pytest.mark.slow
def test_the_page_has_what_the_records_say():
    text = PAGE.read_text()
    assert written(text) == text, "PYTHONPATH=tests python -m calibration.reliability writes it"
