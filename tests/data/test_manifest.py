"""The manifest says of every image what the label files and the file itself say, or is not written."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.datasets import write_image
from PIL import Image

from grasp_bench.data import manifest
from grasp_bench.data.listing import Entry
from grasp_bench.errors import UserError

GROUPS = {"cat": "head", "dog": "tail"}
PROMPTS = {"cat": "a photo of a cat", "dog": "a photo of a dog"}
SPLITS = ("train", "train", "validation", "test")


def make(root: Path, count: int = 8) -> list[Entry]:
    """``count`` images of growing size, PNG and JPEG in turns."""
    rng = np.random.default_rng(0)
    entries = []
    for number in range(count):
        path = f"{number % 3}/{number}.{('png', 'jpg')[number % 2]}"
        write_image(root / path, 8 + number, rng, ("L", "RGB")[number % 2])
        label, split = ("cat", "dog")[number % 2], SPLITS[number % 4]
        entries.append(Entry(str(number), path, label, split, f"{root}/list.csv, line {number + 2}", f"p{number}"))
    return entries


def build(
    root: Path, entries: list[Entry], folder: Path, workers: int = 2, advance: Callable[[int], Any] = lambda count: None
) -> manifest.Manifest:
    return manifest.build(root, entries, GROUPS, PROMPTS, folder, workers, advance, {"task": "pets-lt", "version": "3"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prepared"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image has been decoded."""
    counts: Counter[str] = Counter()
    decode = manifest.decode

    def counted(path: Path) -> np.ndarray:
        counts[path.name] += 1
        return decode(path)

    monkeypatch.setattr(manifest, "decode", counted)
    return counts


def test_a_label_file_in_a_folder_that_is_no_utf8_is_named_escaped(root: Path, folder: Path) -> None:
    entries = [replace(each, where=f"/odd\udcff/labels.csv, line {each.id}") for each in make(root)]
    assert build(root, entries, folder).column("where")[0] == r"/odd\udcff/labels.csv, line 0"


def test_folders_may_have_any_name_that_the_file_system_has(root: Path, folder: Path) -> None:
    entries = [replace(each, path=f"a: \\b/{each.path}") for each in make(root)]
    (root / "a: \\b").mkdir()
    for name in ("0", "1", "2"):
        (root / name).rename(root / "a: \\b" / name)
    assert build(root, entries, folder).column("path")[0] == "a: \\b/0/0.png"


def test_what_is_built_is_read_again(root: Path, folder: Path) -> None:
    entries = make(root)
    entries[1] = replace(entries[1], prompt="a dog on a sofa")
    entries[2] = replace(entries[2], patient=None)
    build(root, entries, folder)
    assert [path.name for path in folder.iterdir()] == ["manifest.parquet"]

    found = manifest.read(folder)
    assert len(found) == 8
    assert found.column("path").tolist() == [entry.path for entry in entries]
    assert found.column("label").tolist() == ["cat", "dog"] * 4
    assert found.column("prompt")[:3].tolist() == ["a photo of a cat", "a dog on a sofa", "a photo of a cat"]
    assert found.column("patient").tolist() == ["p0", "p1", None, "p3", "p4", "p5", "p6", "p7"]
    assert found.column("id").tolist() == [str(number) for number in range(8)]
    assert found.column("group").tolist() == ["head", "tail"] * 4
    assert found.column("where")[0] == "list.csv, line 2"
    assert found.column("width").tolist() == found.column("height").tolist() == list(range(8, 16))
    files = [(root / entry.path).read_bytes() for entry in entries]
    assert found.column("bytes").tolist() == [len(file) for file in files]
    assert found.column("sha256").tolist() == [hashlib.sha256(file).hexdigest() for file in files]
    assert {key: found.about[key] for key in ("task", "version")} == {"task": "pets-lt", "version": "3"}


