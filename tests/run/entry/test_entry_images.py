"""Images of a folder as an entry of the open division: what is refused, which are chosen, and how they are read."""

import hashlib
import json
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from helpers.entries import random_images, request
from helpers.runs import small
from PIL import Image

from grasp_bench.cli.score_input import open_source
from grasp_bench.data.images import image_digest
from grasp_bench.errors import UserError
from grasp_bench.io import read_tensors
from grasp_bench.run.entry.images import GivenImages
from grasp_bench.run.files import IMAGES, IMAGES_NOTED
from grasp_bench.tasks.digits_lt import DigitsLT
from grasp_bench.tasks.folder import FolderTask


def made(folder: Path, images: Path, each: int, seed: int = 0, **options):
    """What is found of the images, and the images that are scored."""
    folder.mkdir()
    found = GivenImages(images, **options).make(request(each, seed=seed), folder)
    return found, read_tensors(folder / IMAGES)["images"]


def rename(images: Path, like: str) -> None:
    """Give every image a name that orders its class otherwise."""
    for path in list(images.glob("*/*.png")):
        path.rename(path.with_name(hashlib.sha256(f"{like}{path}".encode()).hexdigest() + ".png"))


def test_as_many_as_are_scored_are_taken_in_the_order_of_their_names(tmp_path: Path) -> None:
    found, images = made(tmp_path / "stage", random_images(tmp_path / "png", 3), 3)
    assert (found.images, found.scored, found.selection, found.resized, found.repeated) == (30, 30, None, 0, 0)
    paths = sorted((tmp_path / "png").glob("*/*.png"))
    assert np.array_equal(images.numpy(), np.stack([np.asarray(Image.open(path))[None] for path in paths]))
    assert (tmp_path / "stage" / "files.csv").read_text().splitlines()[1] == "generated/00000000,0/00000.png"


def test_a_name_that_a_spreadsheet_would_take_for_a_formula_is_kept_as_text(tmp_path: Path) -> None:
    random_images(tmp_path / "png", 1)
    (tmp_path / "labels.csv").write_text("id,label\n" + "".join(f"={name}.png,{name}\n" for name in range(10)))
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (tmp_path / "png").glob("*/*.png"):
        path.rename(flat / f"={path.parent.name}.png")
    made(tmp_path / "stage", flat, 1, labels=tmp_path / "labels.csv")
    assert (tmp_path / "stage" / "files.csv").read_text().splitlines()[1] == "generated/00000000,'=0.png"


def test_the_choice_among_too_many_depends_on_pixels_and_seed_and_neither_on_names_nor_on_others(
    tmp_path: Path,
) -> None:
    given = random_images(tmp_path / "png", 6)
    found, first = made(tmp_path / "first", given, 2)
    assert found.selection
    assert "the 2 of lowest sha256" in found.selection

    def content(images) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    rename(given, "other names")
    assert content(made(tmp_path / "renamed", given, 2)[1]) == content(first)
    for path in given.glob("*/*.png"):  # those that were not chosen decide nothing
        if np.asarray(Image.open(path)).tobytes() not in content(first):
            path.unlink()
            break
    assert content(made(tmp_path / "fewer", given, 2)[1]) == content(first)
    assert content(made(tmp_path / "seed", given, 2, seed=1)[1]) != content(first)


def test_one_message_says_everything_that_is_wrong(tmp_path: Path) -> None:
    given = random_images(tmp_path / "png", 3)
    (given / "3" / "00009.png").unlink()
    (given / "4").rename(given / "fore")
    (given / "5" / "00015.png").write_bytes(b"no picture")
    Image.new("L", (4, 9)).save(given / "6" / "00018.png")
    copied = np.asarray(Image.open(given / "7" / "00021.png"))[None]
    known = {image_digest(copied): "test"}
    with pytest.raises(UserError) as raised:
        GivenImages(given).make(request(3, known), tmp_path)
    message = str(raised.value)
    for said in (
        "fore: 3 images; the task has no class 'fore'",
        "3: 2, expected at least 3",
        "4: 0, expected at least 3",
        "5/00015.png: is in no image format that is read",
        "6/00018.png: 4 x 9 pixels, scored are 8 x 8; --enlarge accepts it",
        "7/00021.png: has the pixels of an image of the task (test)",
        "Fix the images and start again; nothing was recorded.",
    ):
        assert said in message
    assert not (tmp_path / IMAGES).exists()


def test_images_of_any_size_become_the_tasks_squares_and_small_ones_when_asked(tmp_path: Path) -> None:
    found, _ = made(tmp_path / "large", random_images(tmp_path / "png", 1, side=20), 1)
    assert found.resized == 10
    small = random_images(tmp_path / "small", 1, side=5)
    with pytest.raises(UserError, match="too small"):
        made(tmp_path / "refused", small, 1)
    assert made(tmp_path / "enlarged", small, 1, enlarge=True)[0].resized == 10


def test_a_flat_folder_has_its_classes_from_a_labels_file_and_is_refused_without(tmp_path: Path) -> None:
    given = random_images(tmp_path / "png", 1)
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in given.glob("*/*.png"):
        path.rename(flat / f"{path.parent.name}.png")
    with pytest.raises(UserError, match=r"are in no sub-folders.*--labels"):
        made(tmp_path / "refused", flat, 1)
    rows = "\n".join(f"{digit}.png,{digit}" for digit in range(10))
    (tmp_path / "labels.csv").write_text(f"file,label\n{rows}\n")
    assert made(tmp_path / "stage", flat, 1, labels=tmp_path / "labels.csv")[0].scored == 10


