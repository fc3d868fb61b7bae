import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from grasp_bench.errors import UserError
from grasp_bench.run import sheet


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_come_back_as_they_were(tmp_path, channels):
    rows = {"few <b>": images(2, channels, 8, 6), "many": images(5, channels, 8, 6)}
    sheet.write_sheet(tmp_path / "sheet.png", rows)
    found = sheet.read_sheet(tmp_path / "sheet.png").images
    assert list(found) == list(rows)
    for name, expected in rows.items():
        assert np.array_equal(found[name], expected.transpose(0, 2, 3, 1))


def test_large_images_are_reduced_and_keep_their_shape(tmp_path):
    sheet.write_sheet(tmp_path / "sheet.png", {"a": np.full((3, 3, 256, 128), 77, np.uint8)})
    assert np.array_equal(
        sheet.read_sheet(tmp_path / "sheet.png").images["a"], np.full((3, sheet.EDGE, sheet.EDGE // 2, 3), 77)
    )


def test_equal_images_make_equal_files(tmp_path):
    for name in ("a.png", "b.png"):
        sheet.write_sheet(tmp_path / name, {"a": images(3, 3, 32, 32)})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_of_many_classes_some_are_shown_from_the_first_to_the_last():
    assert sheet.shown_classes(4) == [0, 1, 2, 3]
    shown = sheet.shown_classes(1000)
    assert len(shown) == sheet.CLASSES
    assert (shown[0], shown[-1]) == (0, 999)


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
        sheet.write_sheet(path, {"a": images(5, 3, 32, 32)})
        path.write_bytes(path.read_bytes()[:400])
    elif kind in LAYOUTS:
        text = PngInfo()
        text.add_text(sheet.LAYOUT, LAYOUTS[kind])
        Image.new("I;16" if kind == "16 bits" else "L", (8, 8)).save(path, pnginfo=text)
    else:
        sheet.write_sheet(path, {"a": images(2, 1, 8, 8)})
        path.write_bytes(path.read_bytes().replace(b'"width": 8', b'"width": 9'))


@pytest.mark.parametrize("kind", ["no picture", "no layout", "cut off", "another size", *LAYOUTS])
def test_a_file_that_is_no_sheet_is_named(tmp_path, kind):
    damaged(tmp_path / "sheet.png", kind)
    with pytest.raises(UserError, match=r"sheet\.png: not a sheet of images that a run wrote"):
        sheet.read_sheet(tmp_path / "sheet.png")
