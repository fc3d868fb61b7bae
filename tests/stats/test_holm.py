import itertools
import math

import numpy as np
import pytest

from grasp_bench.stats import holm


def test_demsars_example():
    # section 3.2.2: three classifiers against C4.5; the first two are rejected at 0.05, the third is not
    assert holm([0.016, 0.019, 0.607]) == pytest.approx([0.048, 0.048, 0.607])


def test_it_is_the_closed_bonferroni_test():
    # p of a hypothesis is the largest Bonferroni p over all sets of hypotheses that hold it
    p = np.random.RandomState(0).rand(5) ** 3
    sets = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
    closed = [max(min(1.0, len(s) * min(p[list(s)])) for s in sets if i in s) for i in range(5)]
    assert holm(p.tolist()) == pytest.approx(closed)


def test_order_is_kept_and_ties_are_equal():
    assert holm([0.04, 0.01, 0.04]) == pytest.approx([0.08, 0.03, 0.08])


def test_none_is_not_counted():
    assert holm([None, 0.02, None, 0.01]) == [None, pytest.approx(0.02), None, pytest.approx(0.02)]
    assert holm([None]) == [None]
    assert holm([]) == []


def test_one_comparison_needs_no_correction_and_none_exceeds_one():
    assert holm([0.3]) == [0.3]
    assert holm([0.6, 0.7, 0.9]) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_bad_input(p: float):
    with pytest.raises(ValueError, match=r"p-values in \[0, 1\]"):
        holm([0.5, p])
