"""View positions of chest X-rays, from the tables of NIH and MIMIC."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from helpers.datasets import make_mimic, make_nih, write_views

from grasp_bench.data.cxr_lt import MIMIC_FILE, NIH_FILES, read_mimic, read_nih, with_mimic_views, with_nih_views
from grasp_bench.data.listing import Entry, Listing, read_table

REAL = Path(__file__).parents[2] / "../shared/data/nih-cxr-lt"


def views(listing: Listing) -> Counter[str]:
    return Counter(entry.metadata["view"] for entry in listing.entries)


def test_every_image_of_nih_has_its_view(tmp_path: Path) -> None:
    root = make_nih(tmp_path / "nih")
    listing = read_nih(root)
    write_views(
        root / NIH_FILES[0], "Image Index", "View Position", [each.id for each in listing.entries], ["PA", "AP"]
    )
    found = with_nih_views(listing, root)
    assert not found.problems
    assert [each.id for each in found.entries] == [each.id for each in listing.entries]
    listed = {entry.id: entry.metadata["view"] for entry in found.entries}
    assert set(listed.values()) == {"PA", "AP"}
    assert listed == {row.values[0]: row.values[1] for row in read_table(root / NIH_FILES[0]).rows}


def test_a_view_that_mimic_leaves_empty_is_not_stated(tmp_path: Path) -> None:
    root = make_mimic(tmp_path / "mimic", base="2.0.0")
    listing = read_mimic(root)
    ids = [each.id for each in listing.entries]
    write_views(root / "2.0.0" / MIMIC_FILE, "dicom_id", "ViewPosition", ids, ["AP", "", "LATERAL"])
    found = with_mimic_views(listing, root)
    assert not found.problems
    assert set(views(found)) == {"AP", "not stated", "LATERAL"}


def test_a_table_that_is_missing_or_lacks_the_column_or_an_image_is_told(tmp_path: Path) -> None:
    root = make_nih(tmp_path / "nih")
    listing = read_nih(root)
    ids = [each.id for each in listing.entries]
    (problem,) = with_nih_views(listing, root).problems
    assert problem.kind == "missing file"
    assert NIH_FILES[0] in problem.where

    write_views(root / NIH_FILES[1], "Image Index", "View", ids, ["PA"])
    (problem,) = with_nih_views(listing, root).problems
    assert (problem.kind, problem.where) == ("missing column", str(root / NIH_FILES[1]))
    assert "'View Position' is not among Image Index, View" in problem.found

    write_views(root / NIH_FILES[0], "Image Index", "View Position", ids[1:], ["PA"])
    problems = with_nih_views(listing, root).problems
    assert {(each.kind, each.where) for each in problems} == {
        ("no view", entry.where) for entry in listing.entries if entry.id == ids[0]
    }


@pytest.mark.skipif(not REAL.exists(), reason="the real label files are not beside the checkout")
def test_the_real_table_names_every_image_of_the_test_set(tmp_path: Path) -> None:
    (table,) = REAL.glob("Data_Entry*.csv.gz")
    (tmp_path / NIH_FILES[0]).write_bytes(gzip.decompress(table.read_bytes()))
    (test,) = REAL.glob("*single-label_test.csv*")
    rows = read_table(test)
    place = rows.header.index("id")
    entries = [Entry(row.values[place], "x", "y", "test", "z") for row in rows.rows]
    found = with_nih_views(Listing(entries), tmp_path)
    assert not found.problems
    assert set(views(found)) == {"PA", "AP"}
