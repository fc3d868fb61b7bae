"""What a task's label files say, before any image is opened: problems are collected, and nothing is repaired."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from grasp_bench.errors import UserError
from grasp_bench.io import check_file

SHOWN = 5  # problems of a kind that a message lists
LABELS = ("", "LongTailCXR/", "labels/")
SIGNS: dict[str, tuple[str, ...]] = {
    "nih-cxr-lt": (
        *(f"{folder}nih-cxr-lt_single-label_*" for folder in LABELS),
        *("Data_Entry_2017*.csv*", "images_001"),
    ),
    "mimic-cxr-lt": (
        *(f"{folder}mimic-cxr-lt_single-label_*" for folder in LABELS),
        *("files/p1?", "2.0.0/files/p1?", "mimic-cxr-jpg"),
    ),
    "imagenet": ("ImageNet_LT_*.txt*", "ImageNet_LT/ImageNet_LT_*.txt*", "ILSVRC", "train/n[0-9]*", "val/n[0-9]*"),
    "cifar": ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-100-binary", "cifar-100-python"),
}
"""Files and folders, as glob patterns below the root, that give each kind of data away."""


@dataclass(frozen=True)
class Entry:
    """One image of one split."""

    id: str
    path: str
    """The image's path relative to the data's root, with forward slashes."""
    label: str
    """Name of its class."""
    split: str
    where: str
    """File and line that name it."""
    patient: str | None = None
    prompt: str | None = None
    """Its own prompt, where it is not its class's."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What else is kept of it: name of a column → value; of all images of a task or of none."""
    beside: tuple[str, ...] = ()
    """Its labels beside ``label``, of a task whose images may have several."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All of its labels, its class first."""
        return (self.label, *self.beside)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a download."""

    kind: str
    """What is wrong, in words that are the same for all such problems: "missing image"."""
    where: str
    """File, and line or field."""
    found: str
    """What is there, and what was expected."""


@dataclass(frozen=True)
class Listing:
    """The images of a task, and whatever is wrong with the files that list them."""

    entries: list[Entry]
    problems: list[Problem] = field(default_factory=list)
    noted: dict[str, list[str]] = field(default_factory=dict)
    """What is no problem and is told all the same, such as files that were ignored → their names."""


@contextmanager
def readable() -> Iterator[None]:
    """Turn an OSError inside the block into a :class:`UserError` that names the file or folder."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}). Make it readable and start again."
        ) from error


def consistency(entries: Sequence[Entry], counts: dict[str, dict[str, int]] | None = None) -> list[Problem]:
    """Ids listed twice in one split, patients of two splits, and numbers that are not the published ``counts``.

    ``counts`` is split → class → images. An image may be of two splits where the caller lists it so on purpose (a
    balanced test set inside the test set): patients are compared between training, validation and test alone.
    """
    problems: list[Problem] = []
    seen: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        if (first := seen.setdefault((entry.split, entry.id), entry)) is not entry:
            found = f"{entry.id!r} is listed before, in {first.where}"
            problems.append(Problem("duplicate id", entry.where, found))
    shared: dict[tuple[str | None, str], Problem] = {}
    for entry, first in in_two_splits(entries, [entry.patient for entry in entries]):
        found = f"the patient of {entry.id!r} in {entry.split} is in {first.split} too ({first.where})"
        shared.setdefault((entry.patient, entry.split), Problem("patient in two splits", entry.where, found))
    problems += shared.values()
    images = Counter((entry.split, label) for entry in entries for label in entry.labels)
    for split, classes in (counts or {}).items():
        for label, expected in classes.items():
            if (count := images[split, label]) != expected:
                found = f"{count} images of {label!r}, expected {expected}"
                problems.append(Problem("wrong count", f"split {split}", found))
    return problems


def in_two_splits(entries: Iterable[Entry], keys: Iterable[str | None]) -> Iterator[tuple[Entry, Entry]]:
    """Each entry of training, validation or test with the first of its key, where that is in another of the three."""
    home: dict[str, Entry] = {}
    for entry, key in zip(entries, keys, strict=True):
        if key is not None and entry.split in ("train", "validation", "test"):
            first = home.setdefault(key, entry)
            if first.split != entry.split:
                yield entry, first


FIX = "Fix the download and start again; nothing was left out or changed."


