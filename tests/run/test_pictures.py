import time

import numpy as np
import pytest
from PIL import Image

from grasp_bench.run import pictures


def rows(classes: int, *shape: int) -> list[tuple[str, np.ndarray]]:
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    return [(f"class {number}  tail (7)", images) for number in range(classes)]


def grid(path, *given) -> np.ndarray:
    pictures.write_grid(path, *given)
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_every_pixel_of_small_images(tmp_path, channels):
    given = rows(3, channels, 8, 8)
    found = grid(tmp_path / "grid.png", given, "a title")
    expected = given[0][1][2].transpose(1, 2, 0).repeat(8, 0).repeat(8, 1).repeat(3 // channels, 2)
    left = next(
        column
        for column in range(found.shape[1] - pictures.EDGE)
        if np.array_equal(found[pictures.TOP : pictures.TOP + pictures.EDGE, column : column + pictures.EDGE], expected)
    )
    again = pictures.TOP + 2 * (pictures.EDGE + pictures.GAP)  # the third row has the same images
    assert np.array_equal(found[again : again + pictures.EDGE, left : left + pictures.EDGE], expected)


def test_large_images_are_reduced_and_long_labels_fit(tmp_path):
    label = "a class with quite a long name " * 3
    found = grid(tmp_path / "grid.png", [(label, np.full((2, 3, 256, 128), 77, np.uint8))], "title")
    assert (found == 77).all(axis=2).sum() >= 2 * pictures.EDGE * pictures.EDGE // 2
    assert (found[:, :2] == 255).all()


def test_equal_images_make_equal_files(tmp_path):
    for name in ("a.png", "b.png"):
        pictures.write_grid(tmp_path / name, rows(2, 3, 32, 32), "title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_time_of_a_grid_grows_as_its_rows_do(tmp_path):
    def seconds(classes: int) -> float:
        started = time.process_time()
        pictures.write_grid(tmp_path / "grid.png", rows(classes, 3, 32, 32), "title")
        return time.process_time() - started

    seconds(10)  # the first call loads the font
    assert seconds(400) < 4 * 10 * max(seconds(40), 0.05)
