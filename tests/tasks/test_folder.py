"""A folder of one's own images and a TOML file: identity, splits, groups, mistakes."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.contracts.progress import Progress
from grasp_bench.data import manifest
from grasp_bench.errors import UserError
from grasp_bench.run.plan import plan
from grasp_bench.tasks.folder import FolderTask

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "nih-mini"
COUNTS = {"cat": 40, "dog_big": 20, "eel": 4}
TOML = 'name = "pets"\nhead_above = 20\ntail_below = 5\nextractor = "pixels"\n'


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pets.toml beside images/<class>/<number>.png."""
    random = np.random.RandomState(0)
    for name, count in COUNTS.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.randint(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number:02}.png")
    (tmp_path / "pets.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pets.toml"


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def mistake(path: Path, *settings: str) -> str:
    with pytest.raises(UserError) as error:
        FolderTask.from_file(path, settings)[1].classes()
    return str(error.value)


def labels_file(path: Path, **columns) -> None:
    """labels.csv with the images' own classes and ``columns``, each a function of the image's number."""
    names = sorted(each.relative_to(path.parent / "images") for each in (path.parent / "images").rglob("*.png"))
    with (path.parent / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", *columns])
        writer.writerows(
            [name.as_posix(), name.parts[0], *(make(i) for make in columns.values())] for i, name in enumerate(names)
        )
    path.write_text(path.read_text() + 'labels = "labels.csv"\n')


def test_classes_by_falling_count_with_prompts_and_groups(pets: Path) -> None:
    name, task = FolderTask.from_file(pets, ["test_share=0.25", "validation_share=0.25"])
    assert name == "pets"
    assert [(info.name, info.prompt, info.group, info.train_count) for info in task.classes()] == [
        ("cat", "a photo of cat", "medium", 20),
        ("dog_big", "a photo of dog big", "medium", 10),
        ("eel", "a photo of eel", "tail", 2),
    ]
    splits = Counter((entry.label, entry.split) for entry in task.listing().entries)
    assert splits["cat", "test"] == splits["cat", "validation"] == 10
    assert splits["eel", "test"] == splits["eel", "validation"] == 1


def test_groups_may_be_given(pets: Path) -> None:
    pets.write_text(TOML + '[groups]\ncommon = ["cat"]\nrare = ["eel", "dog_big"]\n')
    task = FolderTask.from_file(pets, [])[1]
    assert task.groups == ("common", "rare")
    pets.write_text(TOML + '[groups]\ncommon = ["cat"]\nrare = ["eel", "dgo_big"]\n')
    assert "groups.rare: there is no class 'dgo_big'" in mistake(pets)
    pets.write_text(TOML + '[groups]\ncommon = ["cat"]\n')
    assert "no group for dog_big, eel" in mistake(pets)
    pets.write_text(TOML + '[groups]\ncommon = ["cat", "dog_big"]\nrare = ["eel", "cat"]\n')
    assert "class 'cat' is in 'common' already" in mistake(pets)


def test_the_identity_follows_the_data_and_not_its_place(pets: Path, tmp_path: Path) -> None:
    def identity(path: Path) -> str:
        return plan(method="grasp", task=str(path)).spec.id

    first = identity(pets)
    moved = tmp_path / "moved"
    moved.mkdir()
    for each in ("images", "pets.toml"):
        (tmp_path / each).rename(moved / each)
    assert identity(moved / "pets.toml") == first
    image = moved / "images" / "cat" / "00.png"
    pixels = np.array(Image.open(image))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(image)
    assert identity(moved / "pets.toml") != first


def test_a_split_and_patients_from_columns(pets: Path) -> None:
    labels_file(pets, part=lambda i: ("train", "train", "test", "validation")[i % 4], who=lambda i: f"p{i}")
    task = FolderTask.from_file(pets, ["split_column=part", "patient_column=who"])[1]
    assert Counter(entry.split for entry in task.listing().entries) == {"train": 32, "test": 16, "validation": 16}
    assert task.private
    task = FolderTask.from_file(pets, ["split_column=part", "patient_column=part"])[1]
    assert task.listing().problems == []
    assert "no column 'whom'. Its columns: part, who" in mistake(pets, "patient_column=whom")
    assert "expected one of train, validation, test" in mistake(pets, "split_column=who")


def test_columns_that_are_kept_come_with_the_images_and_are_part_of_the_task(pets: Path) -> None:
    def view(number: int) -> str:
        return ("PA", "AP", "LL")[number % 3]

    def identity(path: Path) -> dict:
        return FolderTask.from_file(path, [])[1].identity()

    text = pets.read_text()
    labels_file(pets, view=view)
    assert "metadata_columns" not in identity(pets)
    assert FolderTask.from_file(pets, [])[1].listing().entries[0].metadata == {}
    without = identity(pets)["data"]
    pets.write_text(text + 'labels = "labels.csv"\nmetadata_columns = ["view"]\n')
    first = identity(pets)
    assert (first["metadata_columns"], first["data"] == without) == (["view"], False)
    task = FolderTask.from_file(pets, [])[1]
    expected = {each.id: view(number) for number, each in enumerate(sorted(task.listing().entries, key=lambda e: e.id))}
    folder = pets.parent / "prepared"
    task.prepare(folder, Progress())
    found = task.open(folder, (3, 32, 32)).train
    names = manifest.read(folder).column("id")
    assert found.metadata["view"].tolist() == [expected[names[int(row.rpartition("/")[2])]] for row in found.ids]

    labels = pets.parent / "labels.csv"
    labels.write_text(labels.read_text().replace("PA", "LL", 1))
    assert identity(pets)["data"] != first["data"]
    labels.write_text(labels.read_text().replace("LL", "", 1))
    assert "view is empty, as it is for 1 image" in mistake(pets)
    pets.write_text(text + 'labels = "labels.csv"\nmetadata_columns = ["veiw"]\n')
    assert "no column 'veiw'. Its columns: view" in mistake(pets)


def test_a_patient_is_drawn_into_one_split(pets: Path) -> None:
    labels_file(pets, who=lambda i: f"p{i // 3}")
    task = FolderTask.from_file(pets, ["patient_column=who"])[1]
    entries = task.listing().entries
    homes: dict[str, set[str]] = {}
    for entry in entries:
        homes.setdefault(entry.patient, set()).add(entry.split)
    assert {len(splits) for splits in homes.values()} == {1}
    assert {entry.split for entry in entries} == {"train", "validation", "test"}
    assert task.listing().problems == []


def test_a_patient_in_two_splits_is_told_with_both_images(pets: Path) -> None:
    labels_file(pets, part=lambda i: ("train", "test", "validation")[i % 3], who=lambda i: f"p{i // 2}")
    settings = ["--task-set", "split_column=part", "--task-set", "patient_column=who"]
    message = str(invoke("prepare", "--task", pets, "--check", *settings).exception)
    assert "patient in two splits" in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('name = "My Pets"', "name: String should match pattern"),
        ("nmae = 1", "nmae: Extra inputs are not permitted"),
        ('name = "digits-lt"', "is a built-in or installed task"),
        ('images = "pictures"', "pictures is not a folder"),
        ('prompt = "a photo"', "prompt: expected {class}"),
        ("head_above = -1", "head_above: Input should be greater than or equal to 0"),
        ("[budget]\nsteps = 0", "budget.steps"),
        ("name = ", "is no TOML"),
        ("labels = 'none.csv'", "none.csv"),
    ],
)
def test_mistakes_in_the_file_name_it_and_the_field(pets: Path, text: str, part: str) -> None:
    pets.write_text(text + "\n")
    message = mistake(pets)
    assert part in message
    assert str(pets.parent) in message


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        (["validation_share=0"], "no image is for validation. Raise validation_share"),
        (["head_above=3"], "a class could be both"),
    ],
)
def test_settings_that_do_not_go_together(pets: Path, settings: list[str], part: str) -> None:
    assert part in mistake(pets, *settings)


