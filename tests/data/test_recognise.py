"""Folders are known by what they hold."""

from pathlib import Path

import pytest
from helpers.datasets import make_cifar, make_ilsvrc, make_mimic, make_nih

from grasp_bench.data.listing import SIGNS, looks_like, mistaken

MAKERS = {
    "nih-cxr-lt": make_nih,
    "mimic-cxr-lt": make_mimic,
    "imagenet": make_ilsvrc,
    "cifar": lambda root: make_cifar(root, 10),
}


@pytest.mark.parametrize("name", SIGNS)
def test_each_kind_of_data_is_told_from_the_others(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path)
    assert looks_like(tmp_path) == name
    assert mistaken(tmp_path, name) is None
    for other in set(SIGNS) - {name}:
        problem = mistaken(tmp_path, other)
        assert problem is not None
        assert (problem.kind, problem.found) == ("other data", f"this looks like {name}, not {other}")


def test_two_kinds_in_one_folder_are_each_at_home(tmp_path: Path) -> None:
    make_nih(tmp_path)
    make_mimic(tmp_path)
    assert mistaken(tmp_path, "nih-cxr-lt") is None
    assert mistaken(tmp_path, "mimic-cxr-lt") is None


def test_an_unknown_folder_is_no_mistake_and_no_folder_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert looks_like(tmp_path) is None
    assert mistaken(tmp_path, "cifar") is None
    problem = mistaken(tmp_path / "absent", "cifar")
    assert problem is not None
    assert problem.kind == "missing folder"
