"""The manifest of a download, which training reads instead of its label files: one checked, hashed row per image."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from grasp_bench.data import equal
from grasp_bench.data.check import Inspector
from grasp_bench.data.decode import UnreadableError, decode
from grasp_bench.data.listing import Entry, Problem, describe
from grasp_bench.errors import UserError
from grasp_bench.io import digest, file_digest, remove, write_bytes
from grasp_bench.text import printable

NAME = "manifest.parquet"
PART = "part-{}.parquet"
PART_ROWS = 2048  # images that an interrupted build may have to read again
FORMAT = "1"  # of the columns and what they mean

NAMES = pa.dictionary(pa.int32(), pa.string())  # kept once each, however many rows have it
FACTS = pa.schema(
    {"path": pa.string(), "width": pa.int32(), "height": pa.int32(), "bytes": pa.int64(), "sha256": pa.string()}
)
"""Columns that are read from the image file."""
BESIDE = "beside"
"""Column of the labels that an image has beside its class, as JSON, of a task whose images may have several."""
METADATA = "metadata:"
"""What names of those columns begin with."""

Fact = tuple[str, int, int, int, str]
"""Path, width, height, bytes, and sha256 (hex) of the file."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """The images of a task, one row per image of a split.

    A ``path`` is relative to the data's root, with forward slashes; a ``prompt`` is the image's own or its class's; a
    ``patient`` is None where it is not known.
    """

    table: Any
    """pyarrow's, with the columns of ``FACTS`` and those that :func:`build` takes from the task and its label files."""

    def __len__(self) -> int:
        return cast(int, self.table.num_rows)

    def split(self, name: str) -> np.ndarray:
        """Rows of a split, int64 (k,), in the order in which its images are listed. Raises KeyError for no split."""
        if name not in self.split_names:
            raise KeyError(f"no split {name!r} among {', '.join(self.split_names)}")
        return np.flatnonzero(self.column("split") == name)

    @cached_property
    def split_names(self) -> list[str]:
        """The splits, in the order of their first images."""
        return cast(list[str], self.table["split"].unique().to_pylist())

    @cached_property
    def metadata(self) -> dict[str, np.ndarray]:
        """What else the task keeps of the images: name → strings."""
        names = [name for name in self.table.column_names if name.startswith(METADATA)]
        return {name.removeprefix(METADATA): self.column(name) for name in names}

    @cached_property
    def beside(self) -> list[list[str]] | None:
        """The labels of each image beside its class; None where every image has one label."""
        if BESIDE not in self.table.column_names:
            return None
        return [json.loads(each) for each in self.column(BESIDE)]

    @property
    def about(self) -> dict[str, str]:
        """What the manifest says of itself: its format, its fingerprint, and what :func:`build` was told."""
        return {key.decode(): value.decode() for key, value in self.table.schema.metadata.items()}

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of every row's path and the bytes behind it, in order, wherever the root is."""
        return self.about["fingerprint"]

    def column(self, name: str) -> np.ndarray:
        """A column by its name, as a numpy array (n,)."""
        column = self.table[name]
        if column.type == NAMES:  # which pyarrow would turn into an array where an absent value is the last name
            column = column.cast(pa.string())
        return cast(np.ndarray, column.to_numpy())