def test_a_class_of_one_image_is_trained_on_and_all_is_no_group(pets: Path) -> None:
    (pets.parent / "images" / "fox").mkdir()
    Image.new("RGB", (9, 9), (1, 2, 3)).save(pets.parent / "images" / "fox" / "0.png")
    counts = {info.name: info.train_count for info in FolderTask.from_file(pets, [])[1].classes()}
    assert counts["fox"] == 1
    pets.write_text(TOML + '[groups]\nall = ["cat", "eel"]\nrare = ["dog_big"]\n')
    assert 'may be called "all"' in mistake(pets)


def test_another_budget_is_another_row_and_a_name_alone_is_no_task(pets: Path) -> None:
    labels = []
    for steps in (5, 6):
        pets.write_text(TOML + f"[budget]\nsteps = {steps}\n")
        labels.append(plan(method="grasp", task=str(pets)).task_label)
    assert labels[0] != labels[1]
    assert "`grasp-bench new task` writes one" in str(invoke("run", "-m", "grasp", "-t", "folder").exception)


def files(path: Path) -> set[str]:
    """Paths of the images that the task takes."""
    return {entry.path for entry in FolderTask.from_file(path, [])[1].listing().entries}


def test_pictures_are_taken_whatever_they_are_called_and_what_is_ignored_is_told(pets: Path) -> None:
    folder = pets.parent / "images" / "eel"
    picture = Image.open(folder / "00.png").convert("RGB")
    before = files(pets)
    for number, (name, kind) in enumerate({"a.jfif": "JPEG", "b.tga": "TGA", "c": "PNG", "d.photo": "WEBP"}.items()):
        picture.putpixel((0, 0), (number, 0, 0))
        picture.save(folder / name, format=kind)
    (folder / "notes.txt").write_text("seen in May")
    (folder / ".thumbs").write_text("")
    assert files(pets) - before == {f"eel/{name}" for name in ("a.jfif", "b.tga", "c", "d.photo")}
    result = invoke("prepare", "--task", pets, "--check")
    assert result.exit_code == 0
    told = " ".join(result.output.split())
    assert "files ignored, hidden (1): eel/.thumbs" in told
    assert "files ignored, not recognised as a picture (1): eel/notes.txt" in told
    assert "68 images, no problems found" in told


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scan", bytes(128) + b"DICM" + bytes(50)),
        ("scan.dcm", b"no preamble"),
        ("drawing.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("drawing", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ],
)
def test_pictures_in_formats_that_are_not_read_are_refused(pets: Path, name: str, content: bytes) -> None:
    (pets.parent / "images" / "eel" / name).write_bytes(content)
    assert f"1 file in formats that are not read: eel/{name}." in mistake(pets)


