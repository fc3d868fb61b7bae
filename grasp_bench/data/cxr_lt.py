"""NIH-CXR-LT and MIMIC-CXR-LT, single-label version (Holste et al. 2022, arXiv 2208.13365): the official label files.

Both publish ``<name>_single-label_{train,balanced-val,test,balanced-test}.csv``: one row per image, its class one-hot.
All four are needed, although scores use the balanced test set: only the whole test set shows whether its patients were
trained on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from grasp_bench.data.listing import (
    Entry,
    Listing,
    Problem,
    consistency,
    find_file,
    leads_out,
    mistaken,
    place,
    read_table,
)
from grasp_bench.errors import did_you_mean

Counts = dict[str, dict[str, int]]
"""Split → class → images."""
Locate = Callable[[Mapping[str, str], str], str | Problem | None]
"""Row, and where it stands → path of its image relative to the root; None where the images' folder is missing."""

FILES = {"train": "train", "validation": "balanced-val", "test": "test", "balanced-test": "balanced-test"}
FOLDERS = ("", "LongTailCXR", "labels")
NIH_IMAGES = ("images", *(f"images_{part:03}/images" for part in range(1, 13)))
MIMIC_IMAGES = ("", "2.0.0", "mimic-cxr-jpg/2.0.0")
HEAD_ABOVE, TAIL_BELOW = 1000, 100  # training images, as published
VIEW = "view"  # the column that is kept of every image
NOT_STATED = "not stated"
NIH_FILES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
MIMIC_FILE = "mimic-cxr-2.0.0-metadata.csv"

PUBLISHED = {
    "No Finding": (45439, 13055, 53260),
    "Infiltration": (6941, 2251, 0),
    "Atelectasis": (3135, 868, 4539),
    "Effusion": (2875, 929, 0),
    "Nodule": (2036, 566, 0),
    "Mass": (1665, 403, 0),
    "Pneumothorax": (1485, 519, 1172),
    "Consolidation": (868, 366, 609),
    "Pleural_Thickening": (811, 257, 0),
    "Cardiomegaly": (800, 234, 5113),
    "Fibrosis": (519, 170, 0),
    "Edema": (435, 164, 2395),
    "Tortuous Aorta": (339, 107, 175),
    "Emphysema": (229, 86, 0),
    "Pneumonia": (213, 85, 2195),
    "Calcification of the Aorta": (121, 64, 207),
    "Pneumoperitoneum": (59, 44, 32),
    "Hernia": (49, 40, 0),
    "Subcutaneous Emphysema": (32, 38, 27),
    "Pneumomediastinum": (7, 33, 12),
    "Lung Opacity": (0, 0, 7927),
    "Pleural Effusion": (0, 0, 3832),
    "Support Devices": (0, 0, 3279),
    "Lung Lesion": (0, 0, 1036),
    "Fracture": (0, 0, 791),
    "Enlarged Cardiomediastinum": (0, 0, 638),
    "Pleural Other": (0, 0, 254),
}
"""Training and test images of NIH-CXR-LT, and training images of MIMIC-CXR-LT; 0 where it has no such class."""
NIH_TRAIN_COUNTS, NIH_TEST_COUNTS, MIMIC_TRAIN_COUNTS = (
    dict(sorted(((name, row[at]) for name, row in PUBLISHED.items() if row[at]), key=lambda each: -each[1]))
    for at in range(3)
)
"""Classes in the order of their indices: by falling number of training images."""
NIH_COUNTS: Counts = {
    "train": NIH_TRAIN_COUNTS,
    "validation": dict.fromkeys(NIH_TRAIN_COUNTS, 15),
    "test": NIH_TEST_COUNTS,
    "balanced-test": dict.fromkeys(NIH_TRAIN_COUNTS, 30),
}
MIMIC_COUNTS: Counts = {
    "train": MIMIC_TRAIN_COUNTS,
    "validation": dict.fromkeys(MIMIC_TRAIN_COUNTS, 15),
    "balanced-test": dict.fromkeys(MIMIC_TRAIN_COUNTS, 30),
}
SHARED_CLASSES = {
    name: "Pleural Effusion" if name == "Effusion" else name
    for name in NIH_TRAIN_COUNTS
    if name == "Effusion" or name in MIMIC_TRAIN_COUNTS
}
"""The 13 classes that both label: name in NIH-CXR-LT → name in MIMIC-CXR-LT."""