def test_what_identifies_images_is_their_content_their_names_and_their_classes(tmp_path: Path) -> None:
    given = random_images(tmp_path / "png", 2)
    before = GivenImages(given).sha256
    assert GivenImages(random_images(tmp_path / "again", 2)).sha256 == before
    rename(given, "other names")
    assert GivenImages(given).sha256 != before
    assert GivenImages(random_images(tmp_path / "others", 2, seed=1)).sha256 != before


def test_columns_of_label_sets_mean_nothing_where_images_have_one_label(tmp_path: Path) -> None:
    given = random_images(tmp_path / "png", 1)
    paths = sorted(path.relative_to(given) for path in given.glob("*/*.png"))

    def labelled(header: str, further: str) -> GivenImages:
        file = tmp_path / f"{header}.csv"
        file.write_text("\n".join([header, *(f"{path},{path.parent}{further}" for path in paths)]))
        return GivenImages(given, file)

    plain = labelled("id,label", "")
    for found in (labelled("id,label,labels", ",a|b"), labelled("id,label,focus", ",a")):
        assert found.images.labels == plain.images.labels
        assert found.sha256 == plain.sha256


def test_repeated_images_are_counted(tmp_path: Path) -> None:
    given = random_images(tmp_path / "png", 2)
    (given / "0" / "00001.png").write_bytes((given / "0" / "00000.png").read_bytes())
    assert made(tmp_path / "stage", given, 2)[0].repeated == 1


def odd_files(images: Path) -> None:
    """Pictures under other names beside files that are none, in the folder of one class."""
    picture = Image.new("L", (8, 8), 9)
    for number, (name, kind) in enumerate({"a.jfif": "JPEG", "b.tga": "TGA", "c": "PNG", "d.txt": "WEBP"}.items()):
        picture.putpixel((0, 0), number)
        picture.save(images / "3" / name, format=kind)
    (images / "3" / "notes.txt").write_text("seen in May")
    (images / "3" / "table").write_bytes(b"\0\1\2")
    (images / "3" / ".hidden.png").write_bytes(b"")


def test_score_evaluate_and_tasks_read_and_ignore_the_same_files(tmp_path: Path) -> None:
    given = random_images(tmp_path / "png", 4)
    odd_files(given)
    (tmp_path / "mine.toml").write_text('images = "png"\nprompt = "a {class}"\n')
    ignored = {"hidden": ["3/.hidden.png"], "not recognised as a picture": ["3/notes.txt", "3/table"]}
    noted = {f"files ignored, {reason}": names for reason, names in ignored.items()}
    listing = FolderTask.from_file(tmp_path / "mine.toml", ())[1].listing()
    source, entry = open_source("FAKE", given, None), GivenImages(given)
    assert source.ids == entry.images.ids == [each.path for each in listing.entries]
    assert {f"3/{name}" for name in ("a.jfif", "b.tga", "c", "d.txt")} < set(source.ids)
    assert source.ignored == ignored
    assert entry.noted == listing.noted == noted
    (given / "3" / "scan").write_bytes(bytes(128) + b"DICM" + bytes(40))
    said = set()
    for read in (
        lambda: open_source("FAKE", given, None),
        lambda: GivenImages(given).images,
        lambda: FolderTask.from_file(tmp_path / "mine.toml", ())[1].listing(),
    ):
        with pytest.raises(UserError, match="1 file in formats that are not read: 3/scan") as raised:
            read()
        said.add(str(raised.value).removeprefix(str(given)))
    assert len(said) == 1


@pytest.mark.parametrize("private", [False, True])
def test_what_is_ignored_is_kept_beside_the_images_and_without_names_if_the_task_is_private(
    private: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DigitsLT, "private", private)
    given = random_images(tmp_path / "png", 1)
    (given / "3" / "patient-7.txt").write_text("seen in May")
    before = datetime.now(UTC).replace(microsecond=0)
    made(tmp_path / "stage", given, 1)
    reason = "files ignored, not recognised as a picture"
    told = json.loads((tmp_path / "stage" / IMAGES_NOTED).read_text())
    assert before <= datetime.fromisoformat(told.pop("looked_at")) <= datetime.now(UTC)
    assert told == {
        "images": 10,
        "counts": {reason: 1},
        "names": {reason: [] if private else ["3/patient-7.txt"]},
    }


@pytest.mark.parametrize("by_file", [False, True])
def test_a_class_in_another_unicode_normal_form_is_told_with_the_way_to_write_it(
    by_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = [replace(info, name="caf\u00e9") if info.name == "3" else info for info in DigitsLT.classes(small().task)]
    monkeypatch.setattr(DigitsLT, "classes", lambda self: classes)
    given = random_images(tmp_path / "png", 1)
    decomposed = unicodedata.normalize("NFD", "caf\u00e9")
    (given / "3").rename(given / ("3" if by_file else decomposed))
    labels = tmp_path / "labels.csv" if by_file else None
    if labels:
        rows = (f"{path.relative_to(given)},{path.parent.name}" for path in sorted(given.glob("*/*.png")))
        labels.write_text("\n".join(["file,label", *rows]).replace(",3", f",{decomposed}"))
    with pytest.raises(UserError) as raised:
        made(tmp_path / "stage", given, 1, labels=labels)
    hint = r"'cafe\u0301' looks like 'caf\xe9' and differs in its Unicode normal form alone"
    assert hint in str(raised.value)
    assert r"Write it as 'caf\xe9'." in str(raised.value)
