"""Lists of ImageNet-LT and the folders they name."""

import csv
import gzip
import shutil
from collections import Counter
from pathlib import Path

import pytest
from helpers.datasets import WNIDS, make_ilsvrc
from PIL import Image

from grasp_bench.data.imagenet_lt import HEAD_ABOVE, SPLIT_TOTALS, TAIL_BELOW, read_class_names, read_imagenet_lt
from grasp_bench.data.longtail import groups_by_count
from grasp_bench.errors import UserError

REAL = Path(__file__).parents[2] / "../shared/data/imagenet-lt"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real lists of ImageNet-LT are not there")
TOTALS = {"train": 16, "validation": 5, "test": 10}


def change(root: Path, split: str, old: str, new: str) -> Path:
    path = root / f"ImageNet_LT_{split}.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("base", ["", "ILSVRC/Data/CLS-LOC"])
@pytest.mark.parametrize("flat_val", [False, True])
def test_every_layout_is_found(tmp_path: Path, base: str, flat_val: bool) -> None:
    listing = read_imagenet_lt(make_ilsvrc(tmp_path, base, flat_val), TOTALS)
    assert listing.problems == []
    assert Counter(entry.label for entry in listing.entries if entry.split == "train") == dict(
        zip(WNIDS, (6, 4, 3, 2, 1), strict=True)
    )
    for entry in listing.entries:
        with Image.open(tmp_path / entry.path) as image:
            assert image.format == "JPEG"
        assert ("/train/" in f"/{entry.path}") is (entry.split != "test")  # validation images come from train


@pytest.mark.parametrize("flat_val", [False, True])
def test_a_list_may_name_val_images_with_or_without_their_wnid(tmp_path: Path, flat_val: bool) -> None:
    make_ilsvrc(tmp_path, flat_val=flat_val)
    expected = read_imagenet_lt(tmp_path).entries
    path = tmp_path / "ImageNet_LT_test.txt"
    lines = [line.split() for line in path.read_text().splitlines()]
    folders = ["val" if not flat_val else f"val/{WNIDS[int(label)]}" for _, label in lines]
    pairs = zip(folders, lines, strict=True)
    path.write_text("\n".join(f"{folder}/{Path(name).name} {label}" for folder, (name, label) in pairs))
    assert read_imagenet_lt(tmp_path).entries == expected
    assert read_imagenet_lt(tmp_path).problems == []


def test_lists_in_their_own_folder_zipped_and_from_windows(tmp_path: Path) -> None:
    expected = [(entry.id, entry.path) for entry in read_imagenet_lt(make_ilsvrc(tmp_path)).entries]
    (tmp_path / "ImageNet_LT").mkdir()
    for path in tmp_path.glob("ImageNet_LT_*.txt"):
        text = "\ufeff" + path.read_text().replace("\n", "\r\n") + "\r\n"
        (tmp_path / "ImageNet_LT" / f"{path.name}.gz").write_bytes(gzip.compress(text.encode()))
        path.unlink()
    listing = read_imagenet_lt(tmp_path)
    assert listing.problems == []
    assert [(entry.id, entry.path) for entry in listing.entries] == expected


@pytest.mark.parametrize(
    ("split", "old", "new", "kind", "found"),
    [
        ("train", "_11.JPEG 0", "_11.JPEG 1", "label contradicts folder", "label 1 for n01440764_11.JPEG of n01440764"),
        ("train", "_11.JPEG 0", "_11.JPEG 7", "labels out of order", "n01440764, after n03126707 for label 4"),
        ("train", "_11.JPEG 0", "_11.JPEG", "bad line", "expected a line such as: train/n01440764"),
        ("train", "_11.JPEG 0", "_11.JPEG 0.0", "bad line", "0.0"),
        ("train", "_11.JPEG 0\n", "_11.JPEG 0\n\n", "bad line", "''"),
        ("train", "train/n01440764/n01440764_11", "../n01440764/n01440764_11", "path outside the data folder", "../n0"),
        ("train", "_11.JPEG 0", "_99.JPEG 0", "missing image", "n01440764_99.JPEG is not in train/n01440764"),
        ("train", "_11.JPEG 0", "_12.JPEG 0", "duplicate id", "is listed before"),
        ("train", "_11.JPEG 0", "_16.JPEG 0", "image in two splits", "'n01440764_16.JPEG' of validation is in train"),
    ],
)
def test_a_bad_line_is_told(tmp_path: Path, split: str, old: str, new: str, kind: str, found: str) -> None:
    make_ilsvrc(tmp_path)
    path = change(tmp_path, split, old, new)
    (problem,) = read_imagenet_lt(tmp_path).problems
    assert problem.kind == kind
    assert found in problem.found
    where = {"labels out of order": "label 7", "image in two splits": f"{tmp_path / 'ImageNet_LT_val.txt'}, line 1"}
    assert problem.where.startswith(where.get(kind, f"{path}, line "))


