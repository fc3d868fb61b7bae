import json

import numpy as np
import pytest

from .comparisons import BLOCK, MEASURED, METHODS, PAGE, SEEDS, SPREADS, cells, errors, power, written

TABLES = 400
MOST = 0.06


@pytest.mark.slow
@pytest.mark.parametrize("spread", SPREADS)
def test_comparisons_err_no_more_often_than_they_say(spread):
    """Seeds are fixed, so that chance is no excuse; a procedure that finds nothing does not err, either."""
    found = errors(SPREADS[spread](METHODS), 5, TABLES)
    assert max(found.pairs, found.baseline, found.best, found.ranks) <= MOST
    assert found.pairs >= 0.03
    assert found.baseline >= 0.02
    assert found.best >= 0.01


@pytest.mark.slow
def test_comparisons_err_no_more_often_where_half_of_the_methods_lack_seeds():
    found = errors(SPREADS["0.5 to 1.5, evenly"](METHODS), 5, TABLES, unfinished=True)
    assert max(found.pairs, found.baseline, found.best, found.ranks) <= MOST
    assert min(found.pairs, found.baseline) >= 0.01


@pytest.mark.slow
def test_tukeys_test_alone_would_err_more_often():
    found = errors(SPREADS["0.5 to 1.5, evenly"](METHODS), 5, TABLES)
    assert min(found.tukey, found.tukey_after_test) > MOST


@pytest.mark.slow
def test_more_seeds_and_larger_differences_are_found_more_often():
    found = [[power(np.ones(METHODS), seeds, difference, 40) for difference in (1.0, 3.0)] for seeds in SEEDS]
    assert (np.diff(found, axis=0) > 0).all()
    assert (np.diff(found, axis=1) > 0).all()
    assert found[0][1] > 0.7


def test_the_page_holds_the_tables():
    page = PAGE.read_text()
    assert len(list(BLOCK.finditer(page))) == 1
    assert written(page) == page, "PYTHONPATH=tests python -m calibration.comparisons writes it"


def test_a_changed_number_or_word_in_the_page_is_seen():
    page = PAGE.read_text()
    for changed in (page.replace("| all 1 | 5 | ", "| all 1 | 5 | 9"), page.replace("Share of simulated", "Share of")):
        assert changed != page
        assert written(changed) == page


def test_what_is_recorded_errs_no_more_often_than_asked():
    for each, found in json.loads(MEASURED.read_text())["errors"].items():
        assert max(found[kind] for kind in ("pairs", "baseline", "best", "ranks")) <= MOST, each


def test_everything_that_the_tables_show_is_recorded_of_enough_leaderboards():
    found = json.loads(MEASURED.read_text())
    assert set(found["errors"]) == {cell.name for cell in cells()}
    assert min(each["tables"] for each in found["errors"].values()) >= 2000
