"""ChestX-ray14 and CXR-LT with all of their labels: official files, small trees, and what is wrong with them."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import write_image, write_rows
from typer.testing import CliRunner

from grasp_bench.adapters.partition import by_group
from grasp_bench.cli import app
from grasp_bench.contracts.progress import Progress
from grasp_bench.data.chest_sets import (
    CXR_LT,
    CXR_LT_FILES,
    NIH_LABELS,
    NIH_LISTS,
    read_chestxray14,
    read_cxr_lt,
)
from grasp_bench.data.image_task import NOTED
from grasp_bench.data.listing import Listing
from grasp_bench.estimate.subject import choose
from grasp_bench.tasks.chest_sets import CxrLT, NihLTMulti

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
QUICK = [
    *("--task-set", "extractor=pixels", "--task-set", "network=small-cnn"),
    *("--budget", "smoke", "--method", "grasp", "--backbone", "tiny-sd3"),
]
SMALL_SETS = ("No Finding", "Effusion", "Effusion|Mass", "Mass|Effusion|Hernia", "Hernia")


def make_nih14(root: Path, folder: str = "") -> Path:
    """60 images of 30 patients, two each, a third of them of the test list."""
    rng, rows, lists = np.random.default_rng(0), [], {"train": [], "test": []}
    for number in range(60):
        patient = number // 2 + 1
        image = f"{patient:08}_{number % 2:03}.png"
        write_image(root / "images" / image, 16, rng)
        rows.append([image, SMALL_SETS[number % 5], str(patient), "PA"])
        lists["test" if patient % 3 == 0 else "train"].append(image)
    header = ["Image Index", "Finding Labels", "Patient ID", "View Position"]
    write_rows(root / folder / "Data_Entry_2017_v2020.csv", header, rows)
    for split, (name, _) in NIH_LISTS.items():
        (root / folder / name).write_text("\n".join(lists[split]))  # no final newline, as published
    return root


def make_cxr_lt(root: Path, edition: str = "2023", project: str = "") -> Path:
    """24 images of 12 patients, with columns that are no labels."""
    rng, names, images = np.random.default_rng(0), tuple(CXR_LT[edition]), 24
    rows: dict[str, list[list[str]]] = {split: [] for split in CXR_LT_FILES[edition]}
    for number in range(images):
        subject, study = 10_000_000 + number // 2, 50_000_000 + number
        path = f"files/p{str(subject)[:2]}/p{subject}/s{study}/d{number}.jpg"
        write_image(root / path, 16, rng)
        split = ("train", "train", "validation", "test")[number // 2 % 4]
        own = {names[number % 3], names[number // 2 % 2]}
        rows[split].append([f"d{number}", f"s{study}", str(subject), path, "PA", *(str(int(n in own)) for n in names)])
    header = ["dicom_id", "study_id", "subject_id", "fpath", "ViewPosition", *names]
    for split, (name, _) in CXR_LT_FILES[edition].items():
        write_rows(root / project / f"cxr-lt-{edition}" / name, header, rows[split])
    return root


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def kinds(listing: Listing) -> list[str]:
    return [problem.kind for problem in listing.problems]


def test_published_numbers() -> None:
    assert {edition: len(names) for edition, names in CXR_LT.items()} == {"2023": 26, "2024": 40}
    assert [(max(counts.values()), min(counts.values())) for counts in CXR_LT.values()] == [
        (89_140, 543),
        (86_079, 129),
    ]
    assert all(max(CXR_LT[edition].values()) < files["train"][1] for edition, files in CXR_LT_FILES.items())
    assert {sum(count for _, count in files.values()) for files in CXR_LT_FILES.values()} == {377_110}
    assert sum(count for _, count in NIH_LISTS.values()) == 112_120
    assert [min(sums) for sums in zip(*NIH_LABELS.values(), strict=True)] == [141, 86]


@pytest.mark.skipif(not (SHARED / "nih-cxr-lt").is_dir(), reason="the real label file of ChestX-ray14 is not here")
def test_the_real_label_file_has_the_published_numbers() -> None:
    with gzip.open(SHARED / "nih-cxr-lt" / "Data_Entry_2017_v2020.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(count for _, count in NIH_LISTS.values())
    assert Counter(name for row in rows for name in row["Finding Labels"].split("|")) == {
        name: sum(parts) for name, parts in NIH_LABELS.items()
    }


@pytest.mark.parametrize("folder", ["", "LongTailCXR"])
def test_chestxray14(tmp_path: Path, folder: str) -> None:
    listing = read_chestxray14(make_nih14(tmp_path, folder), 0.25, 0, official=False)
    assert listing.problems == []
    assert Counter(label for entry in listing.entries for label in entry.labels) == {
        **{"No Finding": 12, "Effusion": 36, "Mass": 24, "Hernia": 24}
    }
    assert {int(entry.patient or 0) for entry in listing.entries if entry.split == "test"} == set(range(3, 31, 3))
    shares = Counter(entry.split for entry in listing.entries)
    assert shares["test"] == 20
    assert shares["train"] > shares["validation"] > 0
    other = read_chestxray14(tmp_path, 0.25, 1, official=False)
    assert [entry.split for entry in other.entries] != [entry.split for entry in listing.entries]


@pytest.mark.parametrize(
    ("file", "change", "kind"),
    [
        ("Data_Entry_2017_v2020.csv", lambda text: text.replace("Hernia", "Hernja", 1), "unknown label"),
        ("Data_Entry_2017_v2020.csv", lambda text: text.replace("|Mass", "|Effusion", 1), "repeated label"),
        ("Data_Entry_2017_v2020.csv", lambda text: text.replace(",4,PA", ",5,PA", 1), "patient contradicts id"),
        (
            "Data_Entry_2017_v2020.csv",
            lambda text: re.sub(r"(00000003_000.png),[^,]*", r"\1,Pneumonia", text),
            "no training image",
        ),
        ("train_val_list.txt", lambda text: text.replace("00000004_000.png\n", ""), "in no list"),
        ("test_list.txt", lambda text: text + "\n00000004_000.png", "duplicate id"),
        ("test_list.txt", None, "missing file"),
        ("images/00000007_000.png", None, "missing image"),
        ("test_list.txt", lambda text: text.replace("00000003_000.png", "00000004_000.png"), "patient in two splits"),
    ],
)
def test_what_is_wrong_with_chestxray14(
    tmp_path: Path, file: str, change: Callable[[str], str] | None, kind: str
) -> None:
    path = make_nih14(tmp_path) / file
    if change is None:
        path.unlink()
    else:
        edit(path, change)
    assert kind in kinds(read_chestxray14(tmp_path, 0.001, 0, official=False))


def test_numbers_that_are_not_the_published_ones_are_told(tmp_path: Path) -> None:
    found = kinds(read_chestxray14(make_nih14(tmp_path / "nih"), 0.1, 0))
    assert Counter(found) == {"wrong count": len(NIH_LABELS) + 2}
    assert Counter(kinds(read_cxr_lt(make_cxr_lt(tmp_path / "mimic"), "2023"))) == {"wrong count": 3}


@pytest.mark.parametrize(("edition", "project"), [("2023", ""), ("2024", "cxr-lt-iccv-workshop-cvamd/2.0.0")])
def test_cxr_lt(tmp_path: Path, edition: str, project: str) -> None:
    listing = read_cxr_lt(make_cxr_lt(tmp_path, edition, project), edition, official=False)
    assert listing.problems == []
    assert Counter(entry.split for entry in listing.entries) == {"train": 12, "validation": 6, "test": 6}
    assert max(len(entry.labels) for entry in listing.entries) == 2
    names = tuple(CXR_LT[edition])
    entry = next(entry for entry in listing.entries if entry.id == "d1")
    assert (set(entry.labels), entry.patient) == ({names[1], names[0]}, "10000000")
    assert (tmp_path / entry.path).is_file()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda text: text.replace("d0.jpg", "d9.jpg"), "path contradicts ids"),
        (lambda text: text.replace("files/p10/p10000000/s50000000", "../p10000000/s50000000"), "path outside"),
        (lambda text: text.replace("s50000000/d0.jpg", "s59999999/d0.jpg"), "missing image"),
        (lambda text: text.replace("PA,1", "PA,2", 1), "bad label"),
        (lambda text: re.sub(r"PA,.*", "PA" + ",0" * 26, text), "no label"),
        (lambda text: text.replace("fpath", "path"), "missing column"),
        (lambda text: text.replace(",Hernia", ",Hernja"), "missing column"),
    ],
)
def test_what_is_wrong_with_cxr_lt(tmp_path: Path, change: Callable[[str], str], kind: str) -> None:
    path = make_cxr_lt(tmp_path) / "cxr-lt-2023" / "train.csv"
    edit(path, change)
    assert any(found.startswith(kind) for found in kinds(read_cxr_lt(tmp_path, "2023", official=False)))


def test_images_without_any_label_are_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an image may be that has only one of the findings that the challenge's first task leaves out."""
    monkeypatch.setattr(CxrLT, "official", False)
    root = make_cxr_lt(tmp_path / "mimic", "2024")
    task = CxrLT(CxrLT.Config(edition="2024"), root)
    assert not task.listing().noted
    for name in ("train_labeled.csv", "test_labeled_task1.csv"):
        edit(root / "cxr-lt-2024" / name, lambda text: re.sub(r"(d[06],.*PA),.*", r"\1" + ",0" * 40, text))
    task = CxrLT(CxrLT.Config(edition="2024"), root)
    said: list[str] = []
    progress = Progress()
    monkeypatch.setattr(progress, "say", said.append)
    task.prepare(tmp_path / "work", progress)
    assert f"{root}: images left out, which have none of the 40 labels (2): d0, d6" in said
    data = task.open(tmp_path / "work", (1, 16, 16))
    assert (len(data.train), len(data.validation), len(data.test)) == (11, 6, 5)
    told = json.loads((tmp_path / "work" / NOTED).read_text())
    assert (told["images"], list(told["counts"].values()), list(told["names"].values())) == (22, [2], [[]])


