"""Pixels are the same from the cache and from the files, and a cache is whole or not there."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import runs
from helpers.datasets import write_image
from PIL import Image

from grasp_bench.data import cache, manifest
from grasp_bench.data.cache import Cache, PixelReader, build_cache
from grasp_bench.data.decode import decode, read_image, resize
from grasp_bench.data.listing import Entry
from grasp_bench.errors import UserError
from grasp_bench.locks import held
from grasp_bench.temporary import temporary_name

SHAPE = (3, 8, 8)
COUNT = 11
RADIOGRAPHS = Path(__file__).parents[2] / "../shared/data/nih-mini"
FORMATS = (("L", "png"), ("RGB", "jpg"), ("RGBA", "png"), ("P", "gif"), ("I;16", "png"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images of five kinds and many sizes."""
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        mode, suffix = FORMATS[number % len(FORMATS)]
        path = tmp_path / "root" / f"{number:02}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        shape = (5 + 3 * number, 30 - 2 * number)
        if mode == "I;16":
            Image.fromarray(rng.integers(0, 2**16, shape, dtype=np.uint16)).save(path)
        else:
            Image.fromarray(rng.integers(0, 256, (*shape, 4), dtype=np.uint8), "RGBA").convert(mode).save(path)
    return tmp_path / "root"