def test_labels_that_do_not_follow_the_wnids_and_labels_without_one(tmp_path: Path) -> None:
    make_ilsvrc(tmp_path, flat_val=True)
    for split in ("train", "val", "test"):
        path = tmp_path / f"ImageNet_LT_{split}.txt"
        swapped = {" 0": " 1", " 1": " 0"}
        lines = path.read_text().splitlines()
        path.write_text("\n".join(line[:-2] + swapped.get(line[-2:], line[-2:]) for line in lines))
    (problem,) = read_imagenet_lt(tmp_path).problems
    assert (problem.kind, problem.where) == ("labels out of order", "label 1")
    path = change(tmp_path, "test", " 4", " 40")
    assert "unknown label" in [problem.kind for problem in read_imagenet_lt(tmp_path).problems]


def test_missing_folders_and_lists_and_wrong_totals_are_one_problem_each(tmp_path: Path) -> None:
    make_ilsvrc(tmp_path)
    shutil.rmtree(tmp_path / "val")
    (tmp_path / "ImageNet_LT_val.txt").write_bytes(b"")
    listing = read_imagenet_lt(tmp_path, TOTALS)
    assert [problem.kind for problem in listing.problems] == ["no rows", "missing folder", "wrong count"]
    assert listing.problems[-1].found == "0 images, expected 5"
    (tmp_path / "ImageNet_LT_val.txt").unlink()
    assert [problem.kind for problem in read_imagenet_lt(tmp_path).problems] == ["missing file", "missing folder"]
    (tmp_path / "ImageNet_LT_val.txt").write_bytes(b"\xff")
    assert [problem.kind for problem in read_imagenet_lt(tmp_path).problems] == ["unreadable file", "missing folder"]


def test_class_names_are_first_synonyms_and_may_repeat(tmp_path: Path) -> None:
    names = read_class_names(make_ilsvrc(tmp_path) / "LOC_synset_mapping.txt")
    assert list(names) == list(WNIDS)
    assert list(names.values()) == ["tench", "goldfish", "great white shark", "crane", "crane"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n01440764 tench\nn0144 goldfish\n", "line 2: 'n0144 goldfish', expected"),
        ("n01440764\n", "line 1: 'n01440764', expected"),
        ("n01440764 tench\nn01440764 goldfish\n", "line 2: n01440764 is named before"),
    ],
)
def test_bad_class_names(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read_class_names(tmp_path / "names.txt")


@needs_real
def test_the_real_lists(tmp_path: Path) -> None:
    for file in REAL.glob("ImageNet_LT_*.gz"):
        shutil.copy(file, tmp_path)
    shutil.copy(REAL / "ImageNet_LT_train_90classes.txt", tmp_path / "ImageNet_LT_train.txt")
    for line in (tmp_path / "ImageNet_LT_train.txt").read_text().splitlines():
        path = tmp_path / line.split()[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "val").mkdir()
    listing = read_imagenet_lt(tmp_path, SPLIT_TOTALS)
    found = Counter(problem.kind for problem in listing.problems)
    train = [entry for entry in listing.entries if entry.split == "train"]
    assert found == {"missing image": 20_000 + 50_000, "wrong count": 1}
    assert f"{len(train)} images, expected 115846" in [problem.found for problem in listing.problems]
    assert len({entry.label for entry in train}) == 90


@needs_real
def test_the_published_groups() -> None:
    with (REAL / "imagenet_lt_class_counts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    counts = {row["wnid"]: int(row["n_train"]) for row in rows}
    assert sum(counts.values()) == SPLIT_TOTALS["train"]
    groups = groups_by_count(counts, HEAD_ABOVE, TAIL_BELOW)
    assert groups == {row["wnid"]: row["group"] for row in rows}
    assert Counter(groups.values()) == {"head": 385, "medium": 479, "tail": 136}