def test_a_damaged_picture_is_a_problem_whatever_its_ending(pets: Path) -> None:
    (pets.parent / "images" / "eel" / "x.jfif").write_bytes(b"cut")
    (pets.parent / "images" / "eel" / "y.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")  # no program is to draw it
    message = str(invoke("prepare", "--task", pets, "--check").exception)
    assert "eel/x.jfif is in no image format that is read" in message
    assert "eel/y.png is in no image format that is read" in message


def copied(path: Path, **again: str) -> None:
    """Copy images of the task: new path, with ``__`` for a slash → old one; both without their endings."""
    images = path.parent / "images"
    for new, old in again.items():
        shutil.copy(images / f"{old}.png", images / f"{new.replace('__', '/')}.png")


def splits_of(path: Path, *settings: str) -> dict[str, str]:
    return {each.path: each.split for each in FolderTask.from_file(path, settings)[1].listing().entries}


def test_images_of_equal_bytes_are_in_one_split_and_are_told(pets: Path) -> None:
    without = splits_of(pets)
    test = next(name for name, split in without.items() if split == "test" and name.startswith("cat"))
    copied(pets, cat__aa=test.removesuffix(".png"), eel__aa="cat/01", eel__ab="eel/00")
    found = splits_of(pets)
    assert found["cat/aa.png"] == found[test]
    assert found["eel/aa.png"] == found["cat/01.png"]
    assert found["eel/ab.png"] == found["eel/00.png"]
    result = invoke("prepare", "--task", pets)
    assert result.exit_code == 0, result.exception
    assert "images of equal bytes, kept in one split (3): " in result.output
    (noted,) = Path(".grasp-bench/prepare").glob("*/data.json")
    told = json.loads(noted.read_text())
    assert told["images"] == 67
    assert told["counts"] == {"images of equal bytes, kept in one split": 3}
    assert told["names"]["images of equal bytes, kept in one split"][-1] == "eel/ab.png as eel/00.png"


