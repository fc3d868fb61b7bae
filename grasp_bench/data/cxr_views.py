"""From which side a chest X-ray was taken, as NIH and MIMIC say in files of their own beside the label files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from grasp_bench.data.cxr_lt import FOLDERS, MIMIC_IMAGES
from grasp_bench.data.listing import Listing, Problem
from grasp_bench.data.tables import find_file, read_table

COLUMN = "view"
"""What the column is called that is kept of every image."""
NOT_STATED = "not stated"
NIH_FILES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
MIMIC_FILE = "mimic-cxr-2.0.0-metadata.csv"


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
    path = next((each for each in found if isinstance(each, Path)), None)
    if path is None:
        return replace(
            listing, problems=[*listing.problems, *(each for each in found[:1] if isinstance(each, Problem))]
        )
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
        replace(each, metadata={**each.metadata, COLUMN: views.get(each.id, NOT_STATED)}) for each in listing.entries
    ]
    return Listing(entries, [*listing.problems, *table.problems, *unknown])
