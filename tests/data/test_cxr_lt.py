"""Label files of NIH-CXR-LT and MIMIC-CXR-LT."""

import csv
import gzip
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.datasets import make_mimic, make_nih
from PIL import Image

from grasp_bench.data import cxr_lt
from grasp_bench.data.cxr_lt import (
    MIMIC_COUNTS,
    MIMIC_TRAIN_COUNTS,
    NIH_COUNTS,
    NIH_TRAIN_COUNTS,
    SHARED_CLASSES,
    phrase,
    read_mimic,
    read_nih,
)
from grasp_bench.data.longtail import groups_by_count

REAL = Path(__file__).parents[2] / "../shared/data/nih-cxr-lt"
Row = dict[str, str]


def nih_file(root: Path, split: str = "train") -> Path:
    return root / f"nih-cxr-lt_single-label_{split}.csv"


def edit(path: Path, change: Callable[[list[Row]], object]) -> None:
    """Change the rows of a label file; the header follows the first."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def kinds(root: Path, read: Callable = read_nih) -> list[str]:
    return [problem.kind for problem in read(root).problems]


def test_the_published_numbers() -> None:
    assert {split: sum(classes.values()) for split, classes in NIH_COUNTS.items()} == {
        "train": 68_058,
        "validation": 300,
        "test": 20_279,
        "balanced-test": 600,
    }
    assert {split: sum(classes.values()) for split, classes in MIMIC_COUNTS.items()} == {
        "train": 87_493,
        "validation": 285,
        "balanced-test": 570,
    }
    for counts, sizes in ((NIH_TRAIN_COUNTS, (7, 9, 4)), (MIMIC_TRAIN_COUNTS, (10, 6, 3))):
        assert list(counts.values()) == sorted(counts.values(), reverse=True)
        groups = groups_by_count(counts, cxr_lt.HEAD_ABOVE, cxr_lt.TAIL_BELOW)
        assert tuple(Counter(groups.values())[group] for group in ("head", "medium", "tail")) == sizes
    assert len(SHARED_CLASSES) == 13
    assert set(SHARED_CLASSES) < set(NIH_TRAIN_COUNTS)
    assert set(SHARED_CLASSES.values()) < set(MIMIC_TRAIN_COUNTS)
    assert [name for name, other in SHARED_CLASSES.items() if name != other] == ["Effusion"]


def test_the_limits_of_groups_belong_to_the_middle() -> None:
    counts = {"a": 1001, "b": 1000, "c": 100, "d": 99}
    assert groups_by_count(counts, 1000, 100) == {"a": "head", "b": "medium", "c": "medium", "d": "tail"}


def test_classes_become_words() -> None:
    assert phrase("Pleural_Thickening") == "pleural thickening"
    assert phrase("Calcification of the Aorta") == "calcification of the aorta"


@pytest.mark.parametrize("layout", ["flat", "folders"])
@pytest.mark.parametrize("folder", ["", "LongTailCXR", "labels"])
def test_nih(tmp_path: Path, layout: str, folder: str) -> None:
    per_class = {name: rank % 3 + 1 for rank, name in enumerate(NIH_TRAIN_COUNTS)}
    make_nih(tmp_path, layout, per_class)
    (tmp_path / folder).mkdir(exist_ok=True)
    for file in tmp_path.glob("*.csv"):
        file.rename(tmp_path / folder / file.name)
    one, two = dict.fromkeys(per_class, 1), dict.fromkeys(per_class, 2)
    listing = read_nih(tmp_path, {"train": per_class, "validation": one, "test": two, "balanced-test": one})
    assert listing.problems == []
    for entry in listing.entries:
        with Image.open(tmp_path / entry.path) as image:
            assert image.size == (16, 16)
        assert entry.path.endswith(f"/{entry.id}")
        assert entry.id.startswith(f"{entry.patient}_")
        assert len(entry.patient or "") == 8
    assert len({entry.path.rpartition("/")[0] for entry in listing.entries}) == (1 if layout == "flat" else 12)


@pytest.mark.parametrize("base", ["", "2.0.0", "mimic-cxr-jpg/2.0.0"])
def test_mimic(tmp_path: Path, base: str) -> None:
    one = dict.fromkeys(MIMIC_TRAIN_COUNTS, 1)
    listing = read_mimic(make_mimic(tmp_path, base, one), {"train": one, "validation": one, "balanced-test": one})
    assert listing.problems == []
    assert Counter(entry.split for entry in listing.entries)["test"] == 38
    for entry in listing.entries:
        with Image.open(tmp_path / entry.path) as image:
            assert image.format == "JPEG"
        assert Path(entry.path).stem == entry.id
        assert f"/p{entry.patient}/" in entry.path


def test_the_dress_of_a_file_changes_nothing(tmp_path: Path) -> None:
    expected = read_nih(make_nih(tmp_path)).entries
    lines = nih_file(tmp_path).read_text().splitlines()
    nih_file(tmp_path).write_bytes(("\ufeff" + "\n".join(lines)).encode())  # a mark, Unix ends, no final newline
    assert read_nih(tmp_path).entries == expected
    zipped = nih_file(tmp_path).with_suffix(".csv.gz")
    zipped.write_bytes(gzip.compress("\r\n".join(lines).encode()))
    nih_file(tmp_path).unlink()
    listing = read_nih(tmp_path)
    assert listing.problems == []
    assert [(entry.id, entry.label) for entry in listing.entries] == [(entry.id, entry.label) for entry in expected]
    # the order of columns is free
    edit(nih_file(tmp_path, "test"), lambda rows: rows.__setitem__(0, dict(reversed(rows[0].items()))))
    listing = read_nih(tmp_path)
    assert listing.problems == []
    assert [(entry.id, entry.label) for entry in listing.entries] == [(entry.id, entry.label) for entry in expected]


def set_value(column: str, value: str) -> Callable[[list[Row]], object]:
    return lambda rows: rows[0].update({column: value})


def two_ones(rows: list[Row]) -> None:
    rows[0].update({"Hernia": "1", "Edema": "1"})


def no_one(rows: list[Row]) -> None:
    rows[0].update(dict.fromkeys(NIH_TRAIN_COUNTS, "0"))


def floats(rows: list[Row]) -> None:
    rows[0].update({name: f"{rows[0][name]}.0" for name in NIH_TRAIN_COUNTS})


@pytest.mark.parametrize(
    ("change", "kind", "found"),
    [
        (two_ones, "several classes", "'Edema', 'Hernia' are 1, expected exactly one"),
        (no_one, "no class", "no class is 1"),
        (floats, "float label", "expected 0 or 1 written as a whole number"),
        (set_value("Edema", "-1"), "bad label", "'Edema' is '-1', expected 0 or 1"),
        (set_value("Edema", ""), "empty value", "nothing under 'Edema'"),
        (set_value("subject_id", "0"), "patient contradicts id", "of subject '0', expected '00000000'"),
    ],
)
def test_a_bad_row_is_told_and_the_others_are_read(
    tmp_path: Path, change: Callable[[list[Row]], None], kind: str, found: str
) -> None:
    whole = read_nih(make_nih(tmp_path)).entries
    edit(nih_file(tmp_path), change)
    listing = read_nih(tmp_path)
    (problem,) = listing.problems
    assert problem.kind == kind
    assert problem.where == f"{nih_file(tmp_path)}, line 2"
    assert found in problem.found
    first = next(entry for entry in whole if entry.where == problem.where)
    assert listing.entries == [entry for entry in whole if entry is not first]


def test_columns_that_are_no_classes_and_classes_without_a_column(tmp_path: Path) -> None:
    make_nih(tmp_path)
    path = nih_file(tmp_path)
    path.write_text(path.read_text().replace("Tortuous Aorta", "Tortous Aorta"))
    problems = read_nih(tmp_path).problems
    assert [problem.kind for problem in problems] == ["missing column", "unknown column"]
    assert "'Tortuous Aorta' is not among" in problems[0].found
    assert "Did you mean 'Tortuous Aorta'?" in problems[1].found


def test_an_id_listed_twice_and_a_patient_of_two_splits(tmp_path: Path) -> None:
    make_nih(tmp_path)
    edit(nih_file(tmp_path), lambda rows: rows.append(rows[0]))
    assert kinds(tmp_path) == ["duplicate id"]
    make_nih(tmp_path)

    def same_patient(rows: list[Row]) -> None:
        with nih_file(tmp_path).open(newline="") as file:
            patient = next(csv.DictReader(file))["subject_id"]
        image = rows[0]["id"]
        rows[0].update(id=f"{patient}_999.png", subject_id=patient)
        (tmp_path / "images" / image).rename(tmp_path / "images" / rows[0]["id"])

    edit(nih_file(tmp_path, "balanced-val"), same_patient)
    assert kinds(tmp_path) == ["patient in two splits"]


def test_the_balanced_test_set_lies_in_the_test_set(tmp_path: Path) -> None:
    make_nih(tmp_path)
    edit(nih_file(tmp_path, "test"), lambda rows: rows.pop(0))
    assert kinds(tmp_path) == ["not in test"]
    make_nih(tmp_path)

    def relabel(rows: list[Row]) -> None:
        names = sorted(NIH_TRAIN_COUNTS)
        rows[0].update({names[0]: "0", names[1]: "1"})

    edit(nih_file(tmp_path, "balanced-test"), relabel)
    assert kinds(tmp_path) == ["contradicting label"]


def test_a_missing_image_is_told_once_for_each_line_and_is_no_wrong_count(tmp_path: Path) -> None:
    make_nih(tmp_path)
    entries = read_nih(tmp_path).entries
    gone = next(entry for entry in entries if entry.split == "balanced-test")
    (tmp_path / gone.path).unlink()
    listing = read_nih(tmp_path, {"test": dict.fromkeys(NIH_TRAIN_COUNTS, 2)})
    assert [problem.kind for problem in listing.problems] == ["missing image"] * 2
    assert listing.entries == [entry for entry in entries if entry.id != gone.id]


def test_a_missing_folder_and_missing_files_are_one_problem_each(tmp_path: Path) -> None:
    make_nih(tmp_path)
    shutil.rmtree(tmp_path / "images")
    nih_file(tmp_path, "balanced-val").unlink()
    listing = read_nih(tmp_path)
    assert listing.entries == []
    assert [problem.kind for problem in listing.problems] == ["missing folder", "missing file"]
    assert str(tmp_path / "LongTailCXR") in listing.problems[1].found


def test_a_file_without_rows_or_one_that_is_no_text(tmp_path: Path) -> None:
    make_nih(tmp_path)
    nih_file(tmp_path).write_text(nih_file(tmp_path).read_text().splitlines()[0] + "\n")
    nih_file(tmp_path, "balanced-val").write_bytes(b"\xff\xfe\x00")
    assert kinds(tmp_path) == ["no rows", "unreadable file"]


def test_wrong_counts_are_told(tmp_path: Path) -> None:
    problems = read_nih(make_nih(tmp_path), NIH_COUNTS).problems
    assert len(problems) == 4 * 20
    assert problems[0].found == "2 images of 'No Finding', expected 45439"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("../files/p10/p10000000/s50000000/a.jpg", "path outside the data folder"),
        ("/etc/passwd", "path outside the data folder"),
        ("files/p10/p10000000/s50000000/other.jpg", "path contradicts ids"),
    ],
)
def test_paths_of_mimic(tmp_path: Path, path: str, kind: str) -> None:
    make_mimic(tmp_path, per_class=1)
    edit(tmp_path / "mimic-cxr-lt_single-label_train.csv", lambda rows: rows[0].update(path=path))
    (problem,) = read_mimic(tmp_path).problems
    assert problem.kind == kind
    assert repr(path) in problem.found


def test_missing_images_of_mimic(tmp_path: Path) -> None:
    make_mimic(tmp_path, per_class=1)
    first = read_mimic(tmp_path).entries[0]
    (tmp_path / first.path).unlink()
    assert kinds(tmp_path, read_mimic) == ["missing image"]
    (tmp_path / "files").rename(tmp_path / "elsewhere")
    assert kinds(tmp_path, read_mimic) == ["missing folder"]


def test_another_tasks_data_is_recognised(tmp_path: Path) -> None:
    make_nih(tmp_path / "nih", per_class=1)
    listing = read_mimic(tmp_path / "nih")
    assert listing.entries == []
    assert [problem.found for problem in listing.problems] == ["this looks like nih-cxr-lt, not mimic-cxr-lt"]
    assert kinds(tmp_path / "absent") == ["missing folder"]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real label files of NIH-CXR-LT are not there")
def test_the_real_nih_files(tmp_path: Path) -> None:
    for file in REAL.glob("nih-cxr-lt_single-label_*"):
        shutil.copy(file, tmp_path / file.name.replace("_RECONSTRUCTED", ""))
    (tmp_path / "images").mkdir()
    with gzip.open(REAL / "nih-cxr-lt_image_ids.csv.gz", "rt", newline="") as file:
        names = [row["id"] for row in csv.DictReader(file)]
    for name in names[::100]:
        (tmp_path / "images" / name).touch()
    listing = read_nih(tmp_path, NIH_COUNTS)
    found = Counter(problem.kind for problem in listing.problems)
    # the stand-in for the train file has the images of five classes under "No Finding"
    assert found.pop("wrong count") == 6
    assert {problem.found for problem in listing.problems if problem.kind == "wrong count"} >= {
        "45997 images of 'No Finding', expected 45439",
        "0 images of 'Tortuous Aorta', expected 339",
    }
    assert set(found) == {"missing image"}
    assert found["missing image"] == 68_058 + 300 + 20_279 + 600 - len(listing.entries)
    assert {entry.id for entry in listing.entries} == set(names[::100])