def test_images_of_equal_bytes_may_be_dropped_or_refused(pets: Path) -> None:
    copied(pets, cat__aa="cat/00", eel__aa="cat/00")
    assert splits_of(pets, "duplicates=drop").keys() == splits_of(pets).keys() - {"cat/aa.png", "eel/aa.png"}
    settings = ["--task-set", "duplicates=drop"]
    assert "images of equal bytes, dropped (2)" in invoke("prepare", "--task", pets, "--check", *settings).output
    refused = invoke("prepare", "--task", pets, "--check", "--task-set", "duplicates=refuse")
    assert "same image twice (2):" in str(refused.exception)
    assert "eel/aa.png has the same bytes as cat/00.png" in str(refused.exception)


def test_equal_images_in_two_splits_that_a_column_says_are_found_by_check(pets: Path) -> None:
    copied(pets, eel__aa="cat/00")
    labels_file(pets, part=lambda i: ("train", "test", "validation")[i % 3] if i != 60 else "test")
    message = str(invoke("prepare", "--task", pets, "--check", "--task-set", "split_column=part").exception)
    assert "same image in two splits (1):" in message
    assert "eel/aa.png in test has the same bytes as cat/00.png in train" in message


def test_patients_who_share_an_image_are_in_one_split(pets: Path) -> None:
    copied(pets, eel__aa="cat/00", eel__ab="cat/30")
    labels_file(pets, who=lambda i: f"p{i}")
    for seed in range(10):
        found = splits_of(pets, "patient_column=who", f"split_seed={seed}")
        assert found["eel/aa.png"] == found["cat/00.png"]
        assert found["eel/ab.png"] == found["cat/30.png"]


def test_no_name_of_a_private_task_is_kept_beside_the_record(pets: Path) -> None:
    copied(pets, eel__aa="cat/00")
    labels_file(pets, who=lambda i: f"p{i // 2}")
    assert invoke("prepare", "--task", pets, "--task-set", "patient_column=who").exit_code == 0
    (noted,) = Path(".grasp-bench/prepare").glob("*/data.json")
    assert "eel/" not in noted.read_text()
    assert json.loads(noted.read_text())["counts"] == {"images of equal bytes, kept in one split": 1}


def test_what_is_told_of_the_data_stands_beside_the_record(pets: Path) -> None:
    (pets.parent / "images" / "eel" / "notes.txt").write_text("seen in May")
    result = invoke("run", "-m", "lora", "-t", pets, "--budget", "smoke", "--backbone", "tiny-sd3")
    assert result.exit_code == 0, result.exception
    (record,) = Path("results").rglob("record.json")
    assert "data.json" in json.loads(record.read_text())["files"]
    told = json.loads(record.with_name("data.json").read_text())
    assert told["names"] == {"files ignored, not recognised as a picture": ["eel/notes.txt"]}


def test_class_names_that_look_alike_are_told(pets: Path) -> None:
    names = ["caf\u00e9", "cafe\u0301"]
    for name, old in zip(names, ("cat", "dog_big"), strict=True):
        (pets.parent / "images" / old).rename(pets.parent / "images" / name)
    result = invoke("prepare", "--task", pets, "--check")
    assert result.exit_code == 0
    expected = r"class names that differ in their Unicode normal form alone (1): 'cafe\u0301' and 'caf\xe9'"
    assert expected in result.output


