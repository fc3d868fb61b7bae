"""Chest X-rays with all of their labels: ChestX-ray14 by its own patient split, and CXR-LT of 2023 and 2024."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from grasp_bench.data.cxr_lt import FOLDERS, MIMIC_IMAGES, NIH_FILES, NIH_IMAGES, nih_images
from grasp_bench.data.label_sets import label_counts
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
    read_text,
)
from grasp_bench.seeds import rng

NIH_LABELS = {
    "No Finding": (50500, 9861),
    "Infiltration": (13782, 6112),
    "Effusion": (8659, 4658),
    "Atelectasis": (8280, 3279),
    "Nodule": (4708, 1623),
    "Mass": (4034, 1748),
    "Pneumothorax": (2637, 2665),
    "Consolidation": (2852, 1815),
    "Pleural_Thickening": (2242, 1143),
    "Cardiomegaly": (1707, 1069),
    "Emphysema": (1423, 1093),
    "Edema": (1378, 925),
    "Fibrosis": (1251, 435),
    "Pneumonia": (876, 555),
    "Hernia": (141, 86),
}
"""Images of train_val_list and of test_list that have each label, as the literature gives them; their sums are those of
Data_Entry_2017_v2020.csv."""
NIH_LISTS = {"train": ("train_val_list.txt", 86_524), "test": ("test_list.txt", 25_596)}
"""Split → the official list of images, and how many it names."""

CXR_LT_LABELS = {
    "Support Devices": (89140, 86079),
    "Lung Opacity": (79931, 77482),
    "Cardiomegaly": (76900, 74738),
    "Pleural Effusion": (69240, 66401),
    "Atelectasis": (67597, 65376),
    "Pneumonia": (48093, 46660),
    "No Finding": (41869, 0),
    "Edema": (38574, 37256),
    "Normal": (0, 34292),
    "Enlarged Cardiomediastinum": (30119, 29628),
    "Consolidation": (16038, 15371),
    "Pneumothorax": (14983, 13858),
    "Fracture": (11883, 11568),
    "Infiltration": (10218, 10087),
    "Rib Fracture": (0, 8919),
    "Nodule": (7663, 7531),
    "Mass": (5529, 5288),
    "Calcification of the Aorta": (4361, 4239),
    "Emphysema": (4255, 3661),
    "Hernia": (4049, 3986),
    "Tortuous Aorta": (3499, 3336),
    "Adenopathy": (0, 3409),
    "Pleural Thickening": (3369, 3272),
    "Granuloma": (0, 2965),
    "Fissure": (0, 2803),
    "Lung Lesion": (2533, 2338),
    "Subcutaneous Emphysema": (2453, 2046),
    "Tuberculosis": (0, 2078),
    "Pulmonary Embolism": (0, 1631),
    "Fibrosis": (1158, 1169),
    "Pulmonary Hypertension": (0, 903),
    "Pneumomediastinum": (788, 704),
    "Kyphosis": (0, 778),
    "Infarction": (0, 727),
    "Pleural Other": (675, 616),
    "Hydropneumothorax": (0, 646),
    "Pneumoperitoneum": (543, 516),
    "Azygos Lobe": (0, 199),
    "Round(ed) Atelectasis": (0, 172),
    "Clavicle Fracture": (0, 168),
    "Lobar Atelectasis": (0, 129),
}
"""Training images of 2023 and of 2024 that have each label; 0 where an edition has no such label. Those of 2023 are in
the configuration published with Kim 2023 (CheXFusion, arXiv 2308.03968; github.com/dongkyunk/CheXFusion), those of 2024
in the code of a dissertation (github.com/UoS-HDS/cxr-lt-diss), each beside the number of all training images that
:data:`CXR_LT_FILES` has."""
CXR_LT = {
    edition: dict(
        sorted(((name, row[at]) for name, row in CXR_LT_LABELS.items() if row[at]), key=lambda each: -each[1])
    )
    for at, edition in enumerate(("2023", "2024"))
}
"""Edition → its labels, 26 and in 2024 the 40 of the challenge's first task → training images, by falling number."""
CXR_LT_FILES = {
    "2023": {"train": ("train.csv", 264_849), "validation": ("development.csv", 36_769), "test": ("test.csv", 75_492)},
    "2024": {
        "train": ("train_labeled.csv", 258_871),
        "validation": ("development_labeled_task1.csv", 39_293),
        "test": ("test_labeled_task1.csv", 78_946),
    },
}
"""Edition → split → its file, and how many images the publications give."""
PROJECTS = (
    *("", "cxr-lt-iccv-workshop-cvamd/2.0.0", "physionet.org/files/cxr-lt-iccv-workshop-cvamd/2.0.0"),
    "cxr-lt-multi-label-long-tailed-classification-on-chest-x-rays-2.0.0",
)
"""Where below the data's root the folder of an edition is sought."""
PHYSIONET = (*MIMIC_IMAGES, "physionet.org/files/mimic-cxr-jpg/2.0.0")


