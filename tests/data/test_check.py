"""Every image that is missing, empty, damaged at its head or outside the root is named; all others pass."""

import builtins
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from grasp_bench.data.check import CHUNK, check_images, too_few_bytes
from grasp_bench.data.listing import Entry, Problem
from grasp_bench.errors import UserError


def save(path: Path, mode: str = "L", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (6, 5)).save(path, **options)
    return path


def check(root: Path, *paths: str, workers: int = 2) -> list[Problem]:
    entries = [Entry(path, path, "a", "train", f"list.csv, line {line}") for line, path in enumerate(paths, 2)]
    return check_images(root, entries, workers, lambda count: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save(tmp_path / "outside" / "a.png")
    save(tmp_path / "root" / "a" / "good.png")
    return tmp_path / "root"


def test_images_of_all_kinds_that_can_be_decoded_pass(root: Path) -> None:
    save(root / "rgba.png", "RGBA")
    save(root / "palette.gif", "P")
    save(root / "photo.jpg", "RGB")
    save(root / "no suffix", format="PNG")
    save(root / "name with spaces, ü & [].png")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(root / "sixteen.png")
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    assert len(names) == 7
    assert check(root, *names) == []


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("<html>404</html>")


def cut_header(path: Path) -> None:
    save(path)
    path.write_bytes(path.read_bytes()[:20])


def animation(path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (0, 99, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:], format="GIF")


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "kind", "found"),
    [
        (lambda path: None, "missing image", "a/bad.png is not in "),
        (empty, "zero bytes", "has zero bytes"),
        (text, "not an image", "is in no image format"),
        (cut_header, "not an image", ""),
        (animation, "several pictures", "holds 3 pictures, expected one"),
        (Path.mkdir, "not a file", "is a folder, expected an image"),
        (pipe, "not a file", "is a device or a pipe, expected an image"),
        (lambda path: path.symlink_to("nowhere.png"), "broken link", "links to nowhere.png, which cannot be followed"),
        (lambda path: path.symlink_to("bad.png"), "broken link", "links to bad.png, which cannot be followed"),
        (lambda path: path.symlink_to("../../outside/a.png"), "link leads out", "outside/a.png, outside "),
    ],
)
def test_what_is_wrong_with_an_image_is_named(
    root: Path, make: Callable[[Path], object], kind: str, found: str
) -> None:
    make(root / "a" / "bad.png")
    (problem,) = check(root, "a/good.png", "a/bad.png")
    assert (problem.kind, problem.where) == (kind, "list.csv, line 3")
    assert found in problem.found
    assert "a/bad.png" in problem.found


@pytest.mark.parametrize("path", ["../outside/a.png", "a/../../outside/a.png", "a/..", "{tmp}/outside/a.png"])
def test_paths_that_lead_out_are_refused_though_there_is_an_image(root: Path, path: str) -> None:
    (problem,) = check(root, path.format(tmp=root.parent))
    assert problem.kind == "path leads out"


@pytest.mark.parametrize(
    "path",
    ["", "a", "a/", ".", "a/good.png/b.png", "a/go\0od.png", "x" * 5000, "a\\..\\..\\a.png", "C:/a.png"],
)
def test_what_is_no_path_of_a_file_is_a_problem_like_any_other(root: Path, path: str) -> None:
    (problem,) = check(root, path)
    assert problem.kind in ("not a file", "missing image", "unreadable image")


def test_links_inside_the_root_are_followed_and_deeper_folders_that_link_out_are_not(root: Path) -> None:
    (root / "b").symlink_to("a")
    (root / "c.png").symlink_to("b/good.png")
    (root / "a" / "d").symlink_to("../../outside")
    (root / "round").symlink_to("round")
    found = check(root, "b/good.png", "c.png", "a/d/a.png", "round/a.png")
    assert [(problem.kind, problem.where) for problem in found] == [
        ("link leads out", "list.csv, line 4"),
        ("broken link", "list.csv, line 5"),
    ]


def test_a_folder_at_the_top_may_be_a_link_to_shared_data(root: Path) -> None:
    (root / "shared").symlink_to("../outside")
    assert check(root, "shared/a.png", "a/good.png") == []


def test_a_root_that_is_a_link_itself_is_no_link_out(root: Path) -> None:
    (root.parent / "data").symlink_to(root)
    (root / "b").symlink_to(root / "a")
    assert check(root.parent / "data", "a/good.png", "b/good.png") == []


def test_a_file_that_may_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, mode: str, **options: Any) -> Any:  # the superuser may read any file
        if path.endswith("good.png"):
            raise PermissionError(13, "Permission denied", path)
        return builtins.open(path, mode, **options)  # noqa: PTH123

    monkeypatch.setattr("grasp_bench.data.check.open", refuse, raising=False)
    save(root / "b.png")
    (problem,) = check(root, "b.png", "a/good.png")
    assert problem.kind == "unreadable image"
    assert problem.found == "a/good.png cannot be read (Permission denied)"


def test_problems_are_in_the_order_of_the_list_with_any_number_of_workers(root: Path) -> None:
    paths = [f"a/{number}.png" if number % 7 == 0 else "a/good.png" for number in range(3 * CHUNK + 5)]
    found = check(root, *paths, workers=1)
    assert [problem.where for problem in found] == [f"list.csv, line {n + 2}" for n in range(0, len(paths), 7)]
    assert check(root, *paths, workers=4) == found


def test_progress_adds_up(root: Path) -> None:
    entries = [Entry("x", "a/good.png", "a", "train", "list")] * (2 * CHUNK + 1)
    counts: list[int] = []
    check_images(root, entries, 2, counts.append)
    assert counts == [CHUNK, CHUNK, 1]


def test_a_disk_that_is_too_small_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return SimpleNamespace(free=2 * 2**30)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    too_few_bytes(tmp_path / "not" / "yet", 2 * 2**30)
    with pytest.raises(UserError, match=r"not/yet: 3\.5 GiB are needed and 2\.0 GiB are free"):
        too_few_bytes(tmp_path / "not" / "yet", 7 * 2**29)
    assert asked == [tmp_path, tmp_path]