def test_prompts_and_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NihLTMulti, "official", False)
    task = NihLTMulti(NihLTMulti.Config(), make_nih14(tmp_path))
    task.prepare(tmp_path / "work", Progress())
    train = task.open(tmp_path / "work", (1, 16, 16)).train
    names = [info.name for info in task.classes()]
    assert train.patients is not None
    prompts = {tuple(name for name, has in zip(names, row, strict=True) if has) for row in train.truth}
    assert ("Effusion", "Mass") in prompts
    at = next(row for row, own in enumerate(train.truth) if own.sum() == 3)
    assert (
        train.prompts[at]
        == "a chest X-ray showing "
        + (
            f"{names[np.flatnonzero(train.truth[at])[0]]}, {names[np.flatnonzero(train.truth[at])[1]]} and "
            f"{names[np.flatnonzero(train.truth[at])[2]]}"
        ).lower()
    )
    assert "a chest X-ray showing no finding" in train.prompts


@pytest.mark.parametrize(
    ("task", "edition", "sizes", "healthy"),
    [
        ("nih-lt-multi", [], (4, 6, 5), "No Finding"),
        ("cxr-lt", ["edition=2023"], (9, 11, 6), "No Finding"),
        ("cxr-lt", ["edition=2024"], (9, 15, 16), "Normal"),
    ],
)
def test_what_is_known_without_data(
    task: str, edition: list[str], sizes: tuple[int, ...], healthy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRASP_BENCH_DATA", raising=False)
    found = choose("grasp", task, task_settings=edition).task
    infos = found.classes()
    assert min(info.train_count for info in infos) > 0
    groups = Counter(info.group for info in infos)
    assert tuple(groups[each] for each in ("head", "medium", "tail")) == sizes
    assert [info.name for info in infos if info.healthy] == [healthy]
    assert by_group(found).clusters == ("head", "medium", "tail", "healthy")


@pytest.mark.slow
def test_cxr_lt_to_a_record_without_a_name_of_a_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_trees(tmp_path, monkeypatch)
    root = make_cxr_lt(tmp_path / "mimic")
    command("prepare", "--task", "cxr-lt", "--data-root", root, "--check")
    command("run", "--task", "cxr-lt", "--data-root", root, *QUICK)
    (path,) = Path("results").glob("cxr-lt~*/grasp*/seed-0/record.json")
    assert json.loads(path.read_text())["status"] == "finished"
    written = b"".join(path.read_bytes() for path in Path("results").rglob("*") if path.is_file())
    assert not re.search(rb"1000000\d|5000000\d", written)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "nih-mini").is_dir(), reason="the real X-rays of nih-mini are not here")
