import numpy as np
import pytest

from .comparisons import BLOCK, MORE_SEEDS, PAGE, SEEDS, SLOWER, SPREADS, errors, power

TABLES = 400
MOST = 0.06 + 2.5 * np.sqrt(0.06 * 0.94 / TABLES)  # 0.06 is asked; the rest is chance


@pytest.mark.slow
@pytest.mark.parametrize("spread", SPREADS)
def test_comparisons_err_no_more_often_than_they_say(spread):
    found = errors(SPREADS[spread], 5, TABLES)
    assert max(found.pairs, found.baseline, found.best) <= MOST
    assert found.ranks <= 0.06 + 2.5 * np.sqrt(0.06 * 0.94 / (TABLES / SLOWER))


@pytest.mark.slow
def test_tukeys_test_alone_would_err_more_often():
    found = errors(SPREADS["0.5 to 1.5, evenly"], 5, TABLES)
    assert min(found.tukey, found.tukey_after_test) > MOST


@pytest.mark.slow
def test_more_seeds_and_larger_differences_are_found_more_often():
    found = [[power(SPREADS["all 1"], seeds, difference, 40) for difference in (1.0, 3.0)] for seeds in SEEDS]
    assert (np.diff(found, axis=0) > 0).all()
    assert (np.diff(found, axis=1) > 0).all()
    assert found[0][1] > 0.7


def test_the_page_holds_the_tables():
    page = PAGE.read_text()
    (block,) = BLOCK.finditer(page)
    rows = [line for line in block[0].splitlines() if line.startswith("| ")]
    assert (
        len([row for row in rows if row.split(" | ")[0].removeprefix("| ") in SPREADS])
        == MORE_SEEDS * 3 + len(SPREADS) - MORE_SEEDS + 6
    )