def build(
    root: Path,
    entries: Sequence[Entry],
    groups: Mapping[str, str],
    prompts: Mapping[str, str],
    folder: Path,
    workers: int,
    advance: Callable[[int], None],
    about: Mapping[str, str] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Manifest:
    """Decode and hash every image at ``root`` once, and write the manifest into ``folder``.

    ``groups`` and ``prompts`` are by class; ``about`` (the task and its version) goes into the file's metadata.
    ``advance`` is called with the number of entries done since its last call. What an interrupted call has read is
    kept in ``folder`` and not read again, unless a file has another size or time of change by then.

    Raises one :class:`UserError` for all images that are missing, damaged or outside ``root``; for all that are in two
    of training, validation and test, unless these are only to be passed to ``tell``; and for a class without a group or
    prompt.
    """
    known_classes = groups.keys() & prompts.keys()
    unknown = [(entry, label) for entry in entries for label in entry.labels if label not in known_classes]
    _refuse(root, [Problem("unknown class", entry.where, f"{label!r} is not a class") for entry, label in unknown])
    facts = _read_images(root, entries, folder, workers, advance)
    row = {path: index for index, path in enumerate(facts["path"].to_pylist())}
    table = facts.take(pa.array([row[entry.path] for entry in entries], pa.int64()))
    shared = equal.shared(entries, table["sha256"].to_pylist())
    if tell is None:
        _refuse(root, shared)
    elif shared:
        tell(f"{len(shared)} images are in two splits, as published; the first: {shared[0].where}: {shared[0].found}")
    listed: dict[str, list[str | None]] = {
        **{name: [getattr(entry, name) for entry in entries] for name in ("id", "label", "patient", "split")},
        "group": [groups[entry.label] for entry in entries],
        "prompt": [prompts[entry.label] if entry.prompt is None else entry.prompt for entry in entries],
        "where": [printable(entry.where.removeprefix(f"{root}/")) for entry in entries],
        **({BESIDE: [json.dumps(entry.beside) for entry in entries]} if any(each.beside for each in entries) else {}),
        **{METADATA + name: [e.metadata[name] for e in entries] for name in (entries[0].metadata if entries else ())},
    }
    for name, values in listed.items():
        column = pa.array(values, pa.string())
        encoded = column if name in ("id", "where") else column.dictionary_encode()
        table = table.append_column(pa.field(name, encoded.type), encoded)
    fingerprint = digest([table["path"].to_pylist(), table["sha256"].to_pylist()])
    known = {"format": FORMAT, "fingerprint": fingerprint, **(about or {})}
    _write(folder / NAME, table.combine_chunks().replace_schema_metadata(known))
    for part in folder.glob(PART.format("*")):
        remove(part)
    return read(folder)


def read(folder: Path) -> Manifest:
    """The manifest that :func:`build` left in ``folder``. Raises :class:`UserError` when it is absent or damaged."""
    path = folder / NAME
    table = _read(path)
    found = (table.schema.metadata or {}).get(b"format", b"none").decode()
    if found != FORMAT:
        raise UserError(f"{path}: has format {found}, expected {FORMAT}. Delete its folder and prepare the data again.")
    return Manifest(table)


def _refuse(root: Path, problems: Sequence[Problem]) -> None:
    if problems:
        raise UserError(describe(root, problems))


def _read_images(
    root: Path, entries: Sequence[Entry], folder: Path, workers: int, advance: Callable[[int], None]
) -> Any:
    """The facts of every image, in the order of first mention; kept in parts as they are found."""
    images: dict[str, Entry] = {}
    for entry in entries:
        images.setdefault(entry.path, entry)
    advance(len(entries) - len(images))  # listed twice, as a balanced part of the test set is
    inspect, parts = Inspector(root), [FACTS.empty_table()]
    problems: list[Problem] = []
    once = list(images.values())
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(once), PART_ROWS):
            chunk = once[start : start + PART_ROWS]
            part = folder / PART.format(_state(root, chunk))
            if part.exists():
                advance(len(chunk))
                parts.append(_read(part))
                continue
            facts: list[Fact] = []
            for found in pool.map(lambda entry: inspect(entry) or _examine(root, entry), chunk):
                if isinstance(found, Problem):
                    problems.append(found)
                else:
                    facts.append(found)
                advance(1)
            if len(facts) == len(chunk):
                parts.append(pa.table(list(zip(*facts, strict=True)), schema=FACTS))
                _write(part, parts[-1])
    _refuse(root, problems)
    return pa.concat_tables(parts)


def _state(root: Path, entries: Sequence[Entry]) -> str:
    """Hash of the paths of images with what tells cheaply whether a file has changed: bytes and time of change."""

    def state(path: str) -> tuple[int, int] | None:
        try:
            found = (root / path).stat()
        except (OSError, ValueError):  # found and named when it is read
            return None
        return found.st_size, found.st_mtime_ns

    return digest([(entry.path, state(entry.path)) for entry in entries])


def _examine(root: Path, entry: Entry) -> Fact | Problem:
    path = root / entry.path
    try:
        _, height, width = decode(path).shape
        return entry.path, width, height, path.stat().st_size, file_digest(path)
    except UnreadableError as error:
        return Problem("unreadable image", entry.where, f"{entry.path} {error}")
    except OSError as error:
        return Problem("unreadable image", entry.where, f"{entry.path} cannot be read ({error.strerror})")


def _write(path: Path, table: Any) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(path, sink.getvalue().to_pybytes())


def _read(path: Path) -> Any:
    try:
        return pq.ParquetFile(path).read()
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file. Prepare the data with `grasp-bench prepare`.") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path}: cannot be read as Parquet ({error}). Delete it and prepare the data again."
        ) from error
