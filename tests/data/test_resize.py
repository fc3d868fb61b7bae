"""The one rule by which images of any size become a backbone's."""

import numpy as np
import pytest
from PIL import Image

from grasp_bench.data.decode import resize


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)


def test_an_image_of_the_right_size_is_kept() -> None:
    image = noise(8, 8)
    np.testing.assert_array_equal(resize(image, (3, 8, 8)), image)


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(8, 13, 0, 2), (13, 8, 2, 0), (8, 12, 0, 2), (9, 8, 0, 0)]
)
def test_the_middle_is_cut_out_without_touching_its_pixels(height: int, width: int, top: int, left: int) -> None:
    image = noise(height, width)
    np.testing.assert_array_equal(resize(image, (3, 8, 8)), image[:, top : top + 8, left : left + 8])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (5, 5)])
def test_a_square_is_resized_as_pillow_does_it(height: int, width: int) -> None:
    image = noise(height, width)
    expected = Image.fromarray(image.transpose(1, 2, 0)).resize((8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize(image, (3, 8, 8)).transpose(1, 2, 0), np.asarray(expected))


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((3, 64, 64), np.uint8)
    stripes[:, :, ::2] = 255
    middle = resize(stripes, (3, 8, 8))[:, 2:-2, 2:-2]
    assert abs(middle.astype(int) - 127).max() <= 2


def test_what_lies_outside_the_middle_square_is_cut_off() -> None:
    image = np.zeros((3, 20, 100), np.uint8)
    image[:, :, 40:60] = 255
    assert (resize(image, (3, 4, 4))[:, :, 1:-1] == 255).all()


def test_one_channel_is_luma() -> None:
    red, green, blue = image = noise(8, 8).astype(int)
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536  # 0.299, 0.587 and 0.114 of 2¹⁶
    np.testing.assert_array_equal(resize(image.astype(np.uint8), (1, 8, 8)), luma[None])


def test_grey_stays_grey() -> None:
    grey = np.repeat(noise(16, 16)[:1], 3, axis=0)
    one, three = resize(grey, (1, 8, 8)), resize(grey, (3, 8, 8))
    np.testing.assert_array_equal(np.repeat(one, 3, axis=0), three)


@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 8, 8), (3, 8, 9)])
def test_other_shapes_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"expected \(3, S, S\) or \(1, S, S\)"):
        resize(noise(8, 8), shape)