def phrase(label: str) -> str:
    """A class's name as words for a prompt: "Pleural_Thickening" → "pleural thickening"."""
    return label.replace("_", " ").lower()


def nih_images(root: Path) -> dict[str, str] | None:
    """Name of each image of ChestX-ray14 → its path relative to ``root``; None where there is no folder of images.

    One pass over the folders is much quicker than asking for each file, above all over a network.
    """
    folders = [folder for folder in NIH_IMAGES if (root / folder).is_dir()]
    index: dict[str, str] = {}
    for folder in folders:
        with os.scandir(root / folder) as files:
            for file in files:
                index.setdefault(file.name, f"{folder}/{file.name}")
    return index if folders else None


def read_nih(root: Path, counts: Counts | None = None) -> Listing:
    """NIH-CXR-LT: splits train, validation, test and balanced-test, the last a subset of test.

    Label files (``.csv`` or ``.csv.gz``) are sought in ``root``, ``root``/LongTailCXR and ``root``/labels, in this
    order; images in ``images`` and in ``images_001/images`` … ``images_012/images``. Every problem is listed, and an
    image that has one of its own is left out; ``counts`` (:data:`NIH_COUNTS` for the official files) are those that
    must be found.
    """
    if problem := mistaken(root, "nih-cxr-lt"):
        return Listing([], [problem])
    index = nih_images(root)

    def locate(row: Mapping[str, str], where: str) -> str | Problem | None:
        image, patient = row["id"], row["subject_id"]
        if not image.startswith(f"{patient}_"):
            return Problem("patient contradicts id", where, f"{image!r} of subject {patient!r}, expected {image[:8]!r}")
        if index is None:
            return None
        if image not in index:
            return Problem("missing image", where, f"{image!r} is not in {root / 'images'} or {root}/images_*/images")
        return index[image]

    return _read(
        root,
        "nih-cxr-lt",
        ("id", "subject_id"),
        tuple(NIH_TRAIN_COUNTS),
        locate,
        counts,
        NIH_IMAGES[:2] if index is None else (),
    )


def read_mimic(root: Path, counts: Counts | None = None) -> Listing:
    """MIMIC-CXR-LT: splits train, validation, test and balanced-test, the last a subset of test.

    Label files are sought as by :func:`read_nih`; their ``path`` (``files/p14/p14659758/s50109927/<dicom_id>.jpg``) is
    relative to ``root``, ``root``/2.0.0 or ``root``/mimic-cxr-jpg/2.0.0, the first with a folder ``files``. An entry's
    id is its ``dicom_id``. ``counts`` as in :func:`read_nih`, with :data:`MIMIC_COUNTS` for the official files.
    """
    if problem := mistaken(root, "mimic-cxr-lt"):
        return Listing([], [problem])
    base = next((folder for folder in MIMIC_IMAGES if (root / folder / "files").is_dir()), None)

    def locate(row: Mapping[str, str], where: str) -> str | Problem | None:
        path, end = row["path"], f"/p{row['subject_id']}/s{row['study_id']}/{row['dicom_id']}.jpg"
        if leads_out(path):
            return Problem("path outside the data folder", where, f"{path!r}, expected files/p14/…{end}")
        if not path.endswith(end):
            return Problem("path contradicts ids", where, f"{path!r}, expected it to end with {end}")
        if base is None:
            return None
        # a study's folder holds one or two images, and most studies are not listed: to ask for each is the least work
        if not (root / base / path).is_file():
            return Problem("missing image", where, f"{root / base / path} is not there")
        return str(PurePosixPath(base) / path)

    columns = ("dicom_id", "subject_id", "study_id", "path")
    sought = [str(PurePosixPath(folder) / "files") for folder in MIMIC_IMAGES] if base is None else ()
    return _read(root, "mimic-cxr-lt", columns, tuple(MIMIC_TRAIN_COUNTS), locate, counts, sought)