def describe(root: object, problems: Sequence[Problem], fix: str = FIX) -> str:
    """All problems of the data at ``root`` as one message: by kind, the first few of each with file and line.

    ``fix`` says what to do about them.
    """
    by_kind: dict[str, list[Problem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    lines = [f"{root}: {len(problems)} problem{'s' * (len(problems) > 1)}"]
    for kind, found in by_kind.items():
        lines.append(f"  {kind} ({len(found)}):")
        lines += [f"    {problem.where}: {problem.found}" for problem in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"    and {len(found) - SHOWN} more")
    return "\n".join([*lines, fix])


@dataclass(frozen=True)
class Row:
    """One line of a table: as many values as the header has names."""

    line: int
    values: list[str]


@dataclass(frozen=True)
class Table:
    """The well-formed rows of a CSV file, and whatever is wrong with the others."""

    path: Path
    header: list[str]
    rows: list[Row]
    problems: list[Problem]


def place(path: Path, line: int) -> str:
    """How messages name a line of a file."""
    return f"{path}, line {line}"


def leads_out(path: str) -> bool:
    """Whether a path written in a file is absolute or climbs out of the folder it is relative to."""
    relative = PurePosixPath(path)
    return relative.is_absolute() or ".." in relative.parts


def find_file(root: Path, folders: Sequence[str], name: str) -> Path | Problem:
    """The first of ``name`` and ``name``.gz in ``folders`` of ``root``, or the problem that it is in none of them."""
    for folder in folders:
        for candidate in (root / folder / name, root / folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    sought = ", ".join(str(root / folder) for folder in folders)
    return Problem("missing file", str(root / name), f"neither {name} nor {name}.gz is in any of {sought}")


def read_text(path: Path) -> str:
    """A file in UTF-8, with or without a byte order mark; one called ``.gz`` is decompressed.

    Line ends are left as they are. Raises :class:`UserError` when it cannot be read.
    """
    try:
        data = check_file(path).read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file.") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        kind = "gzipped text" if path.suffix == ".gz" else "text"
        raise UserError(f"{path}: cannot be read as {kind} in UTF-8 ({error}). Download it again.") from error


def read_table(path: Path, required: Sequence[str] = ()) -> Table:
    """A CSV file with a header, as :func:`read_text` reads it, with any line ends.

    Values are kept as they are written. Rows of the wrong width and rows with an empty value in a ``required`` column
    are left out and become problems, as do a ``required`` column that is missing (then no row is read) and a file
    without rows. A file that is not text or not CSV has one problem, and neither header nor rows.
    """
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
        lines = [Row(reader.line_num, values) for values in reader]
    except UserError as error:
        return Table(path, [], [], [Problem("unreadable file", str(path), str(error).removeprefix(f"{path}: "))])
    except csv.Error as error:
        found = f"cannot be read as CSV ({error}). Download it again."
        return Table(path, [], [], [Problem("unreadable file", place(path, reader.line_num), found)])
    if not lines:
        return Table(path, [], [], [Problem("no rows", str(path), "the file is empty")])
    header = lines[0].values
    problems = [
        Problem("repeated column", place(path, 1), f"{name!r} is there {header.count(name)} times")
        for name in sorted({name for name in header if header.count(name) > 1})
    ]
    for name in required:
        if name not in header:
            problems.append(Problem("missing column", place(path, 1), f"{name!r} is not among {', '.join(header)}"))
    if problems:
        return Table(path, header, [], problems)
    rows = []
    for row in lines[1:]:
        where, values = place(path, row.line), dict(zip(header, row.values, strict=False))
        if not row.values:
            problems.append(Problem("blank line", where, f"nothing, expected {len(header)} values"))
        elif len(row.values) != len(header):
            found = f"{len(row.values)} values, expected {len(header)}: {', '.join(header)}"
            problems.append(Problem("wrong width", where, found))
        elif missing := [repr(name) for name in required if not values[name]]:
            problems.append(Problem("empty value", where, f"nothing under {', '.join(missing)}"))
        else:
            rows.append(row)
    if len(lines) == 1:
        problems.append(Problem("no rows", str(path), "the file names its columns and then holds no line"))
    return Table(path, header, rows, problems)


def looks_like(root: Path) -> str | None:
    """The kind of data in ``root``, a key of :data:`SIGNS`; the first where there are several, None where none is."""
    return next((name for name in SIGNS if _has_sign(root, name)), None)


def mistaken(root: Path, expected: str) -> Problem | None:
    """What is wrong with ``root`` as a whole: not a folder, or other data and no sign of ``expected``."""
    if not root.is_dir():
        return Problem("missing folder", str(root), f"no folder, expected one with the data of {expected}")
    if _has_sign(root, expected):
        return None
    other = looks_like(root)
    return Problem("other data", str(root), f"this looks like {other}, not {expected}") if other else None


def _has_sign(root: Path, name: str) -> bool:
    return any(next(root.glob(pattern), None) is not None for pattern in SIGNS[name])