def test_real_x_rays_in_the_official_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_trees(tmp_path, monkeypatch)
    root = tmp_path / "nih"
    root.mkdir()
    (root / "images").symlink_to((SHARED / "nih-mini" / "images").resolve())
    with (SHARED / "nih-mini" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    header = ["Image Index", "Finding Labels", "Patient ID"]
    write_rows(
        root / "Data_Entry_2017_v2020.csv", header, [[r["id"], r["finding_labels"], r["patient_id"]] for r in rows]
    )
    tested = [int(row["patient_id"]) % 3 == 1 for row in rows]  # by which the one image of Hernia is for training
    for split, (name, _) in NIH_LISTS.items():
        mine = [row["id"] for row, test in zip(rows, tested, strict=True) if test == (split == "test")]
        (root / name).write_text("\n".join(mine))
    command("run", "--task", "nih-lt-multi", "--data-root", root, *QUICK)
    (path,) = Path("results").glob("nih-lt-multi~*/grasp*/seed-0/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "finished"
    (score,) = (
        each
        for each in record["scores"]
        if (each["metric"], each["source"], each["group"]) == ("average_precision", "real", "all")
    )
    assert score["n"] == sum(tested)
    assert 0 < score["value"] < 1


def small_trees(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in (NihLTMulti, CxrLT):
        monkeypatch.setattr(task, "official", False)
        monkeypatch.setattr(task, "classifier", replace(task.classifier, resolution=None))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.delenv("GRASP_BENCH_DATA", raising=False)
    monkeypatch.chdir(folder)


def command(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, (result.exception, result.output)
    return result.output