def _read(
    root: Path,
    name: str,
    columns: tuple[str, ...],
    classes: tuple[str, ...],
    locate: Locate,
    counts: Counts | None,
    missing: Sequence[str],
) -> Listing:
    """``columns`` start with the id's; they and ``classes`` are all that a file may have.

    Where no folder of images is found, ``missing`` are those that were sought: one problem in place of one per image.
    """
    listed: list[Entry] = []
    sought, known = ", ".join(str(root / folder) for folder in missing), (*columns, *classes)
    problems = [Problem("missing folder", str(root), f"no folder of images: none of {sought}")] if missing else []
    for split, suffix in FILES.items():
        path = find_file(root, FOLDERS, f"{name}_single-label_{suffix}.csv")
        if isinstance(path, Problem):
            problems.append(path)
            continue
        table = read_table(path, known)
        problems += table.problems
        for column in (column for column in table.header if column not in known):
            found = f"{column!r} is not a class of this data.{did_you_mean(column, known)}"
            problems.append(Problem("unknown column", place(path, 1), found))
        for row in table.rows:
            values, where = dict(zip(table.header, row.values, strict=True)), place(path, row.line)
            label, image = _label(values, classes, where), locate(values, where)
            problems += [each for each in (label, image) if isinstance(each, Problem)]
            if isinstance(label, str):
                found_at = image if isinstance(image, str) else ""
                listed.append(Entry(values[columns[0]], found_at, label, split, where, values["subject_id"]))
    problems += consistency(listed, counts)
    test = {entry.id: entry for entry in listed if entry.split == "test"}
    for entry in (entry for entry in listed if entry.split == "balanced-test" and test):
        if entry.id not in test:
            problems.append(Problem("not in test", entry.where, f"{entry.id!r} of balanced-test is not in test"))
        elif entry.label != (same := test[entry.id]).label:
            found = f"{entry.id!r} is {entry.label!r} here and {same.label!r} in {same.where}"
            problems.append(Problem("contradicting label", entry.where, found))
    # those without an image took part in the comparisons, so that it is told once that they are missing
    return Listing([entry for entry in listed if entry.path], problems)


def _label(row: Mapping[str, str], classes: tuple[str, ...], where: str) -> str | Problem:
    odd = {name: row[name] for name in classes if row[name] not in ("0", "1")}
    if odd:
        floats = all(re.fullmatch(r"[01]\.0*", value) for value in odd.values())
        name, value = next(iter(odd.items()))
        found = f"{name!r} is {value!r}, expected 0 or 1" + (" written as a whole number" if floats else "")
        return Problem("float label" if floats else "bad label", where, found)
    ones = [name for name in classes if row[name] == "1"]
    if not ones:
        return Problem("no class", where, "no class is 1, expected exactly one")
    if len(ones) > 1:
        return Problem("several classes", where, f"{', '.join(map(repr, ones))} are 1, expected exactly one")
    return ones[0]


def with_nih_views(listing: Listing, root: Path) -> Listing:
    """The listing with ``View Position`` (PA or AP) of NIH ChestX-ray14's own table, beside the images or labels."""
    return _with_views(listing, root, NIH_FILES, FOLDERS, "Image Index", "View Position")


def with_mimic_views(listing: Listing, root: Path) -> Listing:
    """The listing with ``ViewPosition`` (PA, AP, LATERAL, …) of MIMIC-CXR-JPG's own table."""
    return _with_views(listing, root, (MIMIC_FILE,), (*MIMIC_IMAGES, *FOLDERS[1:]), "dicom_id", "ViewPosition")


def _with_views(
    listing: Listing, root: Path, names: tuple[str, ...], folders: tuple[str, ...], key: str, column: str
) -> Listing:
    """What the table leaves empty is ``not stated``; an image that it does not name is a problem."""
    found = [find_file(root, folders, name) for name in names]
    path = next((each for each in found if isinstance(each, Path)), found[0])
    if isinstance(path, Problem):
        return replace(listing, problems=[*listing.problems, path])
    table = read_table(path, (key,))
    if column not in table.header:
        missing = Problem("missing column", str(path), f"{column!r} is not among {', '.join(table.header)}")
        return replace(listing, problems=[*listing.problems, *table.problems, missing])
    at = [table.header.index(name) for name in (key, column)]
    views = {row.values[at[0]]: row.values[at[1]] or NOT_STATED for row in table.rows}
    unknown = [
        Problem("no view", entry.where, f"{entry.id!r} is not in {path}")
        for entry in listing.entries
        if entry.id not in views
    ]
    entries = [
        replace(each, metadata={**each.metadata, VIEW: views.get(each.id, NOT_STATED)}) for each in listing.entries
    ]
    return Listing(entries, [*listing.problems, *table.problems, *unknown])
