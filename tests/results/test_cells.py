import numpy as np
import pytest

from grasp_bench.results.cells import Scores, make_cells
from grasp_bench.stats import mean_interval


def scores(*rows: tuple[int, int, int, float]) -> Scores:
    """From (row, column, seed, value)."""
    row, column, seed, value = zip(*rows, strict=True)
    n, floor = np.full(len(rows), 30), np.full(len(rows), np.nan)
    return Scores(np.array(row), np.array(column), np.array(seed), np.array(value, float), n, floor)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 30])
def test_each_interval_is_that_of_its_seeds_alone(seeds):
    stream = np.random.default_rng(seeds)
    values = stream.normal(100, 30, (2, 3, seeds))
    rows = [(i, j, k, values[i, j, k]) for i in range(2) for j in range(3) for k in stream.permutation(seeds)]
    cells = make_cells(scores(*rows), np.array([True, False, True]))
    assert len(cells) == 6
    for (i, j), cell in cells.items():
        expected = mean_interval(values[i, j].tolist())
        assert (cell.mean, cell.n_seeds) == (pytest.approx(expected.mean), seeds)
        assert (cell.low, cell.high) == (
            (None, None) if expected.low is None else pytest.approx((expected.low, expected.high))
        )
        assert list(cell.values.items()) == list(enumerate(values[i, j]))


def test_one_seed_without_a_value_leaves_the_cell_without_a_mean():
    cells = make_cells(scores((0, 0, 0, 0.5), (0, 0, 1, np.nan), (1, 0, 0, 0.4)), np.array([False]))
    assert (cells[0, 0].mean, cells[0, 0].n_seeds, cells[0, 0].n, cells[0, 0].values) == (None, 2, 30, {})
    assert not cells[1, 0].best  # nothing is worse


def test_no_scores_make_no_cells():
    empty = np.array([])
    assert make_cells(Scores(empty, empty, empty, empty, empty, empty), np.array([], bool)) == {}
