"""How a choice on fewer validation images is counted, and the page that has what was measured."""

import numpy as np
import pytest

from .validation_images import PAGE, choice, recorded, written

CLASSES, IMAGES, WIDTH = 4, 12, 3


def search(*shifts: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Validation images, and a search whose images lie apart from them by ``shifts``, trial by trial and at scales."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(CLASSES, IMAGES, WIDTH))
    fake = rng.normal(size=(len(shifts), len(shifts[0]), CLASSES, IMAGES, WIDTH))
    return real, fake + np.array(shifts)[..., None, None, None]


def test_all_images_choose_as_they_did():
    found = choice(*search((3, 2), (0, 1), (2, 2)), IMAGES, draws=5)
    assert found[:5] == (IMAGES, 1, 1, 1, 0)
    assert found.spread == pytest.approx(0, abs=1e-9)


def test_few_images_move_between_neighbours_and_that_has_a_cost():
    real, fake = search(*[(0, 3)] * 8, (9, 9))
    found = choice(real, fake, 6)
    assert 0 < found.setting < found.finalist < 1
    assert found.scale == 1
    assert found.cost > 0
    assert found.spread > choice(real, fake, 11).spread > 0


def test_what_is_better_by_far_is_chosen_on_few_images():
    assert choice(*search((9, 5), (7, 0), (8, 4)), 3)[1:5] == (1, 1, 1, 0)


def test_the_page_has_what_is_recorded():
    text = PAGE.read_text()
    assert recorded()
    assert written(text) == text, "PYTHONPATH=tests python -m calibration.validation_images writes it"