def test_rows_of_a_split_in_the_order_of_the_list(root: Path, folder: Path) -> None:
    found = build(root, make(root), folder)
    assert found.split_names == ["train", "validation", "test"]
    rows = {name: found.split(name).tolist() for name in found.split_names}
    assert rows == {"train": [0, 1, 4, 5], "validation": [2, 6], "test": [3, 7]}
    with pytest.raises(KeyError, match="no split 'val' among train, validation, test"):
        found.split("val")


def test_width_and_height_are_not_swapped(root: Path, folder: Path) -> None:
    root.mkdir()
    Image.new("L", (9, 4)).save(root / "a.png")
    found = build(root, [Entry("a", "a.png", "cat", "train", "list")], folder)
    assert (found.column("width")[0], found.column("height")[0]) == (9, 4)


def test_an_image_of_two_entries_is_read_once(root: Path, folder: Path, decoded: Counter[str]) -> None:
    entries = make(root)
    both = [*entries, *(replace(entry, split="balanced-test") for entry in entries if entry.split == "test")]
    counts: list[int] = []
    found = build(root, both, folder, advance=counts.append)
    assert set(decoded.values()) == {1}
    assert sum(counts) == len(both) == len(found)
    test, balanced = found.split("test"), found.split("balanced-test")
    assert found.column("sha256")[test].tolist() == found.column("sha256")[balanced].tolist()


def test_the_bytes_are_the_same_with_any_number_of_workers_and_wherever_the_root_is(root: Path, tmp_path: Path) -> None:
    entries = make(root)
    build(root, entries, tmp_path / "one", workers=1)
    moved = root.rename(tmp_path / "moved")
    there = [replace(entry, where=entry.where.replace(str(root), str(moved))) for entry in entries]
    build(moved, there, tmp_path / "four", workers=4)
    one, four = ((tmp_path / name / manifest.NAME).read_bytes() for name in ("one", "four"))
    assert one == four
    assert str(tmp_path).encode() not in one


def test_the_fingerprint_follows_pixels_paths_and_their_order_alone(root: Path, tmp_path: Path) -> None:
    entries = make(root)
    first = build(root, entries, tmp_path / "first").fingerprint
    told_otherwise = [replace(entry, split="train", label="cat", patient=None) for entry in entries]
    assert build(root, told_otherwise, tmp_path / "second").fingerprint == first
    assert build(root, entries[::-1], tmp_path / "third").fingerprint != first
    write_image(root / entries[0].path, 8, np.random.default_rng(1))
    assert build(root, entries, tmp_path / "fourth").fingerprint != first


class KilledError(Exception):
    pass


def kill_after(count: int) -> Callable[[int], None]:
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if done >= count:
            raise KilledError

    return advance


