import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from grasp_bench.errors import UserError
from grasp_bench.run import pictures


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_come_back_as_they_were(tmp_path, channels):
    rows = {"few <b>": images(2, channels, 8, 6), "many": images(5, channels, 8, 6)}
    pictures.write_sheet(tmp_path / "sheet.png", rows)
    found = pictures.read_sheet(tmp_path / "sheet.png")
    assert list(found) == list(rows)
    for name, expected in rows.items():
        assert np.array_equal(found[name], expected.transpose(0, 2, 3, 1))


def test_large_images_are_reduced_and_keep_their_shape(tmp_path):
    pictures.write_sheet(tmp_path / "sheet.png", {"a": np.full((3, 3, 256, 128), 77, np.uint8)})
    assert np.array_equal(
        pictures.read_sheet(tmp_path / "sheet.png")["a"], np.full((3, pictures.EDGE, pictures.EDGE // 2, 3), 77)
    )


def test_equal_images_make_equal_files(tmp_path):
    for name in ("a.png", "b.png"):
        pictures.write_sheet(tmp_path / name, {"a": images(3, 3, 32, 32)})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_of_many_classes_some_are_shown_from_the_most_frequent_to_the_rarest():
    assert pictures.shown_classes([3, 9, 1, 1]) == [0, 1, 2, 3]
    counts = np.random.default_rng(0).permutation(1000).tolist()
    shown = [counts[index] for index in pictures.shown_classes(counts)]
    assert len(shown) == pictures.CLASSES
    assert {0, 999} <= set(shown)
    assert 20 < np.diff(sorted(shown)).min() <= np.diff(sorted(shown)).max() < 50
    assert pictures.choice(30) == ""
    assert "30 of 1,000 classes" in pictures.choice(1000)


LAYOUTS = {
    "nested layout": "[" * 100_000,
    "endless": '{"width": 1e999, "height": 8, "rows": [["a", 1]]}',
    "16 bits": '{"width": 8, "height": 8, "rows": [["a", 1]]}',
}


def damaged(path, kind):
    if kind == "no picture":
        path.write_bytes(b"GIF89a")
    elif kind == "no layout":
        Image.new("L", (8, 8)).save(path)
    elif kind == "cut off":
        pictures.write_sheet(path, {"a": images(5, 3, 32, 32)})
        path.write_bytes(path.read_bytes()[:400])
    elif kind in LAYOUTS:
        text = PngInfo()
        text.add_text(pictures.LAYOUT, LAYOUTS[kind])
        Image.new("I;16" if kind == "16 bits" else "L", (8, 8)).save(path, pnginfo=text)
    else:
        pictures.write_sheet(path, {"a": images(2, 1, 8, 8)})
        path.write_bytes(path.read_bytes().replace(b'"width": 8', b'"width": 9'))


@pytest.mark.parametrize("kind", ["no picture", "no layout", "cut off", "another size", *LAYOUTS])
def test_a_file_that_is_no_sheet_is_named(tmp_path, kind):
    damaged(tmp_path / "sheet.png", kind)
    with pytest.raises(UserError, match=r"sheet\.png: not a sheet of images that a run wrote"):
        pictures.read_sheet(tmp_path / "sheet.png")