def read_chestxray14(root: Path, validation_share: float, seed: int, official: bool = True) -> Listing:
    """ChestX-ray14: test as its list has it, validation drawn by patients from the list for training.

    Label files are sought in ``root``, ``root``/LongTailCXR and ``root``/labels, images as
    :func:`~grasp_bench.data.cxr_lt.read_nih` does. Every problem is listed; ``official`` asks for the published numbers
    of images in each list and with each label.
    """
    if problem := mistaken(root, "nih-cxr-lt"):
        return Listing([], [problem])
    index, problems = nih_images(root), []
    if index is None:
        sought = ", ".join(str(root / folder) for folder in NIH_IMAGES[:2])
        problems.append(Problem("missing folder", str(root), f"no folder of images: none of {sought}"))
    found = [find_file(root, FOLDERS, name) for name in NIH_FILES]
    path = next((each for each in found if isinstance(each, Path)), found[0])
    if isinstance(path, Problem):
        return Listing([], [*problems, path])
    table = read_table(path, ("Image Index", "Finding Labels", "Patient ID"))
    splits, more = _nih_splits(root, official)
    problems += [*table.problems, *more]
    entries, seen = [], Counter[str]()
    for row in table.rows:
        values, where = dict(zip(table.header, row.values, strict=True)), place(path, row.line)
        image, patient = values["Image Index"], values["Patient ID"].zfill(8)
        labels = tuple(values["Finding Labels"].split("|"))
        seen.update(labels)
        if unknown := [name for name in labels if name not in NIH_LABELS]:
            problems.append(Problem("unknown label", where, f"{unknown[0]!r} is not a label of ChestX-ray14"))
        elif len(set(labels)) < len(labels):
            problems.append(Problem("repeated label", where, f"{values['Finding Labels']!r} has a label twice"))
        elif not image.startswith(f"{patient}_"):
            problems.append(Problem("patient contradicts id", where, f"{image!r} of patient {values['Patient ID']!r}"))
        elif image not in splits:
            problems.append(Problem("in no list", where, f"{image!r} is neither in train_val_list nor in test_list"))
        elif index is not None and image not in index:
            problems.append(Problem("missing image", where, f"{image!r} is not in images or images_*/images"))
        elif index is not None:
            split = splits[image]
            if split == "train" and rng("nih-lt-multi-validation", seed, patient).random() < validation_share:
                split = "validation"
            entries.append(Entry(image, index[image], labels[0], split, where, patient, beside=labels[1:]))
    if official and not table.problems:
        problems += [
            Problem("wrong count", str(path), f"{seen[name]} images of {name!r}, expected {sum(parts)}")
            for name, parts in NIH_LABELS.items()
            if seen[name] != sum(parts)
        ]
    return Listing(entries, [*problems, *consistency(entries), *_untrained(root, entries)])


def _nih_splits(root: Path, official: bool) -> tuple[dict[str, str], list[Problem]]:
    """Image → train or test, as the official lists have it."""
    splits: dict[str, str] = {}
    problems = []
    for split, (name, expected) in NIH_LISTS.items():
        path = find_file(root, FOLDERS, name)
        if isinstance(path, Problem):
            problems.append(path)
            continue
        listed = read_text(path).split()
        if official and len(listed) != expected:
            problems.append(Problem("wrong count", str(path), f"{len(listed)} images, expected {expected}"))
        for number, image in enumerate(listed, 1):
            if image in splits:
                problems.append(Problem("duplicate id", place(path, number), f"{image!r} is listed before"))
            splits[image] = split
    return splits, problems