def test_a_killed_build_goes_on_where_it_was(
    root: Path, folder: Path, tmp_path: Path, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PART_ROWS", 3)
    entries = make(root, 12)
    with pytest.raises(KilledError):
        build(root, entries, folder, advance=kill_after(8))
    assert len(list(folder.glob("part-*"))) == 2
    assert not (folder / manifest.NAME).exists()

    decoded.clear()
    counts: list[int] = []
    build(root, entries, folder, advance=counts.append)
    assert decoded == {Path(entry.path).name: 1 for entry in entries[6:]}
    assert sum(counts) == 12
    build(root, entries, tmp_path / "whole")
    assert (folder / manifest.NAME).read_bytes() == (tmp_path / "whole" / manifest.NAME).read_bytes()
    assert [path.name for path in folder.iterdir()] == [manifest.NAME]


def test_an_image_that_has_changed_since_a_build_was_killed_is_read_again(
    root: Path, folder: Path, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PART_ROWS", 3)
    entries = make(root, 12)
    with pytest.raises(KilledError):
        build(root, entries, folder, advance=kill_after(8))
    decoded.clear()
    write_image(root / entries[4].path, 30, np.random.default_rng(1))
    found = build(root, entries, folder)
    assert found.column("width")[4] == 30
    assert set(decoded) == {Path(entry.path).name for entry in entries[3:]}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def animate(path: Path) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (0, 99)]
    frames[0].save(path, save_all=True, append_images=frames[1:], format="GIF")


def test_all_images_that_cannot_be_read_are_named_at_once_and_nothing_is_written(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PART_ROWS", 4)
    entries = make(root, 12)
    truncate(root / entries[0].path)
    truncate(root / entries[3].path)
    (root / entries[5].path).unlink()
    (root / entries[6].path).write_bytes(b"")
    animate(root / entries[7].path)
    entries[9] = replace(entries[9], path="../list.csv")
    with pytest.raises(UserError) as caught:
        build(root, entries, folder)
    message = str(caught.value)
    assert message.startswith(f"{root}: 6 problems")
    for number, found in ((0, "cannot be decoded"), (3, "cannot be decoded"), (5, "is not in"), (6, "has zero bytes")):
        assert f"list.csv, line {number + 2}: {entries[number].path} {found}" in message
    assert f"list.csv, line 9: {entries[7].path} holds 2 pictures" in message
    assert "list.csv, line 11: ../list.csv is not a path inside" in message
    assert not (folder / manifest.NAME).exists()


def test_once_fixed_only_the_parts_with_a_problem_are_read_again(
    root: Path, folder: Path, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PART_ROWS", 4)
    entries = make(root, 12)
    truncate(root / entries[5].path)
    with pytest.raises(UserError, match=r"1 problem\n"):
        build(root, entries, folder)
    decoded.clear()
    write_image(root / entries[5].path, 13, np.random.default_rng(0), "RGB")
    assert len(build(root, entries, folder)) == 12
    assert set(decoded) == {Path(entry.path).name for entry in entries[4:8]}


def test_one_image_in_two_splits_is_a_problem_and_within_one_it_is_not(root: Path, folder: Path) -> None:
    entries = make(root)
    copies = {1: 0, 6: 4}  # train of train, validation of train
    for copy, original in copies.items():
        (root / entries[copy].path).write_bytes((root / entries[original].path).read_bytes())
    with pytest.raises(UserError) as caught:
        build(root, entries, folder)
    first, *_ = str(caught.value).split("\n")
    assert first == f"{root}: 1 problem"
    assert "same image in two splits (1)" in str(caught.value)
    assert "line 8: 0/6.png in validation has the same bytes as 1/4.png in train" in str(caught.value)


def test_a_class_that_is_unknown_is_told_before_any_image_is_read(
    root: Path, folder: Path, decoded: Counter[str]
) -> None:
    entries = make(root)
    entries[3] = replace(entries[3], label="bird")
    with pytest.raises(UserError, match=r"list.csv, line 5: 'bird' is not a class"):
        build(root, entries, folder)
    assert not decoded


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGBA", "png"), ("P", "png"), ("I;16", "png"), ("1", "png"), ("CMYK", "jpg"), ("LA", "png")]
)
def test_images_of_all_kinds_are_listed(root: Path, folder: Path, mode: str, suffix: str) -> None:
    root.mkdir()
    Image.new(mode, (6, 5)).save(root / f"a.{suffix}")
    found = build(root, [Entry("a", f"a.{suffix}", "cat", "train", "list")], folder)
    assert found.column("width").tolist() == [6]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such file.*grasp-bench prepare"), (b"PAR1", "cannot be read as Parquet")],
)
def test_a_manifest_that_cannot_be_read(folder: Path, content: bytes | None, message: str) -> None:
    folder.mkdir()
    if content is not None:
        (folder / manifest.NAME).write_bytes(content)
    with pytest.raises(UserError, match=rf"manifest\.parquet: {message}"):
        manifest.read(folder)


def test_a_manifest_of_another_format_is_refused(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(root, make(root), folder)
    monkeypatch.setattr(manifest, "FORMAT", "2")
    with pytest.raises(UserError, match="has format 1, expected 2"):
        manifest.read(folder)
