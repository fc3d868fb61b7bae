"""ImageNet-LT (Liu et al. 2019, arXiv 1904.05160): its lists, and the ILSVRC 2012 images that they name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath

from grasp_bench.data.listing import (
    Entry,
    Listing,
    Problem,
    consistency,
    find_file,
    in_two_splits,
    leads_out,
    mistaken,
    place,
    read_text,
)
from grasp_bench.errors import UserError

LISTS = {"train": "ImageNet_LT_train.txt", "validation": "ImageNet_LT_val.txt", "test": "ImageNet_LT_test.txt"}
FOLDERS = ("", "ImageNet_LT")
IMAGES = ("", "ILSVRC/Data/CLS-LOC")
SPLIT_TOTALS = {"train": 115_846, "validation": 20_000, "test": 50_000}
HEAD_ABOVE, TAIL_BELOW = 100, 20  # training images, as published

LINE = re.compile(r"(?P<folder>train|val)/(?:(?P<wnid>n\d{8})/)?(?P<file>[^/\s]+\.JPEG) (?P<label>\d{1,4})")
EXPECTED = "train/n01440764/n01440764_762.JPEG 0"


@dataclass(frozen=True)
class _Line:
    where: str
    split: str
    folder: str
    wnid: str | None
    file: str
    label: int


def read_imagenet_lt(root: Path, totals: Mapping[str, int] | None = None) -> Listing:
    """Splits train, validation and test; a class is called by its wnid, since two of ImageNet's are named "crane".

    Lists (``.txt`` or ``.txt.gz``) are sought in ``root`` and ``root``/ImageNet_LT; the folders ``train`` and ``val``
    in ``root`` and ``root``/ILSVRC/Data/CLS-LOC. Validation images come from ``train``. Images of ``val`` lie in it or
    in a sub-folder for each wnid, and the list may name them either way. Labels number the wnids in sorted order; which
    wnid is a label's is decided by most of the lines that have it. Every problem is listed, and an image that has one
    of its own is left out; ``totals`` (:data:`SPLIT_TOTALS` for the official lists) are what splits must hold.
    """
    if problem := mistaken(root, "imagenet"):
        return Listing([], [problem])
    lines: list[_Line] = []
    problems: list[Problem] = []
    for split, name in LISTS.items():
        path = find_file(root, FOLDERS, name)
        for item in [path] if isinstance(path, Problem) else _read_list(path, split):
            if isinstance(item, Problem):
                problems.append(item)
            else:
                lines.append(item)
    wnids = _wnids(lines)
    bases = {
        folder: next((base for base in IMAGES if (root / base / folder).is_dir()), None)
        for folder in sorted({line.folder for line in lines})
    }
    for folder, base in bases.items():
        if base is None:
            sought = ", ".join(str(root / base / folder) for base in IMAGES)
            problems.append(Problem("missing folder", str(root), f"no folder of images: none of {sought}"))

    @cache  # each folder is listed once: that is quicker than asking for 185,846 files, above all over a network
    def names(folder: PurePosixPath) -> frozenset[str]:
        path = root / folder
        return frozenset(file.name for file in path.iterdir()) if path.is_dir() else frozenset()

    listed = []
    for line in lines:
        wnid, base = wnids.get(line.label), bases[line.folder]
        if wnid is None:
            found = f"no line of any list names a wnid for label {line.label}"
            problems.append(Problem("unknown label", line.where, found))
        elif line.wnid not in (None, wnid):
            found = f"label {line.label} for {line.file} of {line.wnid}, but the other lines with it are of {wnid}"
            problems.append(Problem("label contradicts folder", line.where, found))
        else:
            home = PurePosixPath(base or "", line.folder)
            places = (home / wnid, home) if base is not None else ()
            image = next((f"{place}/{line.file}" for place in places if line.file in names(place)), "")
            listed.append(Entry(line.file, image, wnid, line.split, line.where))
            if not image and base is not None:
                found = f"{line.file} is not in {line.folder}/{wnid} or {line.folder}"
                problems.append(Problem("missing image", line.where, found))
    for (before, first), (after, second) in pairwise(wnids.items()):
        if first >= second:
            found = f"{second}, after {first} for label {before}; expected sorted wnids"
            problems.append(Problem("labels out of order", f"label {after}", found))
    problems += consistency(listed)
    for entry, same in in_two_splits(listed, [entry.id for entry in listed]):
        found = f"{entry.id!r} of {entry.split} is in {same.split} too ({same.where})"
        problems.append(Problem("image in two splits", entry.where, found))
    sizes = Counter(entry.split for entry in listed)
    for split, expected in (totals or {}).items():
        if sizes[split] != expected:
            problems.append(Problem("wrong count", f"split {split}", f"{sizes[split]} images, expected {expected}"))
    return Listing([entry for entry in listed if entry.path], problems)


def read_class_names(path: Path) -> dict[str, str]:
    """wnid → its first synonym, from the ``LOC_synset_mapping.txt`` of the ILSVRC download.

    A line of it is "n01440764 tench, Tinca tinca". Raises :class:`UserError` with the line.
    """
    names: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        match = re.fullmatch(r"(n\d{8}) ([^,]*[^,\s])(?:,.*)?", line)
        if not match:
            raise UserError(f"{place(path, number)}: {line!r}, expected a line such as: n01440764 tench, Tinca tinca")
        if match[1] in names:
            raise UserError(f"{place(path, number)}: {match[1]} is named before. Keep one line for each.")
        names[match[1]] = match[2]
    return names


def _read_list(path: Path, split: str) -> list[_Line | Problem]:
    try:
        lines = read_text(path).splitlines()
    except UserError as error:
        return [Problem("unreadable file", str(path), str(error).removeprefix(f"{path}: "))]
    if not lines:
        return [Problem("no rows", str(path), "the list is empty")]
    found: list[_Line | Problem] = []
    for number, line in enumerate(lines, 1):
        where, match = place(path, number), LINE.fullmatch(line)
        if match:
            wnid, label = match["wnid"], int(match["label"])
            found.append(_Line(where, split, match["folder"], wnid, match["file"], label))
        else:
            kind = "path outside the data folder" if leads_out(line) else "bad line"
            found.append(Problem(kind, where, f"{line!r}, expected a line such as: {EXPECTED}"))
    return found


def _wnids(lines: Sequence[_Line]) -> dict[int, str]:
    """Label → the wnid that most of its lines name, so that one wrong line does not shift the others' labels."""
    votes = Counter((line.label, line.wnid) for line in lines if line.wnid)
    return dict(sorted({label: wnid for (label, wnid), _ in reversed(votes.most_common())}.items()))