def test_a_name_that_is_no_utf8_is_a_problem_like_any_other(pets: Path) -> None:
    (pets.parent / "images" / "eel" / os.fsdecode(b"\xff\xe9.png")).write_bytes(b"")
    result = invoke("prepare", "--task", pets, "--check")
    assert r"1 names of images are no UTF-8: eel/\udcff\udce9.png. Rename" in str(result.exception)
    (pets.parent / "images" / "eel" / os.fsdecode(b"\xff\xe9.png")).rename(
        pets.parent / "images" / "eel" / os.fsdecode(b"\xff.txt")
    )
    result = invoke("prepare", "--task", pets)
    assert result.exit_code == 0, result.exception
    assert r"not recognised as a picture (1): eel/\udcff.txt" in result.output


def test_mistakes_in_a_labels_file_name_the_line(pets: Path) -> None:
    labels_file(pets, part=lambda i: "trian" if i == 7 else "train", who=lambda i: "" if i == 9 else f"p{i}")
    assert "labels.csv, line 9: part is 'trian'" in mistake(pets, "split_column=part")
    assert "labels.csv, line 11: who is empty" in mistake(pets, "patient_column=who")
    (pets.parent / "images" / "cat" / "04.png").write_bytes(b"")
    message = str(invoke("prepare", "--task", pets, "--check").exception)
    assert "labels.csv, line 6: cat/04.png has zero bytes" in message


def test_a_missing_extractor_is_missed_before_anything_is_trained(pets: Path) -> None:
    result = invoke("run", "-m", "grasp", "-t", pets, "--budget", "smoke", "--task-set", "extractor=digits-cnn")
    assert "this task holds out none" in str(result.exception)
    assert not Path(".grasp-bench/train").exists()


def test_a_missing_file_and_a_template(pets: Path) -> None:
    assert "`grasp-bench new task`" in mistake(pets.with_name("none.toml"))
    assert invoke("new", "task", "--path", "birds.toml").exit_code == 0
    assert "is there already" in str(invoke("new", "task", "--path", "birds.toml").exception)
    name, task = FolderTask.from_file(Path("birds.toml"), [])
    assert name == "birds"
    assert task.budgets["standard"].steps == 2000
    assert invoke("new", "task", "--path", "My Birds_é.toml").exit_code == 0
    assert FolderTask.from_file(Path("My Birds_é.toml"), [])[0] == "my-birds"
    assert "ends in .toml" in str(invoke("new", "task", "--path", "x.txt").exception)
    assert "says itself where" in str(invoke("prepare", "-t", pets, "--data-root", pets.parent).exception)
    assert "there is a template of: task" in str(invoke("new", "tsak").exception)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real X-rays of nih-mini are not here")
def test_real_chest_x_rays_from_toml_to_leaderboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_nih_mini(tmp_path)
    run = invoke("run", "--method", "grasp", "--task", "nih-mini.toml", "--budget", "smoke")
    assert run.exit_code == 0, run.exception
    (path,) = Path("results").glob("nih-mini~*/grasp/seed-0/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "finished"
    fd = {m["group"]: m for m in record["scores"] if (m["metric"], m["scope"]) == ("fd", "group")}
    assert fd["head"]["value"] > fd["head"]["reference"] > 0
    assert fd["tail"]["value"] is None
    assert "n too small" in invoke("report").output
    rows = list(csv.DictReader((path.parent / "classes.csv").open()))
    rare = [row for row in rows if row["class"] == "Pneumomediastinum" and row["metric"] == "fd"]
    assert [row["value"] for row in rare] == [""]


def write_nih_mini(folder: Path) -> None:
    """nih-mini.toml and labels.csv for the members of NIH-CXR-LT among the real X-rays."""
    with (SHARED / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["nih_cxr_lt_label"]]
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "patient"])
        writer.writerows([row["id"], row["nih_cxr_lt_label"], row["patient_id"]] for row in rows)
    images = folder / "images"
    images.mkdir()
    for row in rows:
        shutil.copy(SHARED / "images" / row["id"], images)
    (folder / "nih-mini.toml").write_text(
        'name = "nih-mini"\nlabels = "labels.csv"\npatient_column = "patient"\nextractor = "pixels"\n'
        'prompt = "a chest X-ray showing {class}"\nhead_above = 30\ntail_below = 8\n'
    )
