"""Image sets: what is read, by which rule, and what is refused."""

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grasp_bench.data.decode import read_image, resize
from grasp_bench.data.fit import Fit
from grasp_bench.data.images import read_image_set
from grasp_bench.errors import UserError


def save(path: Path, value: int = 0, size: tuple[int, int] = (4, 3), mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index, name in enumerate(("cat/0.png", "cat/deep/1.png", "dog/0.png")):
        save(tmp_path / "real" / name, index)
    return tmp_path / "real"


def only(path: Path) -> np.ndarray:
    """The one image of a folder."""
    return read_image_set(path).read([0])[0]


def test_class_sub_folders_are_labels_and_are_searched_recursively(root: Path) -> None:
    images = read_image_set(root)
    assert images.ids == ["cat/0.png", "cat/deep/1.png", "dog/0.png"]
    assert images.labels == ["cat", "cat", "dog"]
    assert len(images) == 3
    assert [image.shape for image in images.read([2, 0])] == [(3, 3, 4)] * 2
    assert [int(image.max()) for image in images.read([2, 0])] == [2, 0]


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    assert read_image_set(tmp_path).labels is None


@pytest.mark.parametrize(
    "text",
    [
        "id,label,patient_id\n1.png,no finding,7\n0.png,hernia,8\n",
        "\ufeffid,label,patient_id\r\n./1.png,no finding,7\r\n0.png,hernia,8\r\n",
        'File,patient_id,Class\n"1.png", 7,no finding\n\n0.png,8,hernia\n',
    ],
)
def test_a_labels_file(tmp_path: Path, text: str) -> None:
    save(tmp_path / "flat" / "0.png")
    save(tmp_path / "flat" / "1.png")
    images = read_image_set(tmp_path / "flat", written(tmp_path / "labels.csv", text))
    assert images.labels == ["hernia", "no finding"]
    assert images.columns == {"patient_id": ["8", "7"]}


def test_a_file_name_alone_finds_its_image_in_any_folder_and_labels_go_before_folders(root: Path) -> None:
    labels = written(root / "labels.csv", "id,label\n1.png,a\ncat/0.png,b\ndog/0.png,c\n")
    images = read_image_set(root, labels)
    assert images.labels == ["b", "a", "c"]
    assert images.ignored == {}


def test_what_is_no_image_is_told(root: Path) -> None:
    written(root / "readme.txt", "hello")
    save(root / "cat" / ".hidden.png")
    assert read_image_set(root).ignored == {
        "hidden": ["cat/.hidden.png"],
        "not recognised as a picture": ["readme.txt"],
    }


def test_links_are_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "cat").symlink_to(root / "cat")
    assert read_image_set(tmp_path / "linked").labels == ["cat", "cat"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\n0.png,a\n", "no label for 1 of the 2 images of .*: 1.png"),
        ("id,label\n0.png,a\n1.png,b\n2.png,c\n", r"1 image that .* does not hold: '2.png' \(line 4\)"),
        ("id,label\n0.png,a\n1.png,b\n0.png,c\n", "line 4: '0.png' was on line 2 already"),
        ("id,label\n../0.png,a\n", "line 2: '../0.png' leads out of the folder"),
        ("id,label\n/etc/0.png,a\n", "line 2: '/etc/0.png' leads out of the folder"),
        ("id,label\n0.png\n", "line 2: 1 values for 2 columns"),
        ("id,label\n0.png,\n", "line 2: '0.png' has an empty label"),
        ("id,label\n,a\n", "line 2: the id is empty"),
        ("id,label\n", "holds no line"),
        ("", "is empty"),
        ("id,labl\n0.png,a\n", "no column for the label among id, labl. Did you mean 'label'"),
        ("id,path,label\n0.png,0.png,a\n", "'id' and 'path' both could be the id"),
        ("id,label,x,x\n0.png,a,1,2\n", "columns 'x' appear more than once"),
        (b"id,label\n\xff.png,a\n", "cannot be read as CSV in UTF-8"),
    ],
)
def test_mistakes_in_a_labels_file_are_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    save(tmp_path / "flat" / "0.png")
    save(tmp_path / "flat" / "1.png")
    with pytest.raises(UserError, match=message) as caught:
        read_image_set(tmp_path / "flat", written(tmp_path / "labels.csv", text))
    assert "labels.csv" in str(caught.value)