def read_cxr_lt(root: Path, edition: str, official: bool = True) -> Listing:
    """CXR-LT of an edition, with images of MIMIC-CXR-JPG.

    Label files are sought in the folder cxr-lt-``edition``, in ``root`` or in a folder of :data:`PROJECTS`; their
    ``fpath`` (``files/p10/p10000032/s50414267/<dicom_id>.jpg``) is relative to ``root`` or to a folder of
    :data:`PHYSIONET`, the first with a folder ``files``. Columns that are no labels are passed over. Images that have
    none of the edition's labels, as one may that has a finding which it does not label, are left out and noted.
    ``official`` asks for the published numbers of images in each split, with those.
    """
    if problem := mistaken(root, "mimic-cxr-lt"):
        return Listing([], [problem])
    base = next((folder for folder in PHYSIONET if (root / folder / "files").is_dir()), None)
    problems, entries = [], []
    unlabelled: list[str] = []
    if base is None:
        sought = ", ".join(str(root / folder / "files") for folder in PHYSIONET)
        problems.append(Problem("missing folder", str(root), f"no folder of images: none of {sought}"))
    folders = [str(PurePosixPath(project) / f"cxr-lt-{edition}") for project in PROJECTS]
    names = tuple(CXR_LT[edition])
    for split, (name, expected) in CXR_LT_FILES[edition].items():
        path = find_file(root, folders, name)
        if isinstance(path, Problem):
            problems.append(path)
            continue
        table = read_table(path, ("dicom_id", "subject_id", "fpath", *names))
        problems += table.problems
        if official and len(table.rows) != expected and not table.problems:
            problems.append(Problem("wrong count", f"split {split}", f"{len(table.rows)} images, expected {expected}"))
        before = len(unlabelled)
        for row in table.rows:
            values, where = dict(zip(table.header, row.values, strict=True)), place(path, row.line)
            labels = _ones(values, names, where)
            if not labels:
                unlabelled.append(values["dicom_id"])
                continue
            image = "" if base is None else _image(root / base, values, where)
            problems += [each for each in (labels, image) if isinstance(each, Problem)]
            if isinstance(labels, tuple) and isinstance(image, str) and base is not None:
                at = str(PurePosixPath(base) / image)
                patient = values["subject_id"]
                entries.append(Entry(values["dicom_id"], at, labels[0], split, where, patient, beside=labels[1:]))
        if table.rows and len(unlabelled) - before == len(table.rows):
            problems.append(Problem("no label", str(path), "no label of any image is 1"))
    noted = {f"images left out, which have none of the {len(names)} labels": unlabelled} if unlabelled else {}
    return Listing(entries, [*problems, *consistency(entries), *_untrained(root, entries)], noted)


def _untrained(root: Path, entries: Sequence[Entry]) -> list[Problem]:
    """A problem for each label that images have, and no training image does."""
    absent = {label for entry in entries for label in entry.labels} - label_counts(entries).keys()
    return [
        Problem("no training image", str(root), f"{label!r} is a label of other splits alone")
        for label in sorted(absent)
    ]


def _ones(row: Mapping[str, str], names: Sequence[str], where: str) -> tuple[str, ...] | Problem:
    """The labels that are 1 in a row, which may be none."""
    if odd := [name for name in names if not re.fullmatch(r"[01](\.0*)?", row[name])]:
        return Problem("bad label", where, f"{odd[0]!r} is {row[odd[0]]!r}, expected 0 or 1")
    return tuple(name for name in names if row[name].startswith("1"))


def _image(base: Path, row: Mapping[str, str], where: str) -> str | Problem:
    """The path of a row's image relative to ``base``."""
    path, end = row["fpath"], f"/p{row['subject_id']}/"
    if leads_out(path):
        return Problem("path outside the data folder", where, f"{path!r}, expected files/p10{end}…")
    if end not in path or not path.endswith(f"/{row['dicom_id']}.jpg"):
        return Problem("path contradicts ids", where, f"{path!r}, expected files/p10{end}…/{row['dicom_id']}.jpg")
    if not (base / path).is_file():
        return Problem("missing image", where, f"{base / path} is not there")
    return path
