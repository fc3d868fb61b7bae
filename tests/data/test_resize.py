"""The rules by which images of any size become a backbone's."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grasp_bench.data.decode import decode, read_image, resize
from grasp_bench.data.fit import Fit

PAD = Fit("pad")


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


@pytest.mark.parametrize(("height", "width", "top", "left"), [(8, 5, 0, 1), (5, 8, 1, 0), (8, 8, 0, 0)])
def test_a_padded_image_is_whole_with_black_about_it(height: int, width: int, top: int, left: int) -> None:
    image = noise(height, width)
    expected = np.zeros((3, 8, 8), np.uint8)
    expected[:, top : top + height, left : left + width] = image
    np.testing.assert_array_equal(resize(image, (3, 8, 8), PAD), expected)


def test_nothing_of_a_padded_image_is_lost_and_its_aspect_is_kept() -> None:
    found = resize(np.full((1, 50, 100), 200, np.uint8), (3, 20, 20), PAD)
    assert (found[:, 6:14] > 150).all()
    assert (found[:, :4] == 0).all()
    assert (found[:, -4:] == 0).all()


@pytest.mark.parametrize("square", ["crop", "pad"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "P", "1"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8)])
def test_a_file_is_read_as_it_is_decoded_and_resized(tmp_path: Path, square, mode: str, shape) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 2**16, (21, 34), dtype=np.uint16))
    else:
        picture = Image.fromarray(noise(21, 34).transpose(1, 2, 0)).convert(mode)
    picture.save(path := tmp_path / "image.png")
    np.testing.assert_array_equal(read_image(path, shape, Fit(square)), resize(decode(path), shape, Fit(square)))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("square", ["crop", "pad"])
def test_a_drafted_jpeg_is_nearly_the_same_image(tmp_path: Path, square, mode: str) -> None:
    smooth = Image.fromarray(noise(6, 5).transpose(1, 2, 0)).resize((500, 600), Image.Resampling.BICUBIC)
    smooth.convert(mode).save(path := tmp_path / "image.jpg", quality=95)
    whole, draft = (read_image(path, (3, 64, 64), Fit(square, each)).astype(int) for each in (False, True))
    assert not np.array_equal(whole, draft)
    assert abs(whole - draft).mean() < 3


def test_a_draft_is_never_smaller_than_what_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr("grasp_bench.data.decode.resize", lambda image, *_: sizes.append(image.shape))
    Image.fromarray(noise(300, 100).transpose(1, 2, 0)).save(path := tmp_path / "image.jpg")
    for side in (12, 40, 60):
        read_image(path, (3, side, side), Fit("crop", draft=True))
    assert sizes == [(3, 38, 13), (3, 150, 50), (3, 300, 100)]