@pytest.fixture
def listed(root: Path, tmp_path: Path) -> manifest.Manifest:
    paths = sorted(path.name for path in root.iterdir())
    entries = [Entry(path, path, "a", "train", f"list.csv, line {n}") for n, path in enumerate(paths, 2)]
    return manifest.build(root, entries, {"a": "head"}, {"a": "an a"}, tmp_path / "prepared", 2, lambda count: None)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images a file."""
    monkeypatch.setattr(cache, "SHARD_BYTES", 3 * 3 * 8 * 8)


def quiet(count: int) -> None:
    pass


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (3, 20, 20)])
def test_pixels_from_the_cache_and_from_the_files_are_those_of_decode_and_resize(
    root: Path, listed: manifest.Manifest, tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    cached = build_cache(root, listed, shape, tmp_path / "cache", 2, quiet)
    rows = np.array([10, 0, 7, 7, 3])
    expected = np.stack([resize(decode(root / listed.column("path")[row]), shape) for row in rows])
    assert expected.shape == (5, *shape)
    np.testing.assert_array_equal(PixelReader(root, listed, shape, None).read(rows), expected)
    np.testing.assert_array_equal(PixelReader(root, listed, shape, cached).read(rows), expected)
    np.testing.assert_array_equal(Cache.open(tmp_path / "cache").read(np.arange(COUNT))[rows], expected)
    assert cached.read(rows[:0]).shape == (0, *shape)


@pytest.mark.usefixtures("small_shards")
def test_the_bytes_are_the_same_with_any_number_of_workers(
    root: Path, listed: manifest.Manifest, tmp_path: Path
) -> None:
    for workers in (1, 4):
        build_cache(root, listed, SHAPE, tmp_path / str(workers), workers, quiet)
    assert content(tmp_path / "1") == content(tmp_path / "4")
    assert len(content(tmp_path / "1")) == 1 + 4


@pytest.mark.skipif(not RADIOGRAPHS.is_dir(), reason="the real radiographs are not beside the repository")
def test_real_radiographs(tmp_path: Path) -> None:
    paths = [path.relative_to(RADIOGRAPHS).as_posix() for path in sorted((RADIOGRAPHS / "images").iterdir())[:200]]
    entries = [Entry(path, path, "a", "train", "list") for path in paths]
    found = manifest.build(RADIOGRAPHS, entries, {"a": "head"}, {"a": "an a"}, tmp_path / "prepared", 2, quiet)
    cached = build_cache(RADIOGRAPHS, found, (1, 64, 64), tmp_path / "cache", 2, quiet)
    rows = np.arange(len(paths))
    stored = cached.read(rows)
    np.testing.assert_array_equal(stored, PixelReader(RADIOGRAPHS, found, (1, 64, 64), None).read(rows))
    np.testing.assert_array_equal(stored, np.stack([decode(RADIOGRAPHS / path)[:1] for path in paths]))  # grey, 64 px


class KilledError(Exception):
    pass


def kill_after(count: int) -> Callable[[int], None]:
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if done >= count:
            raise KilledError

    return advance


@pytest.mark.usefixtures("small_shards")
def test_a_killed_build_goes_on_where_it_was(
    root: Path, listed: manifest.Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(KilledError):
        build_cache(root, listed, SHAPE, folder, 2, kill_after(8))
    assert not folder.exists()
    partial = tmp_path / "cache.partial"
    assert sorted(content(partial)) == ["cache.json", "pixels-00000.npy", "pixels-00001.npy"]
    half = temporary_name(partial / "pixels-00002.npy").name.replace(f"-{os.getpid()}.", "-99999999.")
    (partial / half).write_bytes(b"half of it")  # as a killed process leaves it
    monkeypatch.setattr("grasp_bench.temporary._swept", set())
    runs.flip_a_byte(partial / "pixels-00001.npy")

    resized = []
    monkeypatch.setattr(cache, "read_image", lambda *given: (resized.append(given[0].name), read_image(*given))[1])
    counts: list[int] = []
    build_cache(root, listed, SHAPE, folder, 2, counts.append)
    assert sorted(resized) == listed.column("path")[3:].tolist()
    assert counts == [3, 1, 1, 1, 1, 1, 1, 1, 1]
    assert not partial.exists()
    assert content(folder) == content(build_cache(root, listed, SHAPE, tmp_path / "whole", 1, quiet).folder)


@pytest.mark.usefixtures("small_shards")
def test_an_unfinished_cache_of_other_images_is_not_gone_on_with(
    root: Path, listed: manifest.Manifest, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        build_cache(root, listed, (1, 8, 8), tmp_path / "cache", 2, kill_after(8))
    cached = build_cache(root, listed, SHAPE, tmp_path / "cache", 2, quiet)
    np.testing.assert_array_equal(
        cached.read(np.arange(COUNT)), PixelReader(root, listed, SHAPE, None).read(np.arange(COUNT))
    )


def test_a_whole_cache_is_left_as_it_is(root: Path, listed: manifest.Manifest, tmp_path: Path) -> None:
    build_cache(root, listed, SHAPE, tmp_path / "cache", 2, quiet)
    shutil.rmtree(root)
    counts: list[int] = []
    build_cache(root, listed, SHAPE, tmp_path / "cache", 2, counts.append)
    assert counts == [COUNT]


def test_a_disk_that_is_too_small_is_told_before_anything_is_read(
    root: Path, listed: manifest.Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = COUNT * 3 * 8 * 8
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    monkeypatch.setattr(cache, "read_image", lambda *given: pytest.fail("an image was read"))
    with pytest.raises(UserError, match=r"cache\.partial: 0\.0 GiB are needed and .* free"):
        build_cache(root, listed, SHAPE, tmp_path / "cache", 2, quiet)
    monkeypatch.setattr(cache, "read_image", read_image)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed))
    build_cache(root, listed, SHAPE, tmp_path / "cache", 2, quiet)


@pytest.mark.usefixtures("small_shards")
def test_a_disk_that_fills_up_meanwhile_is_one_message_and_keeps_what_is_finished(
    root: Path, listed: manifest.Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = tmp_path / "cache.partial"

    def sync(descriptor: int) -> None:
        if any(partial.glob(".pixels-00001.*")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(UserError, match=r"pixels-00001\.npy: cannot be written \(No space left on device\)"):
        build_cache(root, listed, SHAPE, tmp_path / "cache", 2, quiet)
    assert sorted(content(partial)) == ["cache.json", "pixels-00000.npy"]


def vanish(path: Path) -> None:
    path.unlink()


def grow(path: Path) -> None:
    write_image(path, 50, np.random.default_rng(1))


@pytest.mark.parametrize(("change", "found"), [(vanish, "No such file"), (grow, r"has [\d,]+ bytes and had [\d,]+")])
def test_an_image_that_has_vanished_or_changed_is_named(
    root: Path, listed: manifest.Manifest, tmp_path: Path, change: Callable[[Path], None], found: str
) -> None:
    change(root / listed.column("path")[5])
    reader = PixelReader(root, listed, SHAPE, None)
    assert reader.read(np.array([4, 6])).shape == (2, *SHAPE)
    message = rf"root/05\.png \(list\.csv, line 7\) has changed since it was prepared: {found}.*grasp-bench prepare"
    with pytest.raises(UserError, match=message):
        reader.read(np.array([4, 5]))
    with pytest.raises(UserError, match=message):
        build_cache(root, listed, SHAPE, tmp_path / "cache", 2, quiet)


def test_images_are_found_where_the_root_has_been_moved_to(
    root: Path, listed: manifest.Manifest, tmp_path: Path
) -> None:
    before = PixelReader(root, listed, SHAPE, None).read(np.arange(COUNT))
    moved = root.rename(tmp_path / "moved")
    after = PixelReader(moved, manifest.read(tmp_path / "prepared"), SHAPE, None).read(np.arange(COUNT))
    np.testing.assert_array_equal(before, after)


def test_a_cache_of_another_shape_or_manifest_is_refused(root: Path, listed: manifest.Manifest, tmp_path: Path) -> None:
    cached = build_cache(root, listed, SHAPE, tmp_path / "cache", 2, quiet)
    with pytest.raises(UserError, match=r"of \(3, 8, 8\) where \(3, 16, 16\) are expected"):
        PixelReader(root, listed, (3, 16, 16), cached)
    entries = [
        Entry(path, path, "a", "train", "list.csv") for path in listed.column("path")[::-1]
    ]  # rows are numbered otherwise
    other = manifest.build(root, entries, {"a": "head"}, {"a": "an a"}, tmp_path / "other", 2, quiet)
    with pytest.raises(UserError, match="holds other images"):
        build_cache(root, other, SHAPE, tmp_path / "cache", 2, quiet)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rewrite(path: Path) -> None:
    np.save(path, np.zeros((2, 3, 8, 8), np.uint8))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [truncate, rewrite, vanish, pipe, lambda path: path.write_bytes(b"")])
@pytest.mark.usefixtures("small_shards")
def test_a_damaged_cache_is_refused(
    root: Path, listed: manifest.Manifest, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    build_cache(root, listed, SHAPE, tmp_path / "cache", 2, quiet)
    damage(tmp_path / "cache" / "pixels-00001.npy")
    with pytest.raises(UserError, match=r"cache: is damaged .* Delete it and run `grasp-bench prepare`"):
        Cache.open(tmp_path / "cache")


@pytest.mark.usefixtures("small_shards")
def test_no_bit_of_a_cache_turns_unnoticed(root: Path, listed: manifest.Manifest, tmp_path: Path) -> None:
    build_cache(root, listed, SHAPE, tmp_path / "cache", 2, quiet)
    path = tmp_path / "cache" / "pixels-00001.npy"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(whole.index(b"\n") + 1, len(whole), size=50):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(UserError, match=r"pixels-00001\.npy: is damaged: image \d is not the one that was written"):
            Cache.open(tmp_path / "cache").read(np.arange(COUNT))
    path.write_bytes((tmp_path / "cache" / "pixels-00000.npy").read_bytes())
    with pytest.raises(UserError, match="is damaged"):
        Cache.open(tmp_path / "cache").read(np.array([4]))


def test_a_cache_without_checksums_is_refused(root: Path, listed: manifest.Manifest, tmp_path: Path) -> None:
    build_cache(root, listed, SHAPE, tmp_path / "cache", 2, quiet)
    path = tmp_path / "cache" / "cache.json"
    path.write_text(path.read_text().replace('"format": 2,', ""))
    with pytest.raises(UserError, match=r"no checksums.*Delete it and run"):
        Cache.open(tmp_path / "cache")


def test_several_processes_fill_one_folder_in_turn(root: Path, listed: manifest.Manifest, tmp_path: Path) -> None:
    said: list[str] = []

    def fill(_: int) -> bytes:
        build_cache(root, listed, SHAPE, tmp_path / "cache", 1, quiet, say=said.append)
        return (tmp_path / "cache" / "pixels-00000.npy").read_bytes()

    with ThreadPoolExecutor(3) as pool, held(tmp_path / "cache.lock"):
        found = [pool.submit(fill, number) for number in range(3)]
        while len(said) < 3:
            time.sleep(0.01)
        assert not (tmp_path / "cache.partial").exists()
    assert len({each.result() for each in found}) == 1
