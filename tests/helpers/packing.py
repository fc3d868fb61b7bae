"""Packs of a run that takes a few seconds, and packs that somebody has been at."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from grasp_bench.results.sharing.archive import write_archive
from grasp_bench.results.sharing.collect import submit
from grasp_bench.run import scoring as score
from helpers import runs


@contextmanager
def quick() -> Iterator[None]:
    """Score with few draws and resamples inside the block, and train classifiers as :func:`helpers.runs.quick` does."""
    with runs.quick(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "DRAWS", 2)
        patch.setattr(score, "RESAMPLES", (10, 10))
        yield


def run_folder(folder: Path) -> Path:
    """Of the only run below ``folder``."""
    (path,) = (folder / "results").rglob("record.json")
    return path.parent


def packed(folder: Path) -> Path:
    """A pack of a finished run, both in ``folder``."""
    runs.finish(folder, runs.small("lora"))
    submit([run_folder(folder)], folder / "pack.zip", folder / "work")
    return folder / "pack.zip"


def members(pack: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(pack) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def named(pack: Path, part: str) -> str:
    """The only member whose name has ``part`` in it."""
    (name,) = (name for name in members(pack) if part in name)
    return name


def forged(pack: Path, to: Path, changes: dict[str, bytes | None], rehash: bool = True) -> Path:
    """The pack with members changed, or left out; with ``rehash`` in a way that its manifest does not tell."""
    content = members(pack)
    manifest = json.loads(content.pop("manifest.json"))
    for name, data in changes.items():
        if data is None:
            del content[name]
        else:
            content[name] = data
            if rehash:
                manifest["members"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    write_archive(to, content | {"manifest.json": json.dumps(manifest).encode()})
    return to


def with_manifest(pack: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The pack with another manifest."""
    content = members(pack)
    manifest = json.loads(content["manifest.json"])
    change(manifest)
    write_archive(to, content | {"manifest.json": json.dumps(manifest).encode()})
    return to


def with_record(pack: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The pack with another record, which its manifest does not tell."""
    name = named(pack, "/record.json")
    record = json.loads(members(pack)[name])
    change(record)
    return forged(pack, to, {name: json.dumps(record).encode()})