def test_one_name_for_two_images_is_not_guessed(root: Path) -> None:
    labels = written(root / "labels.csv", "id,label\n0.png,a\n1.png,b\n")
    with pytest.raises(UserError, match=r"'0.png' is the name of 2 images \(cat/0.png, dog/0.png\)"):
        read_image_set(root, labels)
    labels = written(root / "labels.csv", "id,label\n1.png,a\ncat/deep/1.png,b\n")
    with pytest.raises(UserError, match=r"line 3: 'cat/deep/1.png' has a label on line 2 already"):
        read_image_set(root, labels)


def test_a_missing_labels_file(root: Path) -> None:
    with pytest.raises(UserError, match=r"no such file"):
        read_image_set(root, root / "labels.csv")


def test_folders_that_are_no_image_set(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no image"):
        read_image_set(tmp_path / "empty")
    with pytest.raises(UserError, match=r"no such folder"):
        read_image_set(tmp_path / "absent")
    with pytest.raises(UserError, match=r"neither a folder nor an .npz"):
        read_image_set(written(tmp_path / "file.txt", ""))
    (root / "emu").mkdir()
    with pytest.raises(UserError, match=r"class sub-folders without an image: emu"):
        read_image_set(root)
    (root / "emu").rmdir()
    save(root / "loose.png")
    with pytest.raises(UserError, match=r"1 image without a label lie beside .*: loose.png"):
        read_image_set(root)
    written(root / "scan.dcm", "x")
    with pytest.raises(UserError, match=r"formats that are not read: scan.dcm"):
        read_image_set(root)


def test_links_that_lead_nowhere(root: Path) -> None:
    (root / "cat" / "again").symlink_to(root)
    with pytest.raises(UserError, match=r"a folder that it lies in"):
        read_image_set(root)
    (root / "cat" / "again").unlink()
    (root / "cat" / "self.png").symlink_to(root / "cat" / "self.png")
    with pytest.raises(UserError, match=r"leads back to itself"):
        read_image_set(root)
    (root / "cat" / "self.png").unlink()
    os.mkfifo(root / "cat" / "pipe.png")
    with pytest.raises(UserError, match=r"neither a file nor a folder"):
        read_image_set(root)


def test_unreadable_images_are_named_at_once(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.png", size=(40, 40)).read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    written(tmp_path / "a-zero.png", b"")
    written(tmp_path / "b-text.png", "no image")
    written(tmp_path / "c-cut.png", whole[: len(whole) // 2])
    written(tmp_path / "d-cut.jpg", (tmp_path / "whole.jpg").read_bytes()[:1500])
    frames = [Image.new("L", (4, 4), value) for value in (0, 255)]
    frames[0].save(tmp_path / "e-two.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f-float.tif")
    for index in range(6):
        written(tmp_path / f"g{index}.png", b"")
    images = read_image_set(tmp_path)
    for look in (images.digests, lambda: images.read(range(len(images)))):
        with pytest.raises(UserError) as caught:
            look()
        lines = str(caught.value).splitlines()
        assert lines[0] == f"{tmp_path}: 12 unreadable images:"
        assert [line.split(":")[0].strip() for line in lines[1:7]] == [
            *("a-zero.png", "b-text.png", "c-cut.png", "d-cut.jpg", "e-two.gif", "f-float.tif")
        ]
        assert "zero bytes" in lines[1]
        assert "holds 2 pictures" in lines[5]
        assert "32-bit floats" in lines[6]
        assert lines[11] == "  and 2 more"
    assert images.read([images.ids.index("whole.jpg")])[0].shape == (3, 64, 64)


GREY = np.array([[0, 1000, 65535], [128, 129, 40000]], np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bit_greyscale_is_divided_by_257(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(GREY).save(tmp_path / f"x.{suffix}")
    np.testing.assert_array_equal(only(tmp_path), np.broadcast_to(np.round(GREY / 257), (3, 2, 3)))


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    image = Image.fromarray(rgb)
    expected = {
        "rgb": (image, rgb),
        "grey": (image.convert("L"), np.asarray(image.convert("L"))[..., None].repeat(3, 2)),
        "bit": (image.convert("1"), np.asarray(image.convert("1"))[..., None].repeat(3, 2) * np.uint8(255)),
        "palette": (image.quantize(8), np.asarray(image.quantize(8).convert("RGB"))),
    }
    for name, (picture, values) in expected.items():
        picture.save(save(tmp_path / name / "x.png"))
        found = only(tmp_path / name)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, values.transpose(2, 0, 1), name)


def test_lab_is_converted(tmp_path: Path) -> None:
    Image.new("LAB", (4, 4), (255, 128, 128)).save(tmp_path / "x.tif")
    assert only(tmp_path).min() >= 250


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "x.tif")
    assert only(tmp_path)[:, 0, 0].tolist() == [255, 0, 0]


def test_transparency_is_composited_on_black(tmp_path: Path) -> None:
    def first(name: str, image: Image.Image, **options: object) -> list[int]:
        image.save(save(tmp_path / name / "x.png"), **options)
        pixels: list[int] = only(tmp_path / name)[:, 0, 0].tolist()
        return pixels

    assert first("rgba", Image.new("RGBA", (2, 2), (200, 100, 50, 128))) == [100, 50, 25]
    assert first("clear", Image.new("RGBA", (2, 2), (200, 100, 50, 0))) == [0, 0, 0]
    assert first("solid", Image.new("RGBA", (2, 2), (200, 100, 50, 255))) == [200, 100, 50]
    assert first("la", Image.new("LA", (2, 2), (200, 128))) == [100, 100, 100]
    assert first("key", Image.new("L", (2, 2), 7), transparency=7) == [0, 0, 0]
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    assert first("palette", palette, transparency=1) == [0, 0, 0]
    assert first("opaque", palette) == [200, 100, 50]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth: int, colour: int, samples: np.ndarray, clear: Sequence[int]) -> bytes:
    """A PNG of ``samples`` (H, W) or (H, W, 3), of which those that equal ``clear`` are transparent."""
    rows = samples.reshape(len(samples), -1)
    if depth == 16:
        lines = [row.astype(">u2").tobytes() for row in rows]
    else:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=-1)[..., -depth:]
        lines = [np.packbits(line).tobytes() for line in bits.reshape(len(rows), -1)]
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour, 0, 0, 0)
    key, data = struct.pack(f">{len(clear)}H", *clear), zlib.compress(b"".join(b"\0" + line for line in lines))
    parts = ((b"IHDR", header), (b"tRNS", key), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_black_at_every_depth(tmp_path: Path, depth: int) -> None:
    most = 2**depth - 1
    written(tmp_path / "x.png", png(depth, 0, np.array([[0, most], [most, 0]]), [most]))
    assert (only(tmp_path) == 0).all()
    written(tmp_path / "x.png", png(depth, 0, np.array([[0, most], [most, 0]]), [0]))
    assert only(tmp_path)[0].tolist() == [[0, 255], [255, 0]]


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_black_at_every_depth(tmp_path: Path, depth: int) -> None:
    scale, low = (256, 7) if depth == 16 else (1, 0)
    samples = np.array([[[200, 100, 50], [30, 20, 10]]]) * scale + low
    written(tmp_path / "x.png", png(depth, 2, samples, samples[0, 0].tolist()))
    assert only(tmp_path)[:, 0].T.tolist() == [[0, 0, 0], [30, 20, 10]]


def tiff(bits: int, photometric: int, data: bytes, width: int, height: int, orientation: int = 1) -> bytes:
    """A TIFF of one uncompressed grey strip."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 274: orientation, 277: 1}
    tags |= {278: height, 279: len(data)}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_tiffs_whose_zero_is_white_are_inverted_at_every_depth(tmp_path: Path) -> None:
    expected = np.array([[0, 64], [255, 128]])
    for photometric in (0, 1):
        right = 255 - expected if photometric == 0 else expected
        data = {8: right.astype(np.uint8).tobytes(), 16: (right * 257).astype("<u2").tobytes()}
        for bits, stored in data.items():
            written(tmp_path / "x.tif", tiff(bits, photometric, stored, 2, 2))
            assert only(tmp_path)[0].tolist() == expected.tolist(), (bits, photometric)


def test_twelve_bits_are_as_bright_as_eight(tmp_path: Path) -> None:
    written(tmp_path / "x.tif", tiff(12, 1, bytes([0xFF, 0xF0, 0x00, 0x80, 0x0F, 0xFF]), 2, 2))
    assert only(tmp_path)[0].tolist() == [[255, 0], [128, 255]]


TURNED = np.arange(48, dtype=np.uint8).reshape(2, 3, 8).repeat(8, 0).repeat(8, 1)[:, :, 0] * 5
"""Grey blocks of eight by eight pixels: (16, 24)."""


def stored_as(orientation: int) -> np.ndarray:
    """What a camera stores of the upright picture that :data:`TURNED` is, by the table of the EXIF standard."""
    seen = {
        1: TURNED,
        2: TURNED[:, ::-1],
        3: TURNED[::-1, ::-1],
        4: TURNED[::-1],
        5: TURNED.T,
        6: TURNED.T[::-1],
        7: TURNED.T[::-1, ::-1],
        8: TURNED.T[:, ::-1],
    }
    return np.ascontiguousarray(seen[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_an_orientation_is_applied_in_every_format(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(stored_as(orientation))
    quality = {"jpg": {"quality": 100}, "webp": {"lossless": True}}.get(suffix, {})
    picture.save(tmp_path / f"x.{suffix}", exif=exif, **quality)
    assert abs(only(tmp_path)[0].astype(int) - TURNED).max() <= 2
    small = read_image(tmp_path / f"x.{suffix}", (1, 8, 8), Fit("pad", draft=True)).astype(int)
    assert abs(small - resize(TURNED[None], (1, 8, 8), Fit("pad"))).mean() < 3


def test_an_orientation_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    Image.fromarray(TURNED).save(tmp_path / "x.jpg", exif=b"Exif\0\0no such thing", quality=100)
    assert only(tmp_path).shape == (3, 16, 24)


@pytest.mark.parametrize("key", ["images", "arr_0"])
def test_npz(tmp_path: Path, key: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", **{key: pixels, "labels": np.array([1, 0, 1])})  # type: ignore[arg-type]
    images = read_image_set(tmp_path / "x.npz")
    assert images.ids == ["0", "1", "2"]
    assert images.labels == ["1", "0", "1"]
    np.testing.assert_array_equal(np.stack(images.read([2, 1])), pixels[[2, 1]].transpose(0, 3, 1, 2))
    labels = written(tmp_path / "labels.csv", "id,label\n0,a\n1,b\n2,c\n")
    assert read_image_set(tmp_path / "x.npz", labels).labels == ["a", "b", "c"]


def test_npz_by_position_and_greyscale(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.full((2, 4, 5), 9, np.uint8), np.array(["b", "a"]))
    images = read_image_set(tmp_path / "x.npz")
    assert images.labels == ["b", "a"]
    np.testing.assert_array_equal(images.read([0])[0], np.full((3, 4, 5), 9))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((2, 4, 4, 3), np.uint8)}, "holds pictures, expected images or arr_0"),
        ({"images": np.zeros((2, 4, 4, 3))}, "images is float64"),
        ({"images": np.zeros((2, 3, 8, 8), np.uint8)}, r"images is uint8 \(2, 3, 8, 8\), expected .* channels last"),
        ({"images": np.zeros((0, 4, 4, 3), np.uint8)}, "there is no image in it"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.zeros(3, int)}, "expected 2 integers or strings"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.zeros(2)}, "labels is float64"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.array(["a", ""])}, r"labels\[1\] is empty"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "ids": np.array(["a", "a"])}, "ids appear more than once: a"),
        ({"images": np.array([None, 1], dtype=object)}, "Python objects, which are never"),
    ],
)
def test_mistakes_in_an_npz_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        read_image_set(tmp_path / "x.npz")


def test_damaged_npz(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", images=np.random.default_rng(0).integers(0, 9, (50, 8, 8)).astype(np.uint8))
    data = (tmp_path / "x.npz").read_bytes()
    damaged = bytearray(data)
    damaged[300:320] = bytes(20)
    for content in (data[:100], b"", b"not a zip", bytes(damaged)):
        with pytest.raises(UserError, match=r"cannot be read as .npz"):
            read_image_set(written(tmp_path / "y.npz", content))
    with (tmp_path / "z.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"is a single array"):
        read_image_set(tmp_path / "z.npz")
