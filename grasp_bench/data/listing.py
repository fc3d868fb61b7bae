"""What a task's label files say, before any image is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from grasp_bench.errors import UserError

SHOWN = 5  # problems of a kind that a message lists


@dataclass(frozen=True)
class Entry:
    """One image of one split."""

    id: str
    path: str
    """Of the image, relative to the data's root, with forward slashes."""
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
    return [*_duplicates(entries), *_shared_patients(entries), *_wrong_counts(entries, counts or {})]


def _duplicates(entries: Iterable[Entry]) -> list[Problem]:
    seen: dict[tuple[str, str], Entry] = {}
    return [
        Problem("duplicate id", entry.where, f"{entry.id!r} is listed before, in {first.where}")
        for entry in entries
        if (first := seen.setdefault((entry.split, entry.id), entry)) is not entry
    ]


def in_two_splits(entries: Iterable[Entry], keys: Iterable[str | None]) -> Iterator[tuple[Entry, Entry]]:
    """Each entry of training, validation or test with the first of its key, where that is in another of the three."""
    home: dict[str, Entry] = {}
    for entry, key in zip(entries, keys, strict=True):
        if key is not None and entry.split in ("train", "validation", "test"):
            first = home.setdefault(key, entry)
            if first.split != entry.split:
                yield entry, first


def _shared_patients(entries: Sequence[Entry]) -> list[Problem]:
    problems: dict[tuple[str | None, str], Problem] = {}
    for entry, first in in_two_splits(entries, [entry.patient for entry in entries]):
        found = f"the patient of {entry.id!r} in {entry.split} is in {first.split} too ({first.where})"
        problems.setdefault((entry.patient, entry.split), Problem("patient in two splits", entry.where, found))
    return list(problems.values())


def _wrong_counts(entries: Iterable[Entry], counts: dict[str, dict[str, int]]) -> list[Problem]:
    found = Counter((entry.split, entry.label) for entry in entries)
    return [
        Problem("wrong count", f"split {split}", f"{found[split, label]} images of {label!r}, expected {expected}")
        for split, classes in counts.items()
        for label, expected in classes.items()
        if found[split, label] != expected
    ]


def describe(root: object, problems: Sequence[Problem]) -> str:
    """All problems of the data at ``root`` as one message: by kind, the first few of each with file and line."""
    by_kind: dict[str, list[Problem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    lines = [f"{root}: {len(problems)} problem{'s' * (len(problems) > 1)}"]
    for kind, found in by_kind.items():
        lines.append(f"  {kind} ({len(found)}):")
        lines += [f"    {problem.where}: {problem.found}" for problem in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"    and {len(found) - SHOWN} more")
    return "\n".join([*lines, "Fix the download and start again; nothing was left out or changed."])
